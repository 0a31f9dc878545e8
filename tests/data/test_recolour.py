# SPDX-License-Identifier: Apache-2.0
"""Composites made from photographs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import scenes as support
import torch
from scenes import Scenes

import vharm
from vharm import ops
from vharm.data import seeding
from vharm.data.luts import Lut
from vharm.data.recolour import (
    RANGES,
    Recoloured,
    colour_statistics,
    draw_arguments,
    random_colour,
    reverse_filters,
    transfer_colour,
)
from vharm.ops.filters import DEFAULT_FILTERS

torch.set_num_threads(1)


def table(size: int = 4) -> torch.Tensor:
    axis = torch.linspace(0, 1, size)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1) ** 0.7


LUTS = (Lut("gamma", table()),)


def pictures(count: int = 3, size: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    source = seeding.generator(11)
    image = torch.stack([support.smooth(source, size) for _ in range(count)])
    mask = torch.stack([support.disc(source, size, soft=0.01) for _ in range(count)]).round()
    return image, mask


def arguments(count: int = 3) -> torch.Tensor:
    source = seeding.generator(12)
    return torch.stack([draw_arguments(source) for _ in range(count)])


def test_arguments_fill_their_ranges() -> None:
    drawn = torch.stack([draw_arguments(seeding.generator(n)) for n in range(400)])
    width = torch.tensor([RANGES[name] for name in DEFAULT_FILTERS])
    assert (drawn.abs() <= width).all()
    assert (drawn.amax(0) > 0.95 * width).all()
    assert (drawn.amin(0) < -0.95 * width).all()


def test_stages_are_what_each_filter_undoes() -> None:
    """The target of stage i is the picture just before filter i was applied."""
    image, mask = pictures()
    given = arguments()
    composite, stages = reverse_filters(image, mask, given)
    assert stages.shape == (3, 6, 3, 20, 20)
    assert torch.equal(stages[:, -1], image)
    after = [composite, *stages[:, :-1].unbind(1)]
    whole = image
    for k in reversed(range(len(DEFAULT_FILTERS))):
        # The chain runs on the unmasked picture (eq. 8), and the mask chooses at each stage.
        whole = ops.filter_chain(
            whole, None, given[:, k : k + 1], filters=DEFAULT_FILTERS[k : k + 1]
        )
        expected = mask * whole + (1 - mask) * image
        torch.testing.assert_close(after[k], expected, rtol=0, atol=1e-6)
        # Each one changed something: a stage that is its neighbour's copy would pass too.
        assert (after[k] - stages[:, k]).abs().max() > 1e-3


def test_filters_see_the_picture_without_a_mask() -> None:
    """Means over the composite so far would be a different, plausible, chain."""
    image, mask = pictures()
    given = arguments()
    current = image
    for k in reversed(range(len(DEFAULT_FILTERS))):
        name = DEFAULT_FILTERS[k : k + 1]
        current = ops.filter_chain(current, mask, given[:, k : k + 1], filters=name)
    composite, _ = reverse_filters(image, mask, given)
    assert (composite - current).abs().max() > 0.01


def test_background_is_untouched_at_every_stage() -> None:
    image, mask = pictures()
    composite, stages = reverse_filters(image, mask, arguments())
    outside = (mask == 0).expand_as(image)
    assert torch.equal(composite[outside], image[outside])
    for stage in stages.unbind(1):
        assert torch.equal(stage[outside], image[outside])
    assert not torch.equal(composite[~outside], image[~outside])


def test_zero_arguments_change_nothing() -> None:
    image, mask = pictures()
    composite, stages = reverse_filters(image, mask, torch.zeros(3, 6))
    torch.testing.assert_close(composite, image, rtol=0, atol=2e-6)
    torch.testing.assert_close(stages, image[:, None].expand_as(stages), rtol=0, atol=2e-6)


def test_order_matters() -> None:
    image, mask = pictures()
    given = arguments()
    backwards, _ = reverse_filters(image, mask, given.flip(1), DEFAULT_FILTERS[::-1])
    assert not torch.allclose(backwards, reverse_filters(image, mask, given)[0], atol=1e-3)


def test_frames_of_one_clip_share_their_means() -> None:
    """The same foreground before another background changes in the same way."""
    image, mask = pictures(2)
    image[1] = torch.where(mask[0] > 0, image[0], 1 - image[0])
    mask[1] = mask[0]
    given = torch.tensor([[0.25, 0.4]]).expand(2, -1)
    chain = ("temperature", "contrast")
    together, _ = reverse_filters(image, mask, given, chain, one_clip=True)
    apart, _ = reverse_filters(image, mask, given, chain)
    inside = mask[0].bool().expand_as(image[0])
    assert torch.equal(together[0][inside], together[1][inside])
    assert not torch.allclose(apart[0][inside], apart[1][inside], atol=1e-3)


def test_transfer_reaches_the_goal_where_gains_allow() -> None:
    # Greys in the middle: no colour leaves the gamut, and nothing is clipped.
    image = 0.45 + 0.1 * pictures()[0][:1]
    mask = pictures()[1][:1]
    own = colour_statistics(image[0], mask[0])
    assert own is not None
    goal = type(own)(own.mean + torch.tensor([4.0, 2.0, -3.0]), own.deviation * 1.5)
    found = colour_statistics(transfer_colour(image, mask, goal)[0], mask[0])
    assert found is not None
    torch.testing.assert_close(found.mean, goal.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(found.deviation, goal.deviation, rtol=0.01, atol=0.02)


def test_transfer_gains_are_limited() -> None:
    image = 0.45 + 0.02 * pictures()[0][:1]
    mask = pictures()[1][:1]
    own = colour_statistics(image[0], mask[0])
    assert own is not None
    for factor, expected in ((10.0, 2.0), (0.1, 0.5)):
        goal = type(own)(own.mean, own.deviation * factor)
        found = colour_statistics(transfer_colour(image, mask, goal)[0], mask[0])
        assert found is not None
        torch.testing.assert_close(found.deviation, own.deviation * expected, rtol=0.02, atol=0.01)


def test_small_regions_have_no_statistics() -> None:
    image, mask = pictures(1)
    few = torch.zeros_like(mask[0])
    few[0, 0, :15] = 1
    assert colour_statistics(image[0], few) is None
    goal = colour_statistics(image[0], mask[0])
    assert goal is not None
    assert torch.equal(transfer_colour(image, few[None], goal), image)


def test_random_colour_keeps_the_shape_and_clips_do_not_flicker() -> None:
    clip = Scenes(1, frames=3)[0]
    still = clip.frames[:1].expand(3, -1, -1, -1).contiguous()
    found = random_colour(still, clip.masks, seeding.generator(3))
    assert found.shape == still.shape
    assert found.dtype == torch.uint8
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found, still)
    one = random_colour(still[0], clip.masks[0], seeding.generator(3))
    assert torch.equal(one, found[0])


def made(seed: int = 0, frames: int = 1) -> Recoloured:
    return Recoloured(
        Scenes(6, frames=frames), ("filters", "lut", "transfer"), luts=LUTS, seed=seed
    )


def digest(seed: int) -> str:
    parts = b"".join(sample.composite.numpy().tobytes() for sample in made(seed))
    return hashlib.sha256(parts).hexdigest()


def test_the_same_in_another_process_and_order() -> None:
    paths = (
        Path(vharm.__file__).parent.parent,
        Path(support.__file__).parent,
        Path(__file__).parent,
    )
    found = subprocess.run(
        [sys.executable, "-c", "import test_recolour; print(test_recolour.digest(4))"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == digest(4)
    data = made(4)
    backwards = [data[i].composite for i in reversed(range(6))][::-1]
    assert all(torch.equal(a, b.composite) for a, b in zip(backwards, data, strict=True))


def test_other_seeds_other_composites() -> None:
    first, second = made(0), made(1)
    pairs = zip(first, second, strict=True)
    different = [not torch.equal(one.composite, other.composite) for one, other in pairs]
    # There is only one table to draw.
    assert different == [True, False, True, True, False, True]


@pytest.mark.parametrize("frames", [1, 3])
def test_target_is_the_scene_and_so_is_the_background(frames: int) -> None:
    data = made(frames=frames)
    for i, sample in enumerate(data):
        scene = data.scenes[i]
        assert torch.equal(sample.target, scene.frames)
        assert torch.equal(sample.masks, scene.masks)
        assert (sample.name, sample.subset) == (scene.name, "part")
        outside = (scene.masks == 0).expand_as(scene.frames)
        assert torch.equal(sample.composite[outside], scene.frames[outside])
        assert not torch.equal(sample.composite, scene.frames)
        assert sample.composite.dtype == torch.uint8


def test_kinds_take_turns_and_only_filters_tell_arguments() -> None:
    samples = list(made())
    assert [sample.arguments is not None for sample in samples] == [True, False, False] * 2
    assert samples[0].filters == DEFAULT_FILTERS
    assert samples[1].filters == ()
    mask = samples[0].masks.float() / 255
    again, _ = reverse_filters(samples[0].target.float() / 255, mask, samples[0].arguments[None])
    assert (again * 255 - samples[0].composite.float()).abs().max() <= 0.51


def test_as_a_set() -> None:
    data = made()
    assert len(data) == 6
    assert data.names == tuple(f"scene {i}" for i in range(6))
    assert torch.equal(data[-1].composite, data[5].composite)
    with pytest.raises(IndexError):
        data[6]
    assert "filters, lut, transfer with 1 tables, seed 0" in data.description
    assert Recoloured(Scenes(), luts=None).luts == ()


def test_errors() -> None:
    with pytest.raises(TypeError, match="kinds: expected a sequence of names, got the string"):
        Recoloured(Scenes(), "filters")
    with pytest.raises(ValueError, match="kinds: expected names out of .*, got 'lutt'"):
        Recoloured(Scenes(), ("filters", "lutt"))
    with pytest.raises(ValueError, match="kinds: .* got none"):
        Recoloured(Scenes(), ())
    with pytest.raises(ValueError, match="luts: expected at least one table"):
        Recoloured(Scenes(), ("lut",))


def test_repeats_take_other_tables() -> None:
    gammas = tuple(Lut(str(power), table() ** power) for power in (0.5, 1.5, 2.0))
    data = Recoloured(Scenes(4), ("lut",), luts=gammas, repeats=3)
    single = Recoloured(Scenes(4), ("lut",), luts=gammas)
    assert len(data) == 3 * len(single) == len(data.names)
    first = [data[k] for k in range(3)]
    assert [s.name for s in first] == [f"{single[0].name}#{k}" for k in (1, 2, 3)]
    assert all(torch.equal(s.target, single[0].target) for s in first)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(first[one].composite, first[other].composite)
    assert data[3].name.startswith(single[1].name)
    with pytest.raises(ValueError, match="repeats: expected a whole number from 1, got 0"):
        Recoloured(Scenes(), repeats=0)

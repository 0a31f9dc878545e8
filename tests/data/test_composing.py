# SPDX-License-Identifier: Apache-2.0
"""Batches of composites."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scenes import Samples, Scenes

from vharm.data import seeding
from vharm.data.composing import Batch, Composer
from vharm.data.recolour import draw_arguments, reverse_filters

torch.set_num_threads(1)

KEYS = [(0, 3), (0, 1), (2, 5), (1, 1), (4, 0)]


def tables() -> torch.Tensor:
    axis = torch.linspace(0, 1, 5)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return torch.stack((grid**0.6, grid.flip(-1)))


def batch(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    scenes = [Scenes(count)[i] for i in range(count)]
    return torch.cat([s.frames for s in scenes]), torch.cat([s.masks for s in scenes])


def compose(shares: tuple[float, ...], keys: Any = None, **options: Any) -> Batch:
    frames, masks = batch()
    return Composer(shares, tables(), **options)(frames, masks, KEYS if keys is None else keys)


FIELDS = ("composite", "mask", "target", "stages", "synthetic")


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (1, 1, 0)])
def test_neighbours_do_not_matter(shares: tuple[float, ...]) -> None:
    frames, masks = batch()
    composer = Composer(shares, tables(), grade=0.5)
    whole = composer(frames, masks, KEYS)
    for i, key in enumerate(KEYS):
        alone = composer(frames[i : i + 1], masks[i : i + 1], [key])
        for field in FIELDS:
            torch.testing.assert_close(
                getattr(alone, field)[0], getattr(whole, field)[i], rtol=0, atol=1e-6, msg=field
            )
    turned = composer(frames.flip(0), masks.flip(0), KEYS[::-1])
    torch.testing.assert_close(turned.composite.flip(0), whole.composite, rtol=0, atol=1e-6)


def test_a_transfer_looks_at_a_neighbour() -> None:
    frames, masks = batch()
    composer = Composer((0, 0, 1), jitter=0, grade=0)
    whole = composer(frames, masks, KEYS).composite
    other = composer(1 - frames, masks, KEYS).composite
    assert not torch.equal(whole[0], other[0])
    # Alone there is nobody else.
    alone = composer(frames[:1], masks[:1], KEYS[:1])
    torch.testing.assert_close(alone.composite, alone.target, rtol=0, atol=2e-3)


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_background_is_the_target_s(shares: tuple[float, ...]) -> None:
    made = compose(shares, grade=0)
    outside = (made.mask == 0).expand_as(made.target)
    assert torch.equal(made.composite[outside], made.target[outside])
    changed = (made.composite - made.target).abs().amax((1, 2, 3))
    assert (changed > 0.01).all()
    assert made.stages.shape == (5, 6, 3, 24, 24)
    torch.testing.assert_close(made.stages[:, -1], made.target)
    assert made.synthetic.tolist() == [shares[0] == 1] * 5


def test_composites_by_filters_are_those_of_their_key() -> None:
    frames, masks = batch()
    made = compose((1, 0, 0), jitter=0, seed=9)
    for i, key in enumerate(KEYS):
        source = seeding.generator(9, *key)
        torch.rand((), generator=source)  # the kind
        draw_arguments(source, ("brightness", "contrast", "saturation"))  # of the jitter
        given = draw_arguments(source)[None]
        image, mask = frames[i : i + 1].float() / 255, masks[i : i + 1].float() / 255
        composite, stages = reverse_filters(image, mask, given)
        torch.testing.assert_close(made.composite[i], composite[0])
        torch.testing.assert_close(made.stages[i], stages[0])
        assert torch.equal(made.target[i], image[0])


def test_other_kinds_have_the_target_as_every_stage() -> None:
    made = compose((0, 1, 1), grade=0.5)
    assert not made.synthetic.any()
    assert torch.equal(made.stages, made.target[:, None].expand_as(made.stages))


def test_shares() -> None:
    composer = Composer((2, 1, 1), tables())
    drawn = [composer._kind(seeding.generator(n)) for n in range(800)]
    assert drawn.count("filters") / 800 == pytest.approx(0.5, abs=0.06)
    assert drawn.count("lut") / 800 == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize(("shares", "never"), [((0, 1, 1), "filters"), ((1, 0.7, 0), "transfer")])
@pytest.mark.parametrize("drawn", [0.0, 1 - 2**-24])
def test_a_share_of_zero_is_never_drawn(
    shares: tuple[float, ...], never: str, drawn: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    composer = Composer(shares, tables())
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor(drawn))
    assert composer._kind(torch.Generator()) != never


def test_jitter_turns_the_whole_photograph() -> None:
    frames, _ = batch()
    made = compose((1, 0, 0), jitter=0.5)
    assert not torch.allclose(made.target, frames.float() / 255, atol=1e-2)
    assert torch.equal(compose((1, 0, 0), jitter=0).target, frames.float() / 255)


def test_a_graded_scene_keeps_the_foreground() -> None:
    """The answer is graded as a whole; the composite's foreground is not yet."""
    frames, _ = batch()
    made = compose((0, 1, 0), jitter=0, grade=1)
    natural = frames.float() / 255
    inside = (made.mask == 1).expand_as(natural)
    outside = (made.mask == 0).expand_as(natural)
    torch.testing.assert_close(made.composite[inside], natural[inside], rtol=0, atol=1e-6)
    torch.testing.assert_close(made.composite[outside], made.target[outside], rtol=0, atol=1e-6)
    assert (made.target - natural).abs().amax((1, 2, 3)).min() > 0.01
    none = compose((0, 1, 0), jitter=0, grade=0)
    assert torch.equal(none.target, natural)


def test_given_composites_are_taken_as_they_are() -> None:
    samples = [Samples(5)[i] for i in range(5)]
    frames = torch.cat([s.target for s in samples])
    masks = torch.cat([s.masks for s in samples])
    composites = torch.cat([s.composite for s in samples])
    given = (True, False, True, False, False)
    composer = Composer((1, 0, 0), jitter=0.5)
    made = composer(frames, masks, KEYS, composites, given)
    bare = composer(frames, masks, KEYS)
    assert made.synthetic.tolist() == [not one for one in given]
    for i, own in enumerate(given):
        if own:
            assert torch.equal(made.composite[i], composites[i].float() / 255)
            assert torch.equal(made.target[i], frames[i].float() / 255)
            assert torch.equal(made.stages[i], made.target[i].expand(6, -1, -1, -1))
        else:
            for field in FIELDS:
                assert torch.equal(getattr(made, field)[i], getattr(bare, field)[i])


def test_errors() -> None:
    with pytest.raises(ValueError, match="shares: expected 3 numbers"):
        Composer((1, 1), tables())
    with pytest.raises(ValueError, match="shares: .* not all 0"):
        Composer((0, 0, 0), tables())
    with pytest.raises(ValueError, match="shares: "):
        Composer((1, -1, 1), tables())
    with pytest.raises(ValueError, match="tables: expected look-up tables"):
        Composer((1, 1, 0))


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_mild_composites_lie_between_the_answer_and_the_full_change(
    shares: tuple[float, ...],
) -> None:
    full = compose(shares, jitter=0, grade=0)
    mild = compose(shares, jitter=0, grade=0, mild=1)
    assert torch.equal(mild.target, full.target)
    far, near = ((made.composite - made.target).square().sum((1, 2, 3)) for made in (full, mild))
    assert near.sum() < 0.8 * far.sum()
    assert near.min() > 0


def test_a_trainings_half_precision_leaves_colours_exact() -> None:
    shares = (1, 1, 1)
    exact = compose(shares, mild=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = compose(shares, mild=0.5)
    assert torch.equal(inside.composite, exact.composite)

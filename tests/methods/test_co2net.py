# SPDX-License-Identifier: Apache-2.0
"""Colour mapping over neighbouring frames, and the networks as methods."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vharm import methods
from vharm.methods import Method, shipped
from vharm.methods.pixel import PixelMethod
from vharm.models import Chen, Issam, WeightsError, save_weights
from vharm.models.color_mapping import Refinement, WindowTable, frame_sums

torch.set_num_threads(1)


class Flicker(PixelMethod):
    """A base that adds a constant of its own to each frame; reads it from the first pixel."""

    name = summary = when_to_use = source = "flicker"

    def working_size(self, height, width):
        return 16, 16

    def render(self, frames, masks):
        return frames + 0.2 * frames[:, :1, :1, :1]


def scene(count=6, size=16):
    """One colour range for all frames: each knows what the others look like."""
    generator = torch.Generator().manual_seed(0)
    frames = 0.3 + 0.3 * torch.rand(1, 3, size, size, generator=generator).repeat(count, 1, 1, 1)
    frames[:, :, 0, 0] = torch.rand(count, 1, generator=generator)
    masks = torch.zeros(count, 1, size, size)
    masks[..., 4:12, 4:12] = 1
    return frames, masks


def applied(looks, frames):
    return torch.cat([look.apply(f) for look, f in zip(looks, frames.split(1), strict=True)])


def change(looks, frames):
    """Mean change inside the mask, one number a frame."""
    return (applied(looks, frames) - frames)[..., 4:12, 4:12].mean((1, 2, 3))


def test_a_frame_takes_the_mean_change_of_its_neighbours():
    frames, masks = scene()
    own = 0.2 * frames[:, 0, 0, 0]
    method = methods.get("co2net", base=Flicker(), neighbours=2)
    found = change(method.estimate(frames, masks), frames)
    # The window of 2 and 2; a side that is short counts its last frame twice, one that is not
    # there counts nothing; the frame itself is never in it.
    windows = [[1, 2], [0, 0, 2, 3], [0, 1, 3, 4], [1, 2, 4, 5], [2, 3, 5, 5], [3, 4]]
    expected = torch.stack([own[window].mean() for window in windows])
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert (found - own).abs().max() > 0.02


def test_a_clip_of_one_frame_is_the_base_s_own():
    frames, masks = scene(1)
    found = change(methods.get("co2net", base=Flicker()).estimate(frames, masks), frames)
    torch.testing.assert_close(found, 0.2 * frames[:, 0, 0, 0], atol=2e-3, rtol=0)


def test_unknown_colours_keep_the_base_s_output():
    frames, masks = scene(3)
    frames[1, :, 4:12, 4:12] += 0.35  # colours that no other frame has
    looks = methods.get("co2net", base=Flicker()).estimate(frames, masks)
    found = change(looks, frames)
    own = 0.2 * frames[:, 0, 0, 0]
    assert found[1] == pytest.approx(float(own[1]), abs=4e-3)
    assert found[0] == pytest.approx(float(own[2]), abs=4e-3)


@pytest.mark.parametrize("sizes", [[6], [1] * 6, [2, 3, 1]])
def test_batches_do_not_matter(sizes):
    frames, masks = scene()
    method = methods.get("co2net", base=Flicker(), neighbours=2)
    expected = method.estimate(frames, masks)
    shot, looks, at = method.shot(), [], 0
    for size in sizes:
        looks += shot.push(frames[at : at + size], masks[at : at + size])
        at += size
    looks += shot.finish()
    for a, b in zip(looks, expected, strict=True):
        assert torch.equal(a.grid, b.grid)


def test_each_frame_is_splatted_once(monkeypatch):
    from vharm.models import color_mapping

    counts = []
    splat = color_mapping.splat_lut
    monkeypatch.setattr(
        color_mapping, "splat_lut", lambda *a, **k: counts.append(len(a[0])) or splat(*a, **k)
    )
    frames, masks = scene()
    methods.get("co2net", base=Flicker()).estimate(frames, masks)
    assert sum(counts) == 6


def test_the_running_table_is_that_of_its_window():
    generator = torch.Generator().manual_seed(1)
    composite, output = torch.rand(2, 5, 3, 8, 8, generator=generator)
    mask = (torch.rand(5, 1, 8, 8, generator=generator) > 0.3).float()
    sums = frame_sums(composite, output, mask)
    assert sums.dtype == torch.int64
    running = WindowTable()
    for window in ({0: 1, 1: 2}, {1: 1, 2: 1}, {2: 3, 3: 1, 4: 1}, {4: 1}):
        frames = {number: (times, sums[number]) for number, times in window.items()}
        running.move(frames)
        anew = WindowTable()
        anew.move(frames)
        fallback = torch.full((1, 3, 8, 8), -1.0)
        for i in range(5):
            picture = composite[i : i + 1]
            assert torch.equal(running.read(picture, fallback), anew.read(picture, fallback))
    # Only frame 4 is left: its own colours are met, others where nothing was splatted are not.
    assert not (running.read(composite[4:], fallback) == -1)[
        mask[4:].bool().expand(1, 3, 8, 8)
    ].any()
    running.move({})
    assert (running.read(composite[4:], fallback) == -1).all()


def test_reading_leaves_empty_nodes_out():
    colour, goal = torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.7)
    table = WindowTable()
    sums = frame_sums(colour, goal, torch.ones(1, 1, 1, 1))
    table.move({0: (1, sums[0])})
    assert int((sums[0, ..., 3] > 0).sum()) == 1  # 0.5 lies on a node
    near = torch.full((1, 3, 1, 1), 0.51)  # one of its eight nodes has data
    fallback = torch.zeros(1, 3, 1, 1)
    torch.testing.assert_close(table.read(near, fallback), near + 0.2)
    far = torch.full((1, 3, 1, 1), 0.6)
    assert torch.equal(table.read(far, fallback), fallback)


def test_any_frame_wise_method_can_be_the_base():
    frames, masks = scene()
    for base in ("mkl", methods.get("reinhard")):
        looks = methods.get("co2net", base=base).estimate(frames, masks)
        assert len(looks) == 6


@pytest.fixture
def files(tmp_path):
    """Weights of tiny networks that do something."""
    torch.manual_seed(3)
    issam = Issam(4, input_size=16)
    chen = Chen({"width": 4, "input_size": 16}, frames=3, blocks=1, channels=8)
    nn.init.normal_(chen.output.weight, std=0.2)
    refinement = Refinement(4, 8)
    for network in (issam, chen.base):
        nn.init.constant_(network.colour.bias, 1)  # brighter than what is there
    paths = {}
    for network in (issam, chen, refinement):
        name = network.architecture
        paths[name] = tmp_path / f"{name}.safetensors"
        save_weights(paths[name], network, architecture=name, config=network.settings())
    return paths


def test_networks_as_methods(files):
    frames, masks = scene()
    for name in ("issam", "chen", "co2net"):
        weights = files["issam" if name == "co2net" else name]
        method = methods.get(name, weights=weights)
        assert method.working_size(300, 500) == (16, 16)
        looks = method.estimate(frames, masks)
        assert len(looks) == 6
        assert change(looks, frames).abs().min() > 1e-3
    assert methods.get("chen", weights=files["chen"]).look_ahead == 1


def test_chen_depends_on_its_neighbours_and_issam_does_not(files):
    frames, masks = scene(3)
    other = frames.clone()
    other[2, :, 4:12, 4:12] *= 0.5
    for name, depends in (("issam", False), ("chen", True)):
        method = methods.get(name, weights=files[name])
        first, again = (method.estimate(clip, masks)[1].grid for clip in (frames, other))
        assert torch.allclose(first, again, atol=1e-5) != depends


def test_chen_repeats_the_last_frame_at_the_ends(files):
    frames, masks = scene(4)
    method = methods.get("chen", weights=files["chen"], flow="none", look="residual")
    longer = torch.cat((frames[:1], frames, frames[-1:]))
    expected = method.estimate(longer, torch.cat((masks[:1], masks, masks[-1:])))[1:-1]
    for a, b in zip(method.estimate(frames, masks), expected, strict=True):
        torch.testing.assert_close(a.image, b.image, atol=1e-5, rtol=0)
    without = method.estimate(frames[:-1], masks[:-1])
    assert not torch.allclose(without[2].image, expected[2].image, atol=1e-4)


def test_the_refinement_joins_base_and_table(files):
    frames, masks = scene()
    plain = methods.get("co2net", weights=files["issam"])
    refined = methods.get("co2net", weights=files["issam"], refinement=files["co2net"])
    with torch.no_grad():
        refined.refinement.blend.bias.fill_(100)  # all of the input
    assert change(refined.estimate(frames, masks), frames).abs().max() < 1e-3
    assert change(plain.estimate(frames, masks), frames).abs().max() > 1e-2


class Windowed(Flicker):
    look_ahead = 1


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"base": Windowed()}, ValueError, "base: expected a frame-wise method, got 'flicker'"),
        ({"base": "co2net"}, ValueError, "base: expected a frame-wise method, got 'co2net'"),
        ({"base": 3}, TypeError, "base: expected a name or a Method, got int"),
        ({"base": "mkl", "weights": "x"}, ValueError, "weights: the base 'mkl' uses none"),
        ({"base": "mkl", "neighbours": 0}, ValueError, "neighbours: expected 1 or more, got 0"),
        ({"base": "mkl", "refinement": "x"}, ValueError, 'refinement: needs the base "issam"'),
    ],
)
def test_errors(options, error, text):
    with pytest.raises(error, match=text):
        methods.get("co2net", **options)


def test_without_weights_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(WeightsError, match="issam: .*without trained weights"):
        methods.get("co2net")
    rows = {row.name: row for row in methods.describe()}
    for name in ("issam", "chen"):
        assert not rows[name].available
        assert f"vharm train {name}" in rows[name].reason
        with pytest.raises(WeightsError, match="--weights FILE"):
            methods.get(name)
    assert rows["chen"].look_ahead == 2
    assert issubclass(methods.ChenMethod, Method)

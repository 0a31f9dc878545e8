# SPDX-License-Identifier: Apache-2.0
"""Flow: direction and sign, what is cached, and errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vharm import flow
from vharm.models import SpyNet, WeightsError
from vharm.ops import flow_warp

torch.set_num_threads(1)


def texture(count=3, dx=3, dy=2):
    """Frames of a window that moves right and down over a picture: things move left and up."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 14, 14, generator=generator)
    picture = F.interpolate(coarse, (120, 120), mode="bicubic").clamp(0, 1)[0]
    return torch.stack([
        picture[:, i * dy : i * dy + 80, i * dx : i * dx + 80] for i in range(count)
    ])  # fmt: skip


@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_dis_finds_a_shift_and_its_direction(kind):
    frames = texture()
    if kind == "uint8":
        frames = (frames * 255).round().byte()
    found = flow.estimate(frames[:2], frames[1:])
    assert found.shape == (2, 2, 80, 80)
    assert found.dtype == torch.float32
    middle = found[..., 20:60, 20:60].mean((0, 2, 3))
    torch.testing.assert_close(middle, torch.tensor([-3.0, -2.0]), atol=0.1, rtol=0)


def test_warping_the_other_frame_gives_the_current_one():
    one, two = texture(2).split(1)
    found = flow.estimate(one, two)
    inside = (slice(None), slice(None), slice(15, 65), slice(15, 65))
    right = (flow_warp(two, found) - one)[inside].abs().mean()
    wrong = (flow_warp(two, -found) - one)[inside].abs().mean()
    assert right < 0.01 < 0.05 < wrong


def test_neighbours_gives_both_ways():
    backward, forward = flow.neighbours(texture())
    assert backward.shape == forward.shape == (2, 2, 80, 80)
    assert backward[:, 0, 30:50, 30:50].mean() == pytest.approx(3, abs=0.1)
    assert forward[:, 0, 30:50, 30:50].mean() == pytest.approx(-3, abs=0.1)
    nothing, _ = flow.neighbours(texture(1))
    assert nothing.shape == (0, 2, 80, 80)


def test_none_does_not_move():
    found = flow.estimate(*texture(2).split(1), estimator="none")
    assert found.shape == (1, 2, 80, 80)
    assert not found.any()


def test_spynet_is_asked_with_unit_colours():
    network = SpyNet(channels=(4,)).eval()
    torch.nn.init.normal_(network.nets[0][-1].weight)
    frames = (texture(2) * 255).round().byte()
    found = flow.estimate(*frames.split(1), estimator=flow.SpyNetFlow(network))
    expected = network(*(frames.float() / 255).split(1))
    torch.testing.assert_close(found, expected)
    assert found.any()


class Counting(flow.NoFlow):
    def __init__(self):
        self.asked = 0

    def _estimate(self, current, other):
        self.asked += 1
        return torch.full((1, 2, *current.shape[2:]), float(self.asked))


def test_each_pair_is_estimated_once():
    frames, counting = texture(3), Counting()
    cache = flow.FlowCache(counting, capacity=2)
    one, two, three = frames.split(1)
    first = cache.flow("a", one, "b", two)
    assert torch.equal(cache.flow("a", one, "b", two), first)
    assert counting.asked == cache.estimated == 1
    back = cache.flow("b", two, "a", one)
    assert counting.asked == 2
    assert not torch.equal(back, first)
    assert not cache.flow("a", one, "a", one).any()
    assert counting.asked == 2
    cache.flow("a", one, "b", two)  # used last: stays when the next one comes
    cache.flow("b", two, "c", three)
    assert len(cache) == 2
    cache.flow("a", one, "b", two)
    assert counting.asked == 3
    cache.flow("b", two, "a", one)
    assert counting.asked == 4


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda f: flow.open_estimator("raft"), ValueError, "expected one of dis, spynet, none"),
        (lambda f: flow.open_estimator("dis", weights="x"), ValueError, "'dis' takes no weights"),
        (lambda f: flow.open_estimator("spynet"), WeightsError, "no trained weights"),
        (lambda f: flow.estimate(f[..., :8], f[..., :8]), ValueError, "16x16 pixels or larger"),
        (lambda f: flow.estimate(f, f[:1]), ValueError, "other must be like current"),
        (lambda f: flow.estimate(f.int(), f.int()), TypeError, "uint8 or float, got torch.int32"),
        (lambda f: flow.estimate(f[:, :1], f[:, :1]), ValueError, r"\[N, 3, H, W\], got \[3, 1"),
        (lambda f: flow.FlowCache(flow.NoFlow(), 0), ValueError, "capacity: expected 1 or more"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(texture())

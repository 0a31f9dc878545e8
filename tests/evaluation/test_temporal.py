# SPDX-License-Identifier: Apache-2.0
"""Metrics over time, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vharm.evaluation import flicker, regional, tl, tl_weights
from vharm.evaluation.flow import clip_flow
from vharm.evaluation.temporal import colour_change


def still(values):
    """[2,3,1,2]: a clip of two frames of two pixels, all channels equal."""
    return torch.tensor(values, dtype=torch.float32).reshape(2, 1, 1, 2).expand(2, 3, 1, 2)


def test_tl_by_hand():
    # True frames differ by 51 of 255 at the right pixel; the mask is 1 and 0.5 there.
    truth, output = still([10, 100, 10, 151]), still([20, 60, 26, 72])
    masks = torch.tensor([[1.0, 0.5], [1.0, 1.0]]).reshape(2, 1, 1, 2)
    flow = torch.zeros(1, 2, 1, 2)
    weights = tl_weights(truth, masks, flow)
    right = 0.5 * math.exp(-0.2)
    assert weights.flatten().tolist() == pytest.approx([1.0, right])
    expected = 3 * (6**2 + right**2 * 12**2) / (1 + right)
    assert tl(output, weights, flow).item() == pytest.approx(expected, rel=1e-5)


def test_tl_follows_the_motion():
    base = torch.arange(12.0).reshape(1, 1, 1, 12).expand(1, 3, 1, 12) * 20
    clip = torch.cat([base[..., :10], base[..., 1:11]])
    masks, flow = torch.ones(2, 1, 1, 10), torch.zeros(1, 2, 1, 10)
    flow[:, 0] = 1
    right = tl(clip, tl_weights(clip, masks, flow), flow)
    wrong = tl(clip, tl_weights(clip, masks, -flow), -flow)
    assert right.item() == pytest.approx(0, abs=1e-3)
    assert wrong.item() > 1000
    # What leaves the frame has no weight.
    assert tl_weights(clip, masks, flow)[..., -1].item() == 0


def test_regional_loss_by_hand():
    output = still([0, 51, 51, 0])
    masks, flow = torch.ones(2, 1, 1, 2), torch.zeros(1, 2, 1, 2)
    seen = torch.tensor([True, False]).reshape(1, 1, 1, 2)
    # Squares are summed over three channels; occluded pixels count nowhere.
    assert regional(output, masks, flow, seen).item() == pytest.approx(3 * 0.04, rel=1e-5)
    away = torch.full_like(flow, 9.0)
    assert regional(output, masks, away, seen).isnan().all()


def test_flicker_by_hand():
    change = torch.tensor([[1.0, 2, 3], [3, 2, 3], [math.nan] * 3, [5, 2, 3]], dtype=torch.float64)
    # Red has the variance 4, the others none.
    assert flicker(change) == pytest.approx(math.sqrt(4 / 3))
    assert flicker(change[:1]) is None


def test_what_the_input_does_itself_is_no_flicker():
    composite = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 200
    masks = torch.ones(5, 1, 8, 8)
    assert flicker(colour_change(composite + 10, composite, masks)) == pytest.approx(0, abs=1e-4)
    pumping = composite + torch.tensor([0.0, 10, 0, 10, 0]).reshape(5, 1, 1, 1)
    assert flicker(colour_change(pumping, composite, masks)) == pytest.approx(30**0.5, rel=1e-4)


def test_flow_is_exact_where_it_is_known_and_told_where_not(sample_maker):
    pytest.importorskip("cv2")
    known = clip_flow(sample_maker("a", 3, flow=True))
    assert known.exact
    assert known.estimator == "exact"
    guess = clip_flow(sample_maker("a", 3, size=(64, 64), shift=2))
    assert not guess.exact
    assert guess.estimator == "DIS (OpenCV) on the true frames"
    inner = guess.flow[:, :, 16:48, 16:40]
    # p of frame t + 1 was two pixels further to the right in frame t.
    assert inner[:, 0].median().item() == pytest.approx(2, abs=0.3)
    assert inner[:, 1].median().item() == pytest.approx(0, abs=0.3)
    real = clip_flow(sample_maker("a", 2, size=(64, 64), target=False))
    assert real.estimator == "DIS (OpenCV) on the composites"
    with pytest.raises(ValueError, match="16x16 pixels or larger to estimate motion, got 48x12"):
        clip_flow(sample_maker("a", 2, size=(12, 48), box=(2, 8, 2, 8)))

# SPDX-License-Identifier: Apache-2.0
"""temporal_loss and flow_consistency against the reference, grid_sample, and values by hand."""

from __future__ import annotations

import pytest
import torch
from flows import MOTIONS, NAN, SIZES, by_grid_sample, motion, picture, relaid, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_close, backends, relayout

from vharm import ops
from vharm.ops import flow_consistency, temporal_loss

ALL = ["reference", *backends("temporal_loss")]
FAST = backends("temporal_loss")


# ---- temporal loss ------------------------------------------------------------------------------


def in_words(current, previous, flow, mask, valid):
    """The definition, pixel by pixel, with grid_sample for the warp."""
    h, w = current.shape[2:]
    y, x = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
    u, v = x + flow[:, 0], y + flow[:, 1]
    inside = (u >= 0) & (u <= w - 1) & (v >= 0) & (v <= h - 1)
    weight = mask * inside[:, None] * (1 if valid is None else valid)
    d = current - by_grid_sample(previous, flow, "border")
    return (weight**2 * d**2).mean(1).sum((1, 2)) / weight.sum((1, 2, 3))


@pytest.mark.parametrize("backend", ALL)
def test_loss_is_what_the_docstring_says(backend):
    frames = [picture(2, 3, 21, 34, seed=s).double() for s in (1, 2)]
    flow = 3 * torch.randn(2, 2, 21, 34, generator=seeded(3)).double()
    mask = (torch.rand(2, 1, 21, 34, generator=seeded(4)) * 2 - 0.6).clamp(0, 1)
    valid = torch.rand(2, 1, 21, 34, generator=seeded(5)) > 0.2
    expected = in_words(*frames, flow, mask.double(), valid.double())
    with ops.backend(backend):
        found = temporal_loss(*(t.float() for t in (*frames, flow)), mask, valid=valid)
        without = temporal_loss(*(t.float() for t in (*frames, flow)), mask)
        mirrored = temporal_loss(*(t.float() for t in (*frames, flow.flip(1))), mask, valid=valid)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)
    assert ((without.double() - expected).abs() > 1e-4 * expected).all()
    assert ((mirrored.double() - expected).abs() > 1e-3 * expected).all()


@pytest.mark.parametrize("backend", ALL)
def test_loss_by_hand(backend):
    """Two of four pixels are masked, one of these leaves the frame: (0.5^2 + 0.1^2) / 2 is left."""
    current = torch.tensor([[0.9, 0.2], [0.4, 0.1], [0.0, 0.0], [0.7, 0.7]]).T.reshape(1, 2, 1, 4)
    previous = torch.tensor([[0.0, 0.0], [0.4, 0.1], [0.0, 0.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 4)
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0, 0], flow[0, 0, 0, 3] = 1.0, 1.0
    mask = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 1, 1, 4)
    with ops.backend(backend):
        assert temporal_loss(current, previous, flow, mask).item() == pytest.approx(0.13)


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=50)
@given(data=st.data())
def test_loss_agrees_with_reference(backend, data):
    n, c = data.draw(st.integers(1, 2)), data.draw(st.sampled_from((1, 2, 3, 6, 37)))
    h, w = data.draw(st.sampled_from(SIZES)), data.draw(st.sampled_from((*SIZES, 530)))
    layout = data.draw(st.sampled_from(("NCHW", "NHWC")))
    flow = motion(data.draw(st.sampled_from(MOTIONS)), n, h, w, seed=data.draw(st.integers(0, 9)))
    mask = (torch.rand(n, 1, h, w, generator=seeded(2)) * 2 - 0.6).clamp(0, 1)
    mask[:, :, : h // 2] = 0
    if data.draw(st.booleans()):
        mask = (mask * 255).to(torch.uint8)
    valid = torch.rand(n, 1, h, w, generator=seeded(5)) > 0.3 if data.draw(st.booleans()) else None
    frames = [picture(n, c, h, w, seed=s) for s in (1, 2)]
    *frames, flow, mask, valid = relaid(layout, *frames, flow, mask, valid)
    if data.draw(st.booleans()):
        frames[1] = relayout(frames[1], "transposed")
    results = []
    for name in ("reference", backend):
        leaves = [t.clone().requires_grad_() for t in (*frames, flow)]
        with ops.backend(name):
            loss = temporal_loss(*leaves, mask, valid=valid, layout=layout)
            factors = torch.arange(1.0, n + 1)
            results.append((loss.detach(), *torch.autograd.grad((loss * factors).sum(), leaves)))
    for f, e in zip(results[1], results[0], strict=True):
        assert f.shape == e.shape
        assert_close(f, e, atol=3e-6 * max(float(e.abs().max()), 1e-2), rtol=1e-5)


@pytest.mark.parametrize("backend", ALL)
def test_loss_of_nothing_is_zero(backend):
    frames = [picture(2, 3, 9, 20, seed=s).requires_grad_() for s in (1, 2)]
    flow, mask = torch.zeros(2, 2, 9, 20), torch.zeros(2, 1, 9, 20)
    mask[1] = 1
    with torch.no_grad():
        for frame in frames:  # where the mask is 0 nothing is looked at
            frame[0, 1, 3, 4] = NAN
    with ops.backend(backend):
        loss = temporal_loss(*frames, flow, mask)
        grads = torch.autograd.grad(loss.sum(), frames)
        away = temporal_loss(*(f[1:] for f in frames), flow[1:] + 1e6, mask[1:])
    assert loss[0] == 0
    assert loss[1] > 0
    assert away.item() == 0
    assert all((g[0] == 0).all() and (g[1] != 0).any() for g in grads)


@pytest.mark.parametrize("backend", FAST)
def test_loss_refuses_gradients_of_masks(backend):
    frame, flow = picture(1, 3, 4, 5), torch.zeros(1, 2, 4, 5)
    mask = torch.ones(1, 1, 4, 5, requires_grad=True)
    with ops.backend(backend), pytest.raises(ValueError, match="mask must not require a gradient"):
        temporal_loss(frame, frame, flow, mask)
    with ops.backend("reference"):
        temporal_loss(frame, frame + 0.1, flow, mask).sum().backward()
    assert mask.grad is not None


# ---- consistency --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ALL)
def test_consistency_by_hand(backend):
    """A square that moves right by 6 pixels hides what lies right of it, and uncovers on its left.

    |f|^2 = |b|^2 = 36: beside the square the sum is 36 against 0.01 * 36 + 0.5.
    """
    forward, backward = torch.zeros(1, 2, 30, 60), torch.zeros(1, 2, 30, 60)
    forward[:, 0, 8:20, 20:32] = 6
    backward[:, 0, 8:20, 26:38] = -6
    hidden = torch.zeros(30, 60, dtype=torch.bool)
    hidden[8:20, 32:38] = True
    with ops.backend(backend):
        found = flow_consistency(forward, backward)
        lenient = flow_consistency(forward, backward, beta=40.0)
        assert torch.equal(found[0, 0], ~hidden)
        assert lenient.all()
        assert not flow_consistency(forward + NAN, backward).any()
        assert not flow_consistency(torch.full_like(forward, 99), backward).any()
        assert not flow_consistency(forward, forward)[0, 0, 8:20, 20:26].any()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["smooth", "wild", "whole"])
def test_consistency_agrees_with_reference(backend, layout, kind):
    forward = motion(kind, 2, 23, 67)
    noise = torch.randn(forward.shape, generator=seeded(1))
    forward, backward = relaid(layout, forward, -forward.nan_to_num(0, 0, 0) + 0.6 * noise)
    with ops.backend("reference"):
        expected = flow_consistency(forward, backward, layout=layout)
    with ops.backend(backend):
        found = flow_consistency(forward, backward, layout=layout)
    assert found.dtype == torch.bool
    assert found.shape == expected.shape
    # A pixel right on the threshold may fall either way.
    assert (found != expected).sum() <= 2
    assert kind == "wild" or 0.02 < expected.float().mean() < 0.99

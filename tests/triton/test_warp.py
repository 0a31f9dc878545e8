# SPDX-License-Identifier: Apache-2.0
"""The Triton warps against the reference, through the public ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vharm import ops

TOLERANCE = {
    torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7, torch.uint8: 1,
    torch.uint16: 1,
}  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    values = torch.rand(shape, generator=seeded(seed))
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * (255 if dtype == torch.uint8 else 65535)).round().to(torch.int32).to(dtype)


def motion(n: int, h: int, w: int) -> Tensor:
    """Small, with whole displacements, some that leave the frame, and what is not a number."""
    flow = 2 * torch.randn(n, 2, h, w, generator=seeded(2))
    flow[:, :, 0] = flow[:, :, 0].round()
    flow[0, 0, 1, 0], flow[0, 1, 1, 1], flow[0, 0, 1, 2] = float("nan"), float("inf"), -1e30
    return flow


def both(function: Callable[[], Any]) -> list[Any]:
    results = []
    for name in ("reference", "triton"):
        with ops.backend(name):
            results.append(function())
    return results


def relaid(layout: str, device: torch.device, *tensors: Tensor) -> list[Tensor]:
    if layout == "NHWC":
        tensors = tuple(t.permute(0, 2, 3, 1).contiguous() for t in tensors)
    return [t.to(device) for t in tensors]


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_forward(padding: str, layout: str, dtype: torch.dtype, device: torch.device) -> None:
    image, flow = relaid(layout, device, picture((2, 3, 5, 37), dtype), motion(2, 5, 37))
    (expected, where), (got, valid) = both(
        lambda: ops.flow_warp(image, flow, padding=padding, return_valid=True, layout=layout)
    )
    assert torch.equal(valid, where)
    error = got.cpu().to(torch.float64) - expected.cpu().to(torch.float64)
    assert error.abs().max() <= TOLERANCE[dtype]


def test_zero_flow_and_whole_shifts(device: torch.device) -> None:
    image = picture((1, 4, 5, 40)).to(device)
    with ops.backend("triton"):
        assert torch.equal(ops.flow_warp(image, torch.zeros(1, 2, 5, 40).to(device)), image)
        shift = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1).repeat(1, 1, 5, 40).to(device)
        moved = ops.flow_warp(image, shift)
        turned = ops.flow_warp(image, shift.flip(1))
    expected = torch.zeros_like(image)
    expected[:, :, 1:, :-3] = image[:, :, :-1, 3:]
    assert torch.equal(moved, expected)
    assert not torch.equal(turned, expected)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_gradients(padding: str, device: torch.device) -> None:
    factors = torch.randn(2, 3, 4, 37, generator=seeded(5)).to(device)

    def run() -> tuple[Tensor, ...]:
        leaves = [t.to(device).requires_grad_() for t in (picture((2, 3, 4, 37)), motion(2, 4, 37))]
        return torch.autograd.grad(ops.flow_warp(*leaves, padding=padding), leaves, factors)

    for expected, got in zip(*both(run), strict=True):
        assert expected.norm() > 0
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("with_valid", [True, False])
def test_loss(layout: str, with_valid: bool, device: torch.device) -> None:
    mask = (torch.rand(3, 1, 4, 37, generator=seeded(6)) * 1.6 - 0.4).clamp(0, 1)
    mask[2] = 0
    seen = torch.rand(3, 1, 4, 37, generator=seeded(7)) > 0.3
    frames = (picture((3, 3, 4, 37)), picture((3, 3, 4, 37), seed=4), motion(3, 4, 37))
    *frames, mask, seen = relaid(layout, device, *frames, mask, seen)

    def run() -> tuple[Tensor, ...]:
        leaves = [t.clone().requires_grad_() for t in frames]
        loss = ops.temporal_loss(*leaves, mask, valid=seen if with_valid else None, layout=layout)
        factors = torch.tensor([1.0, 2.0, 3.0], device=device)
        return (loss.detach(), *torch.autograd.grad((loss * factors).sum(), leaves))

    for expected, got in zip(*both(run), strict=True):
        assert expected.norm() > 0
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_consistency(device: torch.device) -> None:
    forward = motion(2, 5, 37).to(device)
    backward = torch.randn(2, 2, 5, 37, generator=seeded(8)).to(device)
    expected, got = both(lambda: ops.flow_consistency(forward, backward, alpha=0.2))
    assert (got != expected).sum() <= 1
    assert 0.02 < expected.float().mean() < 0.98


def test_atomics_are_refused_where_determinism_is_asked_for(device: torch.device) -> None:
    image = picture((1, 3, 2, 3)).to(device).requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        with ops.backend("triton"):
            out = ops.flow_warp(image, torch.zeros(1, 2, 2, 3, device=device))
        with pytest.raises(RuntimeError, match="gradient of image has no deterministic"):
            out.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)

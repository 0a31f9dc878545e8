# SPDX-License-Identifier: Apache-2.0
"""Inputs and assertions of the Triton filters' tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vharm import ops
from vharm.ops.filters import DEFAULT_FILTERS, FILTERS

CHAINS = {
    **{name: (name,) for name in FILTERS},
    "default": DEFAULT_FILTERS,
    "reversed": DEFAULT_FILTERS[::-1],
    "all": FILTERS,
    "repeated": ("contrast", "saturation", "contrast", "temperature", "temperature", "contrast"),
}
# What one rounding costs, a little more where dark samples pass highlight and then shadow: 1 - p
# leaves them 6e-8 off, and a power of 0.2 multiplies that by hundreds.
TOLERANCE = {
    torch.float32: 2e-5,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
    torch.uint8: 1,
    torch.uint16: 2,
}
ONE_FILTER = 2e-6


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_image(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 1
) -> Tensor:
    """Floats reach a little beyond [0,1]."""
    values = torch.rand(shape, generator=seeded(seed))
    if dtype.is_floating_point:
        return (values * 1.1 - 0.05).to(dtype)
    return (values * (255 if dtype == torch.uint8 else 65535)).to(torch.int32).to(dtype)


def random_mask(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Soft, with about a third of zeros and some ones."""
    values = (torch.rand(shape, generator=seeded(2)) * 1.8 - 0.6).clamp(0, 1)
    if dtype == torch.bool:
        return values > 0
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * (255 if dtype == torch.uint8 else 65535)).to(torch.int32).to(dtype)


def random_arguments(n: int, filters: Sequence[str] = DEFAULT_FILTERS) -> Tensor:
    """Up to 0.8, of both signs in turn; what shadow gets to see is not saturated up to the edge.

    A fully saturated channel is 0 up to rounding, where the slope of shadow has no bound: there
    float32 does not determine the result.
    """
    arguments = torch.rand(n, len(filters), generator=seeded(3)) * 0.75 + 0.05
    arguments[::2, 1::2] *= -1
    arguments[1::2, ::2] *= -1
    for i, name in enumerate(filters):
        if name == "saturation" and "shadow" in filters[i:]:
            arguments[:, i] = -arguments[:, i].abs()
    return arguments


def wide(tensor: Tensor) -> Tensor:
    """float64, on the CPU; uint16 has no other way to be compared."""
    return tensor.detach().cpu().to(torch.float64)


def assert_near(got: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    difference = (wide(got) - wide(expected)).abs().max().item()
    assert difference <= (TOLERANCE[got.dtype] if tolerance is None else tolerance)


def assert_gradients_near(got: list[Tensor], expected: list[Tensor], device: torch.device) -> None:
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.shape == theirs.shape
        scale = theirs.norm().item()
        assert scale > 0, "a gradient that is zero everywhere proves nothing"
        assert (mine - theirs).norm().item() < 1e-4 * scale
        if device.type == "cpu":
            # Contraction to FMA may move single pixels across a clamp's edge on a GPU.
            limit = 1e-4 * theirs.abs().max().item()
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=limit)


def leaves(*tensors: Tensor, device: torch.device) -> list[Tensor]:
    """New leaves over the same memory: what one run leaves in `.grad` must not meet the next."""
    return [t.detach().to(device).requires_grad_() for t in tensors]


def both(function: Callable[[], Any]) -> list[Any]:
    """The results of a function of nothing on the reference and on Triton."""
    results = []
    for name in ("reference", "triton"):
        with ops.backend(name):
            results.append(function())
    return results

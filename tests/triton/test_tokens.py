# SPDX-License-Identifier: Apache-2.0
"""The Triton tokens, Gram matrices and patch balance against the reference, by the public ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vharm import ops

DTYPES = {
    torch.float32: 1e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7, torch.uint8: 1,
    torch.uint16: 1,
}  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    values = torch.rand(shape, generator=seeded(seed))
    if dtype.is_floating_point:
        return values.to(dtype)
    return (values * (255 if dtype == torch.uint8 else 65535)).round().to(torch.int32).to(dtype)


def soft(shape: tuple[int, ...]) -> Tensor:
    return (torch.rand(shape, generator=seeded(2)) * 1.8 - 0.6).clamp(0, 1)


def near(got: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if got.numel():
        assert (got.double() - expected.double()).abs().max() <= tolerance


def both(function: Callable[[], Any]) -> list[Any]:
    results = []
    for name in ("reference", "triton"):
        with ops.backend(name):
            results.append(function())
    return results


@pytest.mark.parametrize("patch", [4, 5])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pack_and_unpack(patch: int, layout: str, dtype: torch.dtype, device: torch.device) -> None:
    image, under = (picture((2, 3, 2 * patch, 3 * patch), dtype, seed) for seed in (1, 2))
    mask = soft((2, 1, 2 * patch, 3 * patch))
    if layout == "NHWC":
        image, under, mask = (t.permute(0, 2, 3, 1) for t in (image, under, mask))
    image, under, mask = (t.to(device) for t in (image, under, mask))
    keep = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 0, 0, 1, 0, 1]], dtype=torch.bool, device=device)

    def run() -> tuple[Tensor, ...]:
        tokens, index, _ = ops.pack_patches(image, keep, patch, layout=layout)
        scaled, _, _ = ops.pack_patches(image, keep, patch, layout=layout, dtype=torch.float32)
        order = torch.tensor([3, 0, 4, 1, 2], device=device)
        return (
            tokens, ops.unpack_patches(tokens, index[order], under, patch, layout=layout), scaled,
            ops.unpack_patches(scaled * 1.2, index, under, patch, layout=layout),
            ops.unpack_patches(tokens, index, under, patch, mask=mask, layout=layout),
            ops.foreground_patches(mask, patch, layout=layout).int(),
        )  # fmt: skip

    for at, (expected, got) in enumerate(zip(*both(run), strict=True)):
        near(got, expected, 0 if at < 2 else DTYPES.get(got.dtype, 0))
    with ops.backend("triton"):
        tokens, index, _ = ops.pack_patches(image, keep, patch, layout=layout)
        near(ops.unpack_patches(tokens, index, image, patch, layout=layout), image, 0)
        blended = ops.unpack_patches(tokens, index, under, patch, mask=mask, layout=layout)
        outside = (mask == 0).expand(image.shape)
        near(blended[outside], under[outside], 0)
        in_place = under.contiguous().clone()
        ops.unpack_patches(tokens, index, in_place, patch, layout=layout, out=in_place)
        near(in_place, ops.unpack_patches(tokens, index, under, patch, layout=layout), 0)


@pytest.mark.parametrize("with_mask", [False, True])
def test_gradients(with_mask: bool, device: torch.device) -> None:
    factors = torch.randn(2, 3, 8, 12, generator=seeded(5)).to(device)
    keep = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 0, 0, 1, 0, 1]], dtype=torch.bool, device=device)

    def run() -> tuple[Tensor, ...]:
        image = picture((2, 3, 8, 12)).to(device).requires_grad_()
        mask = soft((2, 1, 8, 12)).to(device).requires_grad_()
        tokens, index, _ = ops.pack_patches(image, keep, 4)
        out = ops.unpack_patches(tokens.sin(), index, image, 4, mask=mask if with_mask else None)
        wanted = (image, tokens, mask) if with_mask else (image, tokens)
        return torch.autograd.grad((out * factors).sum(), wanted)

    for expected, got in zip(*both(run), strict=True):
        assert expected.norm() > 0
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_rows_of_tokens(device: torch.device) -> None:
    tokens = picture((2, 4, 33)).to(device)
    keep = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.bool, device=device)
    with ops.backend("triton"):
        packed, index, _ = ops.pack_tokens(tokens, keep)
        assert torch.equal(packed, tokens[keep])
        filled = ops.unpack_tokens(packed, index, torch.zeros_like(tokens[0, 0]), size=(2, 4))
    assert torch.equal(filled, tokens * keep[..., None])


@pytest.mark.parametrize("channels", [5, 70])
def test_gram(channels: int, device: torch.device) -> None:
    """Two blocks of channels, blocks of tokens that meet several sequences, an empty one."""
    bounds = torch.tensor([0, 3, 3, 40, 75], device=device)
    weight = torch.randn(4, channels, channels, generator=seeded(3)).to(device)

    def run() -> tuple[Tensor, ...]:
        tokens = torch.randn(75, channels, generator=seeded(4)).to(device).requires_grad_()
        found = ops.gram(tokens, bounds)
        return found, *torch.autograd.grad((found * weight).sum(), tokens)

    for expected, got in zip(*both(run), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (40, 33)])
def test_patch_balance(layout: str, size: tuple[int, int], device: torch.device) -> None:
    weight = torch.tensor([1.0, -2.0], device=device)

    def run() -> tuple[Tensor, ...]:
        image = picture((2, 3, *size)).to(device)
        image = image if layout == "NCHW" else image.permute(0, 2, 3, 1)
        image.requires_grad_()
        found = ops.patch_balance(image, layout=layout)
        return found, *torch.autograd.grad((found * weight).sum(), image)

    for expected, got in zip(*both(run), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)

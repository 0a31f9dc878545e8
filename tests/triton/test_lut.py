# SPDX-License-Identifier: Apache-2.0
"""The Triton look-up tables and moments against the reference, through the public ops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vharm import ops

KINDS = ("tetrahedral", "trilinear")
# One rounding of the output's type; integers one level, where a half may fall either way.
TOLERANCE = {
    torch.float32: 1e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7, torch.uint8: 1,
    torch.uint16: 1,
}  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    """Floats reach beyond [0,1]; the first line is grey, where three places tie."""
    values = torch.rand(shape, generator=seeded(seed))
    values[:, :, 0] = values[:, :1, 0]
    if dtype.is_floating_point:
        return (values * 1.2 - 0.1).to(dtype)
    return (values * (255 if dtype == torch.uint8 else 65535)).round().to(torch.int32).to(dtype)


def soft_mask(shape: tuple[int, ...]) -> Tensor:
    return (torch.rand(shape, generator=seeded(2)) * 1.8 - 0.6).clamp(0, 1)


def table(*shape: int) -> Tensor:
    return torch.rand(*shape, 3, generator=seeded(3)) * 1.5 - 0.25


def wide(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().to(torch.float64)


def near(got: Tensor, expected: Tensor) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert (wide(got) - wide(expected)).abs().max() <= TOLERANCE[got.dtype]


def both(function: Callable[[], Any]) -> list[Any]:
    results = []
    for name in ("reference", "triton"):
        with ops.backend(name):
            results.append(function())
    return results


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_apply(kind: str, layout: str, dtype: torch.dtype, device: torch.device) -> None:
    image, mask = picture((2, 3, 5, 7), dtype).to(device), soft_mask((2, 1, 5, 7)).to(device)
    if layout == "NHWC":
        image, mask = image.permute(0, 2, 3, 1).contiguous(), mask.permute(0, 2, 3, 1).contiguous()
    for lut in (table(2, 5, 5, 5).to(device), table(2, 2, 2).to(device)):
        expected, got = both(
            lambda lut=lut: ops.apply_lut(image, lut, mask, interpolation=kind, layout=layout)
        )
        near(got, expected)
        outside = (mask == 0).expand(image.shape)
        assert torch.equal(wide(got)[outside.cpu()], wide(image)[outside.cpu()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False])
def test_gradients(kind: str, shared: bool, device: torch.device) -> None:
    factors = torch.randn(2, 3, 4, 6, generator=seeded(5)).to(device)

    def run() -> list[Tensor]:
        tensors = (picture((2, 3, 4, 6)), table(*((4,) * 3 if shared else (2, 4, 4, 4))),
                   soft_mask((2, 1, 4, 6)))  # fmt: skip
        image, lut, mask = (t.to(device).requires_grad_() for t in tensors)
        out = ops.apply_lut(image, lut, mask, interpolation=kind, strength=0.7)
        (out * factors).sum().backward()
        return [image.grad, lut.grad, mask.grad]

    for expected, got in zip(*both(run), strict=True):
        assert expected.norm() > 0
        assert (got - expected).norm() < 1e-5 * expected.norm()
        limit = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(got, expected, atol=limit, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_nan(kind: str, device: torch.device) -> None:
    """All of a pixel, whichever channel has it; nothing where the mask is 0."""
    image = picture((1, 3, 2, 4))
    for channel in range(3):
        image[0, channel, 1, channel] = float("nan")
    image[0, 0, 1, 3] = float("nan")
    mask = torch.ones(1, 1, 2, 4)
    mask[0, 0, 1, 3] = 0
    expected, got = both(
        lambda: ops.apply_lut(
            image.to(device), table(3, 3, 3).to(device), mask.to(device), interpolation=kind
        )
    )
    assert torch.equal(got.isnan(), expected.isnan())
    assert got.isnan().sum() == 10


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_fit(offset: bool, dtype: torch.dtype, device: torch.device) -> None:
    source, target = picture((2, 3, 5, 7), dtype), picture((2, 3, 5, 7), dtype, seed=4)
    if dtype == torch.float32:
        source[0, 1, 2, 3], target[1, 0, 0, 0] = float("nan"), float("inf")
    mask = soft_mask((2, 1, 5, 7)).to(device)
    (lut, weight), (got_lut, got_weight) = both(
        lambda: ops.fit_lut(source.to(device), target.to(device), mask, 3, offset=offset)
    )
    torch.testing.assert_close(got_weight, weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got_lut, lut, atol=1e-5, rtol=1e-4)
    assert lut.isfinite().all()


def test_atomics_are_refused_where_determinism_is_asked_for(device: torch.device) -> None:
    image = picture((1, 3, 2, 3)).to(device)
    torch.use_deterministic_algorithms(True)
    try:
        with ops.backend("triton"), pytest.raises(RuntimeError, match="deterministic"):
            ops.fit_lut(image, image, None, 3)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
@pytest.mark.parametrize("kind", ["soft", "none", "empty"])
def test_moments(dtype: torch.dtype, kind: str, device: torch.device) -> None:
    """1600 pixels are several blocks to merge."""
    image = picture((2, 3, 4, 400), dtype).to(device)
    mask = None if kind == "none" else soft_mask((2, 1, 4, 400)).to(device)
    if kind == "empty":
        mask = torch.zeros_like(mask)
    for expected, got in zip(*both(lambda: ops.masked_moments(image, mask)), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
        assert (expected == 0).all() == (kind == "empty")


def test_moments_gradients(device: torch.device) -> None:
    factors = [torch.randn(s, generator=seeded(6)).to(device) for s in ((2, 3), (2, 3, 3), (2,))]

    def run() -> list[Tensor]:
        image = picture((2, 3, 4, 6)).to(device).requires_grad_()
        mask = soft_mask((2, 1, 4, 6)).to(device).requires_grad_()
        results = ops.masked_moments(image, mask)
        sum((r * f).sum() for r, f in zip(results, factors, strict=True)).backward()
        return [image.grad, mask.grad]

    for expected, got in zip(*both(run), strict=True):
        assert (got - expected).norm() < 1e-5 * expected.norm()


def test_small_spread_about_a_large_mean(device: torch.device) -> None:
    """Sums of squares in float32 would lose this covariance altogether."""
    image = 0.9 + 1e-4 * torch.randn(1, 3, 4, 400, generator=seeded(7))
    with ops.backend("triton"):
        _, covariance, _ = ops.masked_moments(image.to(device), None)
    exact = torch.cov(image[0].flatten(1).double(), correction=0)
    torch.testing.assert_close(covariance[0].cpu().double(), exact, rtol=1e-3, atol=1e-12)


def test_the_folder_stands_alone() -> None:
    """Importing the kernels brings in nothing of vharm's own."""
    code = (
        "import sys; sys.path.insert(0, '.'); import triton_kernels.lut, triton_kernels.statistics;"
        "assert not any(m == 'vharm' or m.startswith('vharm.') for m in sys.modules)"
    )
    root = Path(ops.__file__).resolve().parents[2]
    if not (root / "triton_kernels").is_dir():
        pytest.skip("an installed package has no bare folder")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)

# SPDX-License-Identifier: Apache-2.0
"""The Triton attention kernels against the reference, through the public ops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vharm import ops

# Where results are rounded to their own type once; gradients pass through twice as many sums.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def selection(*shape: int, seed: int, share: float = 0.6) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def compared(run: Callable[..., Tensor], tensors: list[Tensor], device: torch.device) -> None:
    """Results and gradients of the reference and of Triton."""
    both = []
    for name in ("reference", "triton"):
        leaves = [t.to(device).detach().requires_grad_() for t in tensors]
        with ops.backend(name):
            out = run(*leaves)
        weight = noise(*out.shape, seed=9).to(device)
        both.append([out.detach(), *torch.autograd.grad((out.float() * weight).sum(), leaves)])
    for expected, found in zip(*both, strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.isfinite().all()
        limit = TOLERANCE[found.dtype] * (1 + expected.float().abs().max())
        assert (found.float() - expected.float()).abs().max() <= limit
        assert torch.equal(found == 0, expected == 0) or found.dtype != torch.float32


@pytest.mark.parametrize(
    ("window", "heads", "masked", "dtype"),
    [
        (1, 1, False, torch.float32), (2, 2, True, torch.float32), (2, 1, True, torch.float16),
        (3, 1, True, torch.bfloat16), (3, 1, True, torch.float32), (4, 1, False, torch.float32),
    ],
    ids=str,
)  # fmt: skip
def test_neighborhood(window, heads, masked, dtype, device) -> None:
    h, w = 4, 19  # two blocks in a row
    tensors = [noise(2, c, h, w, seed=c).to(dtype) for c in (4, 4, 6)]
    tensors[1] = noise(2, 4, h, w, seed=8).to(dtype).transpose(2, 3).contiguous().transpose(2, 3)
    mask = selection(2, 1, h, w, seed=1).to(device) if masked else None
    key_mask = selection(2, 1, h, w, seed=2).to(torch.uint8).to(device) if masked else None

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ops.neighborhood_attention(
            q, k, v, mask, key_mask=key_mask, window=window, heads=heads
        )

    compared(run, tensors, device)


def test_neighborhood_without_keys_or_queries(device) -> None:
    tensors = [noise(2, c, 3, 18, seed=c) for c in (3, 3, 2)]
    mask = torch.ones(2, 1, 3, 18)
    mask[0, :, :, 2:] = 0
    key_mask = torch.ones(2, 1, 3, 18)
    key_mask[1, :, :, :9] = 0

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ops.neighborhood_attention(q, k, v, mask.to(device), key_mask=key_mask.to(device))

    compared(run, tensors, device)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("heads", "masked"), [(1, True), (2, False)])
def test_nonlocal(heads, masked, dtype, device) -> None:
    shapes = ((2, 4, 5, 17), (2, 4, 7, 13), (2, 6, 7, 13))  # more than one tile on both sides
    tensors = [noise(*shape, seed=i).to(dtype) for i, shape in enumerate(shapes)]
    masks = [None, None]
    if masked:
        masks = [selection(2, 1, *s[2:], seed=i, share=0.9).to(device)
                 for i, s in enumerate(shapes[:2])]  # fmt: skip
        masks[1][1] = False

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ops.nonlocal_attention(q, k, v, *masks, heads=heads)

    compared(run, tensors, device)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gate(dtype, device) -> None:
    soft = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(4)) * 1.6 - 0.3
    tensors = [noise(2, 3, 5, 7, seed=i).to(dtype) for i in range(2)]
    tensors += [noise(2, 4, 5, 7, seed=2).to(dtype), soft.to(dtype)]
    compared(ops.similarity_gate, tensors, device)
    mask = (soft > 0).to(device)
    compared(lambda t, p, f: ops.similarity_gate(t, p, f, mask), tensors[:3], device)


@pytest.mark.parametrize(("channels", "lists"), [(3, 1), (4, 2), (5, 4)])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gated_mean(dtype, channels, lists, device) -> None:
    soft = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(4)) * 1.6 - 0.3
    tensors = [noise(2, 4, channels, 5, 7, seed=0), noise(2, channels, 5, 7, seed=1), soft]
    tensors = [t.to(dtype) for t in tensors]
    tensors[0] = tensors[0].transpose(1, 2).contiguous().transpose(1, 2)

    def run(w: Tensor, own: Tensor, mask: Tensor) -> Tensor:
        return ops.gated_mean(w, own, mask, lists=lists)

    compared(run, tensors, device)
    hard = (soft > 0).to(device)
    compared(lambda w, own: run(w, own, hard), tensors[:2], device)


def test_gated_mean_outside_the_mask(device) -> None:
    w, own = noise(1, 2, 3, 5, 7, seed=0).to(device), noise(1, 3, 5, 7, seed=1).to(device)
    inside = selection(1, 1, 5, 7, seed=2).to(device)
    leaves = [w.requires_grad_(), torch.where(inside, own, torch.nan).requires_grad_()]
    with ops.backend("triton"):
        out = ops.gated_mean(*leaves, inside, lists=2)
    outside = ~inside[:, None].expand_as(w)
    assert torch.equal(out[outside], w[outside])
    grads = torch.autograd.grad(out.sum(), leaves)
    assert (grads[0][outside] == 1).all()
    assert grads[0].isfinite().all()
    assert (grads[1][~inside.expand_as(own)] == 0).all()
    assert grads[1].isfinite().all()


def test_the_folder_stands_alone() -> None:
    """Importing the kernels brings in nothing of vharm's own."""
    code = (
        "import sys; sys.path.insert(0, '.'); import triton_kernels.attention;"
        "assert not any(m == 'vharm' or m.startswith('vharm.') for m in sys.modules)"
    )
    root = Path(ops.__file__).resolve().parents[2]
    if not (root / "triton_kernels").is_dir():
        pytest.skip("an installed package has no bare folder")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)

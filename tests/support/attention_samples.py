# SPDX-License-Identifier: Apache-2.0
"""Inputs and comparisons of the attention family's tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vharm import ops


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def selection(n: int, h: int, w: int, share: float, seed: int = 0) -> Tensor:
    """About `share` of the positions."""
    return torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(seed)) < share


def triple(n: int, cq: int, cv: int, h: int, w: int) -> list[Tensor]:
    return [noise(n, cq, h, w, seed=1), noise(n, cq, h, w, seed=2), noise(n, cv, h, w, seed=3)]


def with_gradients(
    name: str, function: Callable[..., Tensor], tensors: list[Tensor], weight: Tensor
) -> list[Tensor]:
    """The result and the gradients of its weighted sum."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    with ops.backend(name):
        out = function(*leaves)
    return [out.detach(), *torch.autograd.grad((out.float() * weight).sum(), leaves)]


def agree(found: list[Tensor], expected: list[Tensor], relative: float = 1e-5) -> None:
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape
        assert f.isfinite().all()
        error = (f.double() - e.double()).abs().max() if f.numel() else torch.zeros(())
        assert error <= relative * (1 + e.double().abs().max() if e.numel() else 1)

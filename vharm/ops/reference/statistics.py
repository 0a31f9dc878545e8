# SPDX-License-Identifier: Apache-2.0
"""Masked colour statistics, Gram matrices and differences of neighbours in plain PyTorch."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def masked_moments(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean `[N,3]`, covariance `[N,3,3]` and weight `[N]` of `[N,3,H,W]` under `[N,1,H,W]`.

    The covariance divides by the weight. Values that are not finite count as 0 where the mask
    is 0.
    """
    v, m = image.flatten(2), mask.flatten(2)
    v = torch.where((m == 0) & ~v.isfinite(), torch.zeros_like(v), v)
    weight = m.sum((1, 2))
    some = weight > 0
    share = m / torch.where(some, weight, torch.ones_like(weight))[:, None, None]
    mean = (share * v).sum(2)
    centred = v - mean[..., None]
    covariance = (share * centred) @ centred.transpose(1, 2)
    zero = torch.zeros_like(mean)
    return (
        torch.where(some[:, None], mean, zero),
        torch.where(some[:, None, None], covariance, torch.zeros_like(covariance)),
        weight,
    )


def gram(tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
    """`[S,C,C]`: F^T F of the rows `[cu_seqlens[s], cu_seqlens[s + 1])` of `[K,C]`."""
    bounds = cu_seqlens.tolist()
    parts = [tokens[a:b] for a, b in itertools.pairwise(bounds)]
    c = tokens.shape[1]
    return torch.stack([f.T @ f for f in parts]) if parts else tokens.new_zeros(0, c, c)


def patch_balance(image: Tensor) -> Tensor:
    """`[N]`: sum over `[N,C,H,W]` of squared differences of horizontal and vertical neighbours."""
    across, down = image.diff(dim=3), image.diff(dim=2)
    return across.square().sum((1, 2, 3)) + down.square().sum((1, 2, 3))

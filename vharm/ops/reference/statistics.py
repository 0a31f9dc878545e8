# SPDX-License-Identifier: Apache-2.0
"""Masked colour statistics in plain PyTorch."""

from __future__ import annotations

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

# SPDX-License-Identifier: Apache-2.0
"""Masked colour statistics, Gram matrices and differences of neighbours in plain PyTorch."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

# What a histogram is divided by at least, so that a trace of weight is no histogram.
LEAST_WEIGHT = 1e-4


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


def masked_histogram(image: Tensor, mask: Tensor, bins: int) -> Tensor:
    """Soft histograms `[N,C,bins]` of `[N,C,H,W]` under `[N,1,H,W]`: bin k is at k / (bins - 1).

    A value, clamped to [0,1], is shared by the two nearest bins in proportion to its nearness. The
    counts are divided by the mask's sum or `LEAST_WEIGHT`, whichever is more. A NaN counts as 0
    where the mask is 0.
    """
    m = mask.flatten(2)
    lower, share = _nearest_bins(_counted_values(image.flatten(2), m), bins)
    each = m.expand_as(share)
    nothing = share.new_zeros(*share.shape[:2], bins)
    # What goes to the upper bins is gathered in the lower ones too, and moved up in the end: one
    # set of places for both.
    upper = nothing.scatter_add(2, lower, each * share)
    counts = nothing.scatter_add(2, lower, each) - upper + F.pad(upper[..., :-1], (1, 0))
    return counts / m.sum(2).clamp(min=LEAST_WEIGHT)[..., None]


def masked_histogram_backward(
    grad: Tensor, image: Tensor, mask: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients `[N,C,H,W]` and `[N,1,H,W]` from those of `masked_histogram`'s result `counts`."""
    m, bins = mask.flatten(2), counts.shape[2]
    v = _counted_values(image.flatten(2), m)
    lower, share = _nearest_bins(v, bins)
    weight = m.sum(2, keepdim=True)
    divisor = weight.clamp(min=LEAST_WEIGHT)
    here = grad.gather(2, lower)
    step = grad.gather(2, lower + 1) - here
    inside = (v >= 0) & (v <= 1)
    grad_image = torch.where(inside, step, torch.zeros_like(step)) * m * ((bins - 1) / divisor)
    # A divisor that the mask does not move has no part in its gradient.
    whole = (grad * counts).sum((1, 2), keepdim=True) * (weight >= LEAST_WEIGHT)
    grad_mask = ((here + share * step).sum(1, keepdim=True) - whole) / divisor
    return grad_image.view(image.shape), grad_mask.view(mask.shape)


def _counted_values(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where((mask == 0) & values.isnan(), torch.zeros_like(values), values)


def _nearest_bins(values: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """The lower of each value's two bins, and the share of the upper one."""
    place = values.clamp(0, 1) * (bins - 1)
    lower = place.detach().nan_to_num(0.0).floor().clamp(max=bins - 2)
    return lower.long(), place - lower


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

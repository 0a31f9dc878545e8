# SPDX-License-Identifier: Apache-2.0
"""What a network is told of foreground and background apart from each other.

Global average pooling mixes both regions, and a small foreground drowns in it; batch normalisation
blurs what the colours are exactly. These parts give the regressor both.

Shapes use B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.ops.statistics import masked_moments

BINS = 16
# Variances of colours in [0,1] are small beside the other inputs.
COVARIANCE_SCALE = 10.0
LEAST_WEIGHT = 1e-4


def pool_regions(features: Tensor, mask: Tensor) -> Tensor:
    """Means of features [B,C,h,w] over all, the foreground and the background: [B,3C].

    Args:
        features: of any resolution.
        mask: [B,1,H,W] in [0,1]; averaged to the features' resolution. A region that is not there
            gives zeros.
    """
    inside = F.adaptive_avg_pool2d(mask, features.shape[-2:]).to(features.dtype)
    parts = [features.mean((2, 3))]
    for weight in (inside, 1 - inside):
        total = weight.sum((2, 3)).clamp(min=LEAST_WEIGHT)
        parts.append((features * weight).sum((2, 3)) / total)
    return torch.cat(parts, 1)


def histograms(image: Tensor, weight: Tensor, bins: int = BINS) -> Tensor:
    """Weighted histogram of each channel, [B,C,bins], summing to 1 (0 where nothing counts).

    A value is shared between the two nearest bins, so that small changes of colour show.

    Args:
        image: [B,C,H,W] in [0,1].
        weight: [B,1,H,W], not negative.
        bins: bin k stands for the value k / (bins - 1).
    """
    return _counted(*_shared(image, bins), weight, bins)


def _shared(image: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """The lower of each value's two bins, and the share of the upper one: [B,C,P]."""
    place = image.flatten(2).clamp(0, 1) * (bins - 1)
    lower = place.floor().clamp(max=bins - 2)
    return lower.long(), place - lower


def _counted(lower: Tensor, upper_share: Tensor, weight: Tensor, bins: int) -> Tensor:
    each = weight.flatten(2).expand_as(upper_share)
    nothing = upper_share.new_zeros(*upper_share.shape[:2], bins)
    # What goes to the upper bins is gathered in the lower ones too, and moved up in the end: one
    # set of places for both.
    upper = nothing.scatter_add(2, lower, each * upper_share)
    counts = nothing.scatter_add(2, lower, each) - upper + F.pad(upper[..., :-1], (1, 0))
    return counts / weight.sum((2, 3)).clamp(min=LEAST_WEIGHT)[..., None]


class RegionColours(nn.Module):
    """Colours of both regions: histograms, plain and cumulated, means and covariances.

    Args:
        width: of the output and the layers before it.
    """

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        inputs = 2 * (2 * 3 * BINS + 3 + 6)
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.width = width

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image [B,3,H,W] and mask [B,1,H,W], both in [0,1], to [B,width]."""
        image, mask = image.float(), mask.float()
        upper = torch.triu_indices(3, 3, device=image.device)
        places = _shared(image, BINS)
        parts = []
        for weight in (mask, 1 - mask):
            counts = _counted(*places, weight, BINS)
            mean, covariance, _ = masked_moments(image, weight)
            entries = covariance[:, upper[0], upper[1]] * COVARIANCE_SCALE
            parts += [counts.flatten(1), counts.cumsum(2).flatten(1), mean, entries]
        return self.layers(torch.cat(parts, 1))

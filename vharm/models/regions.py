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

from vharm.ops.statistics import masked_histogram, masked_moments

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
        parts = []
        for weight in (mask, 1 - mask):
            counts = masked_histogram(image, weight, bins=BINS)
            mean, covariance, _ = masked_moments(image, weight)
            entries = covariance[:, upper[0], upper[1]] * COVARIANCE_SCALE
            parts += [counts.flatten(1), counts.cumsum(2).flatten(1), mean, entries]
        return self.layers(torch.cat(parts, 1))

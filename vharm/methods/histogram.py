# SPDX-License-Identifier: Apache-2.0
"""Matching of each channel's histogram, foreground to background.

The textbook method (R. Gonzalez, R. Woods, "Digital Image Processing", section 3.3) on smoothed
histograms, with the slope of the curve limited.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .transfer import ColourTransfer

BINS = 256
# Standard deviation of the smoothing of the histograms, in bins: no steps in the curve.
SMOOTHING = 6.0
# The slope of the curve is kept within 1/2 to 2: no posterised skies, no crushed shadows.
SLOPE_LIMIT = 2.0


def weighted_histogram(pictures: Tensor, weights: Tensor) -> Tensor:
    """Smoothed histograms [B,3,256], each summing to 1, of pictures [B,3,h,w] in [0,1].

    Each sample is shared linearly by its two neighbouring levels.
    """
    count = pictures.shape[0]
    at = pictures.clamp(0, 1).flatten(2) * (BINS - 1)
    below = at.floor().clamp(max=BINS - 2)
    upper = (at - below) * weights.flatten(2)
    lower = weights.flatten(2) - upper
    index = below.long()
    histogram = pictures.new_zeros(count, 3, BINS)
    histogram.scatter_add_(2, index, lower).scatter_add_(2, index + 1, upper)
    offsets = torch.arange(-3 * int(SMOOTHING), 3 * int(SMOOTHING) + 1, dtype=histogram.dtype)
    kernel = torch.exp(-0.5 * (offsets / SMOOTHING) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1).to(pictures.device)
    smooth = F.conv1d(
        F.pad(histogram, (len(offsets) // 2,) * 2, mode="reflect").flatten(0, 1)[:, None], kernel
    ).reshape(count, 3, BINS)
    return smooth / smooth.sum(2, keepdim=True).clamp(min=1e-12)


def matching_curve(source: Tensor, target: Tensor, *, limit: float | None = SLOPE_LIMIT) -> Tensor:
    """The non-decreasing curve [256] that brings one histogram [256] to the other.

    Args:
        source: histogram over the levels 0..255, summing to 1.
        target: likewise.
        limit: bounds of the slope are 1/limit and limit; None for the exact matching. The mean
            of the source after the limited curve is that after the exact one.

    Returns:
        Output values in [0,1] for the 256 input levels (beyond, where limited).
    """
    levels = torch.linspace(0, 1, BINS, dtype=torch.float64)
    source, target = source.double(), target.double()
    here, there = source.cumsum(0) - source / 2, target.cumsum(0) - target / 2
    curve = _interpolate(here, there, levels)
    if limit is None:
        return curve
    steps = curve.diff().clamp(1 / (limit * (BINS - 1)), limit / (BINS - 1))
    bounded = torch.cat((steps.new_zeros(1), steps.cumsum(0)))
    return bounded + ((curve - bounded) * source).sum() / source.sum().clamp(min=1e-12)


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear y(at) over non-decreasing x, held at both ends."""
    upper = torch.searchsorted(x, at, right=True).clamp(1, len(x) - 1)
    low, high = x[upper - 1], x[upper]
    part = ((at - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return torch.lerp(y[upper - 1], y[upper], part)


class Histogram(ColourTransfer):
    name = "histogram"
    summary = "the histogram of each RGB channel, smoothed and with limited slope"
    when_to_use = "where tone curves differ (faded, crushed or solarised material)."
    source = "Gonzalez and Woods, Digital Image Processing, section 3.3"

    def describe(self, pictures: Tensor, weights: Tensor) -> list[Any]:
        return list(weighted_histogram(pictures.cpu(), weights.cpu()))

    def transfer(self, source: Any, target: Any, colours: Tensor) -> Tensor:
        levels = torch.linspace(0, 1, BINS, dtype=torch.float64)
        columns = [
            _interpolate(
                colours[:, c].contiguous().double(), levels, matching_curve(source[c], target[c])
            )
            for c in range(3)
        ]
        return torch.stack(columns, 1).to(colours.dtype)

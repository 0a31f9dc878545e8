# SPDX-License-Identifier: Apache-2.0
"""Mean and deviation of each CIELAB channel, foreground to background.

Source: E. Reinhard, M. Ashikhmin, B. Gooch, P. Shirley, "Color Transfer between Images" (IEEE
CG&A, 2001). The paper works in l-alpha-beta; CIELAB (D65, from sRGB) is used here: its lightness
is the better one near black, where l-alpha-beta takes logarithms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vharm.color import lab_to_rgb, rgb_to_lab

from .transfer import ColourTransfer, region_moments

# Added to both deviations (squared), in Lab units: a flat region has no contrast to stretch.
FLOOR = 2.0
# A deviation is scaled by 1/2 to 2: beyond, noise and compression blocks come to light.
GAIN_LIMIT = 2.0


def lab_gain(source: Tensor, target: Tensor) -> Tensor:
    """The factors [3] that bring variances [3] from `source` to `target`, regularised."""
    gain = torch.sqrt((target + FLOOR**2) / (source + FLOOR**2))
    return gain.clamp(1 / GAIN_LIMIT, GAIN_LIMIT)


class Reinhard(ColourTransfer):
    name = "reinhard"
    summary = "mean and deviation of each CIELAB channel"
    when_to_use = "where the whole foreground is off in brightness or tint and little else."
    source = "Reinhard et al., Color Transfer between Images, IEEE CG&A 2001"

    def describe(self, pictures: Tensor, weights: Tensor) -> list[Any]:
        lab = rgb_to_lab(pictures.movedim(1, -1)).movedim(-1, 1)
        return region_moments(lab, weights)

    def transfer(self, source: Any, target: Any, colours: Tensor) -> Tensor:
        gain = lab_gain(source.covariance.diagonal(), target.covariance.diagonal())
        lab = (rgb_to_lab(colours) - source.mean) * gain + target.mean
        # Below black the sRGB curve is 13 times as steep: what leaves the gamut must not count.
        return lab_to_rgb(lab).clamp(0, 1)

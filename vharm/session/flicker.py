# SPDX-License-Identifier: Apache-2.0
"""How much a Look changes the foreground's mean colour, and how steady that is."""

from __future__ import annotations

import math
import operator

from torch import Tensor

from ..media.frame import ColorSpec, yuv_format
from ..ops import plane_means

# Points looked at along the longer side of a plane.
_POINTS = 64


class FlickerMeter:
    """Streaming standard deviation of a colour change, pooled over shots (Welford's update)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = [0.0, 0.0, 0.0]
        self._squares = 0.0
        self._freedom = 0

    def cut(self) -> None:
        """A change of the Look between two shots is no flicker."""
        self._freedom += max(self._count - 1, 0)
        self._count, self._mean = 0, [0.0, 0.0, 0.0]

    def update(self, change: tuple[float, float, float]) -> None:
        """Takes in one frame's mean foreground change, output minus input, RGB in [0,1]."""
        self._count += 1
        for channel, value in enumerate(change):
            before = value - self._mean[channel]
            self._mean[channel] += before / self._count
            self._squares += before * (value - self._mean[channel])

    def value(self) -> float | None:
        """Root mean square over channels, 0-255; None while no shot has two frames."""
        freedom = self._freedom + max(self._count - 1, 0)
        return None if freedom == 0 else 255.0 * math.sqrt(self._squares / (3 * freedom))


def foreground_mean(
    planes: tuple[Tensor, ...], mask: Tensor, black: float, color: ColorSpec
) -> tuple[float, float, float] | None:
    """A frame's mean foreground colour, on a grid of points.

    The grid is the mask's: between frames with the same mask, texture cancels.

    Args:
        planes: the frame's.
        mask: [H,W] samples.
        black: their value for "outside".
        color: what the planes hold.

    Returns:
        (red, green, blue), those of white less those of black being 1, up to a constant (that of
        YUV's black); None where no point of the grid is in the foreground.
    """
    across, down = color.subsampling if color.layout == "yuv" else (0, 0)
    shift = max(across, down)
    planes = _single(planes)
    mask = mask.to(planes[0].device)
    for points in (_POINTS, 4 * _POINTS):
        # A foreground of few pixels may lie between the points of the coarse grid.
        step = max(1, -(-max(mask.shape) // points) >> shift) << shift
        means = plane_means(planes, mask, step, black=black, subsampling=(across, down))
        if means is not None:
            return _as_rgb(means, color)
    return None


def _single(planes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The channels of interleaved pictures as planes."""
    return planes[0].detach().unbind(-1) if planes[0].ndim == 3 else planes


def _as_rgb(means: list[float], color: ColorSpec) -> tuple[float, float, float]:
    if color.layout == "yuv":
        m = yuv_format(color).native()[0]
        # The matrix is linear, and takes means as it takes samples.
        red, green, blue = (sum(map(operator.mul, m[i : i + 3], means)) for i in (0, 3, 6))
        return red, green, blue
    span = color.white - color.black
    values = [value / span for value in means]
    return (values[0],) * 3 if len(values) == 1 else (values[0], values[1], values[2])

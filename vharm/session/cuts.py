# SPDX-License-Identifier: Apache-2.0
"""Finding hard cuts while frames stream by."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor

CUT_THRESHOLD = 0.35
"""Score from which a frame begins a new shot; see `cut_score`.

Measured on 420 joins of unrelated pictures and shots: 99 of 100 score above it (median 0.69).
Neighbouring frames of ordinary footage stay below 0.02 (below 0.09 with every fourth frame),
pans by a sixth of the width a frame below 0.35 in 99 of 100, sudden changes of exposure by two
thirds of a stop below 0.16 in 99 of 100.
"""

_FINE, _BINS = (36, 64), 16  # the coarse picture has half the size of the fine one
_LUMA = (0.2126, 0.7152, 0.0722)
# Flat pictures have no structure to compare: noise of a hundredth does not count as any.
_FLAT = 0.01**2


class CutDetector:
    """Says of each frame whether it begins a new shot; keeps the preceding thumbnail only.

    Args:
        threshold: lower finds more cuts, `math.inf` none.
    """

    def __init__(self, threshold: float = CUT_THRESHOLD) -> None:
        self.threshold = threshold
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def update(self, thumbnail: Tensor) -> bool:
        """Takes in the next thumbnail, RGB `[3,h,w]` float in [0,1]; the first is no cut."""
        now = _describe(thumbnail)
        before, self._before = self._before, now
        return before is not None and _score(before, now) >= self.threshold


def cut_size(layout: str) -> tuple[int, int]:
    """(height, width) of the thumbnails that are enough to find cuts in frames of that layout."""
    # Of RGB pictures thumbnails take some rows and columns only: more of them, against aliasing.
    scale = 1 if layout == "yuv" else 4
    return _FINE[0] * scale, _FINE[1] * scale


def cut_score(before: Tensor, after: Tensor) -> float:
    """How much two thumbnails, RGB `[3,h,w]` float in [0,1], look like two shots.

    The mean absolute colour difference plus half the sum of absolute differences of the colour
    histograms, times `min(1, 2 (1 - r))` with r the correlation of luma over the picture: motion
    keeps the histogram, a change of light keeps the structure, a cut keeps neither. 0 to 2.
    """
    return _score(_describe(before), _describe(after))


def _describe(thumbnail: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """A coarse picture [3,18,32] and histograms [3,16], each value shared by its two bins."""
    fine = thumbnail
    if tuple(fine.shape[1:]) != _FINE:
        fine = F.adaptive_avg_pool2d(fine[None], _FINE)[0]
    # A handful of numbers: numpy is done before torch has begun.
    picture = fine.numpy(force=True)
    upper, lower = picture[:, ::2], picture[:, 1::2]
    coarse = (upper[..., ::2] + upper[..., 1::2] + lower[..., ::2] + lower[..., 1::2]) / 4
    place = picture.reshape(3, -1).clip(0, 1) * (_BINS - 1)
    low = np.minimum(place.astype(np.int64), _BINS - 2)
    share = place - low
    low += _BINS * np.arange(3)[:, None]
    histogram = np.bincount(low.ravel(), (1 - share).ravel(), 3 * _BINS)
    histogram += np.bincount(low.ravel() + 1, share.ravel(), 3 * _BINS)
    return coarse, histogram.reshape(3, _BINS) / place.shape[1]


def _score(before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> float:
    (first, first_histogram), (second, second_histogram) = before, after
    colour = np.abs(first - second).mean()
    histogram = 0.5 * np.abs(first_histogram - second_histogram).sum(1).mean()
    x, y = (np.tensordot(_LUMA, picture, 1).ravel() for picture in (first, second))
    x, y = x - x.mean(), y - y.mean()
    floor = _FLAT * x.size
    r = (x @ y + floor) / math.sqrt((x @ x + floor) * (y @ y + floor))
    return float((colour + histogram) * min(max(2 * (1 - r), 0), 1))

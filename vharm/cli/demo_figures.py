# SPDX-License-Identifier: Apache-2.0
"""How far a clip is from the truth: the demo's figures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Figures:
    """Distances from the truth on the 0-255 scale, means over frames.

    foreground_mse: squared error where the mask is above one half, over 3 channels.
    psnr: dB over the whole frame, data range 255.
    drift: standard deviation over time, within shots, of the foreground's mean error (root mean
    square over channels): what is seen as flicker, apart from a constant difference.
    """

    foreground_mse: float
    psnr: float
    drift: float


def measure(
    pictures: Iterable[np.ndarray], truths: Iterable[np.ndarray], masks: Iterable[np.ndarray],
    cut: int,
) -> Figures:  # fmt: skip
    """Compares uint8 RGB [H,W,3] frames with the truth under masks [H,W]; shots part at `cut`.

    Raises:
        ValueError: the clips differ in length, or a mask is empty.
    """
    inside, overall, means = [], [], []
    for picture, truth, mask in zip(pictures, truths, masks, strict=True):
        error = picture.astype(np.float64) - truth
        where = mask > 127
        if not where.any():
            raise ValueError(f"masks: number {len(means)} is empty")
        inside.append(float((error[where] ** 2).mean()))
        overall.append(10 * math.log10(255**2 / max(float((error**2).mean()), 1e-9)))
        means.append(error[where].mean(axis=0))
    shots = [np.array(part) for part in (means[:cut], means[cut:])]
    rest = np.concatenate([shot - shot.mean(axis=0) for shot in shots])
    return Figures(
        float(np.mean(inside)), float(np.mean(overall)), float(np.sqrt((rest**2).mean()))
    )

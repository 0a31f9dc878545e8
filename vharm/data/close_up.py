# SPDX-License-Identifier: Apache-2.0
"""Scenes with large foregrounds, cut out of scenes with smaller ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from .errors import DataError
from .joined import names_of
from .types import Scene

LEAST_SIDE = 64
STEP = 0.97
SLACK = 0.1
"""How far a foreground's share may be above the one asked for, of the whole frame."""


class CloseUps:
    """Each scene cropped around its foreground, until that takes a given share of the frame.

    Crops keep the frame's aspect, are as large as can be, and have the foreground's centre in
    their middle as far as the frame allows. Scenes where no crop will do are left out: those with
    holes or thin parts, those that are too small, and those whose foreground is larger already.
    In a clip the first mask decides, for all frames.

    Args:
        scenes: a set of natural scenes.
        share: of the frame, what the foreground is to take, up to 0.1 more.

    Raises:
        ValueError: a share that is not between 0 and 0.9.
        DataError: no scene can be cropped like that.
    """

    def __init__(self, scenes: Any, share: float) -> None:
        if not 0 < share <= 0.9:
            raise ValueError(f"share: expected more than 0, at most 0.9, got {share}")
        self.scenes, self.share = scenes, share
        found = [crop_around(scenes[index].masks[0, 0], share) for index in range(len(scenes))]
        self.crops = {index: crop for index, crop in enumerate(found) if crop is not None}
        self.positions = tuple(self.crops)
        if not self.positions:
            raise DataError(f"none of {len(found)} scenes has a foreground to take {share:.0%}")
        names = names_of(scenes)
        self.names = tuple(names[index] for index in self.positions)
        self.subsets = getattr(scenes, "subsets", ())
        self.description = (
            f"{len(self.positions)} close-ups with foregrounds of {share:.0%} to "
            f"{share + SLACK:.0%}, from {getattr(scenes, 'description', '') or len(found)}"
        )

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Scene:
        position = self.positions[index]
        scene = self.scenes[position]
        place = (..., *self.crops[position])
        return replace(
            scene, frames=scene.frames[place].contiguous(), masks=scene.masks[place].contiguous()
        )


def crop_around(mask: Tensor, share: float) -> tuple[slice, slice] | None:
    """The largest crop of `mask` uint8 [H,W], of its aspect, that it covers to `share` or more.

    Returns:
        Rows and columns; None if there is no such crop, or it would be covered by 0.1 more.
    """
    inside = mask.numpy() > 127
    if not inside.any():
        return None
    height, width = inside.shape
    sums = np.pad(inside, ((1, 0), (1, 0))).cumsum(0, dtype=np.int64).cumsum(1)
    centre = [float(at.mean()) for at in np.nonzero(inside)]
    scale = 1.0
    while round(min(height, width) * scale) >= min(LEAST_SIDE, height, width):
        rows, columns = round(height * scale), round(width * scale)
        top = min(max(round(centre[0] - rows / 2), 0), height - rows)
        left = min(max(round(centre[1] - columns / 2), 0), width - columns)
        covered = (
            sums[top + rows, left + columns] - sums[top, left + columns]
            - sums[top + rows, left] + sums[top, left]
        ) / (rows * columns)  # fmt: skip
        if covered >= share:
            crop = slice(top, top + rows), slice(left, left + columns)
            return crop if covered <= share + SLACK else None
        scale *= STEP
    return None

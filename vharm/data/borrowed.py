# SPDX-License-Identifier: Apache-2.0
"""Masks for photographs that have none: borrowed from another set, or drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._pictures import require_cv2, resize_picture
from .errors import DataError
from .joined import names_of
from .seeding import generators
from .types import Scene

_TRIES = 20


class BorrowedMasks:
    """Scenes of photographs, each with a mask of another set or a drawn one.

    The same (seed, epoch, index) gives the same scene in any process.

    Args:
        photos: `UnmaskedPhotos`, or a set of scenes whose own masks are then not used.
        lender: a set of scenes; None draws all masks.
        seed, epoch: of the choice.
        drawn: share of masks that are drawn: smooth blobs and polygons.
        coverage: least and largest share of the picture that a mask may take.

    Raises:
        ValueError: drawn or coverage out of range, or no lender and drawn below 1.
    """

    def __init__(
        self,
        photos: Any,
        lender: Any = None,
        *,
        seed: int = 0,
        epoch: int = 0,
        drawn: float | None = None,
        coverage: tuple[float, float] = (0.01, 0.8),
    ) -> None:
        share = (1.0 if lender is None else 0.0) if drawn is None else drawn
        if not 0 <= share <= 1 or (lender is None and share < 1):
            raise ValueError(f"drawn: expected 0 to 1 (1 where nobody lends masks), got {drawn}")
        if not 0 <= coverage[0] < coverage[1] <= 1:
            raise ValueError(f"coverage: expected 0 <= least < largest <= 1, got {coverage}")
        self.photos, self.lender, self.seed, self.epoch = photos, lender, seed, epoch
        self.drawn, self.coverage = share, coverage
        self.names, self.subsets = names_of(photos), ("borrowed",)
        masks = "drawn masks" if share == 1 else "borrowed masks"
        masks += f" ({share:.0%} drawn)" if 0 < share < 1 else ""
        self.description = f"{len(photos)} photographs with {masks}"

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Scene:
        photo = self.photos[index]
        frames = photo if isinstance(photo, Tensor) else photo.frames
        mask = self._mask(index % len(self), tuple(frames.shape[-2:]))
        masks = torch.from_numpy(mask)[None, None].repeat(len(frames), 1, 1, 1)
        return Scene(self.names[index], frames, masks, "borrowed")

    def _mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        random, _ = generators(self.seed, self.epoch, index)
        draws = bool(random.random() < self.drawn)
        for _ in range(_TRIES):
            mask = draw_mask(random, size) if draws else self._lent(random, size)
            if self.coverage[0] <= mask.mean() / 255 <= self.coverage[1]:
                return mask
        least, largest = self.coverage
        raise DataError(
            f"{self.names[index]}: {_TRIES} masks in a row do not cover {least:.0%} to "
            f"{largest:.0%} of the picture; widen coverage"
        )

    def _lent(self, random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        place = int(random.integers(len(self.lender)))
        read = getattr(self.lender, "masks", None)
        masks = read(place) if read is not None else self.lender[place].masks
        mask = masks[int(random.integers(len(masks))), 0].numpy()
        # Upside down is no way for things to lie; a quarter turn is not either.
        if random.random() < 0.5:
            mask = mask[:, ::-1]
        return resize_picture(np.ascontiguousarray(mask), size)


def draw_mask(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A random blob or polygon, uint8 [H,W], with soft edges of about a pixel.

    The radius is a random function of the angle: a few sines (blob), or straight lines between
    3 to 9 corners (polygon).
    """
    cv2 = require_cv2()
    height, width = size
    scale = 1 + 3 * (max(size) <= 512)
    if random.random() < 0.5:
        angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        waves = np.arange(1, 6)
        sizes = random.normal(0, 0.35, 5) / waves
        phases = random.uniform(0, 2 * np.pi, 5)
        radii = 1 + (sizes * np.sin(np.outer(angles, waves) + phases)).sum(axis=1)
        radii = np.clip(radii, 0.25, 2.0)
    else:
        corners = int(random.integers(3, 10))
        angles = np.sort(random.uniform(0, 2 * np.pi, corners))
        radii = random.uniform(0.5, 1.3, corners)
    radius = random.uniform(0.12, 0.45) * np.sqrt(height * width)
    aspect = np.exp(random.normal(0, 0.3))
    middle = random.uniform(0.2, 0.8, 2) * (width, height)
    turn = random.uniform(0, np.pi)
    points = np.stack([np.cos(angles) * aspect, np.sin(angles) / aspect], 1) * radii[:, None]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (points @ rotation.T * radius + middle) * scale
    canvas = np.zeros((height * scale, width * scale), np.uint8)
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 255)
    return resize_picture(canvas, size)

# SPDX-License-Identifier: Apache-2.0
"""Training pictures from scenes: kept in memory small, cropped, flipped and turned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import seeding
from .types import DataSet, Scene

# A crop must keep this share of its own area, and of the object, marked.
LEAST_COVERAGE = 0.01
LEAST_KEPT = 0.5
MOST_COVERAGE = 0.9
CROP_TRIALS = 8


class Cached:
    """Scenes as squares in memory, read once.

    Args:
        scenes: pictures; of clips the first frame is taken.
        size: side in pixels; the aspect is not kept, as the networks do not keep it either.
    """

    def __init__(self, scenes: DataSet[Scene], size: int = 256) -> None:
        self.size = size
        self.names: list[str] = []
        self.frames = torch.empty(len(scenes), 3, size, size, dtype=torch.uint8)
        self.masks = torch.empty(len(scenes), 1, size, size, dtype=torch.uint8)
        for i in range(len(scenes)):
            scene = scenes[i]
            self.names.append(scene.name)
            self.frames[i] = resized(scene.frames[:1], size)[0]
            self.masks[i] = resized(scene.masks[:1], size)[0]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Scene:
        return Scene(self.names[index], self.frames[index][None], self.masks[index][None])


def resized(picture: Tensor, size: int) -> Tensor:
    """Uint8 [N,C,H,W] as [N,C,size,size], bilinear and antialiased."""
    if picture.shape[-2:] == (size, size):
        return picture
    return F.interpolate(picture, (size, size), mode="bilinear", antialias=True)


def augmented(
    frame: Tensor, mask: Tensor, size: int, source: torch.Generator, *, least_side: float = 0.6,
    flip: bool = True, rotate: bool = True,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A random crop at the size wanted, flipped and turned at random.

    Args:
        frame: uint8 [3,H,W].
        mask: uint8 [1,H,W].
        size: side of what is returned.
        source: what is drawn from.
        least_side: the crop's least side, as a share of the frame's.
        flip: left for right, one time in two.
        rotate: by a multiple of 90 degrees, one time in two.

    Returns:
        uint8 [3,size,size] and [1,size,size]. The crop keeps at least half of the marked area, and
        some background, where the frame allows it.
    """
    both = torch.cat((frame, mask))
    rows, columns = _crop(mask[0] > 127, source, least_side)
    both = resized(both[:, rows, columns][None], size)[0]
    if flip and seeding.chance(source, 0.5):
        both = both.flip(2)
    if rotate and seeding.chance(source, 0.5):
        both = both.rot90(1 + seeding.integer(source, 3), (1, 2))
    return both[:3].contiguous(), both[3:].contiguous()


def _crop(inside: Tensor, source: torch.Generator, least_side: float) -> tuple[slice, slice]:
    height, width = inside.shape
    total = int(inside.sum())
    for _ in range(CROP_TRIALS):
        rows = _span(height, source, least_side)
        columns = _span(width, source, least_side)
        part = inside[rows, columns]
        kept = int(part.sum())
        share = kept / max(part.numel(), 1)
        if kept >= LEAST_KEPT * total and LEAST_COVERAGE <= share <= MOST_COVERAGE:
            return rows, columns
    return slice(0, height), slice(0, width)


def _span(length: int, source: torch.Generator, least: float) -> slice:
    size = max(round(length * seeding.uniform(source, least, 1)), 1)
    start = seeding.integer(source, length - size + 1)
    return slice(start, start + size)

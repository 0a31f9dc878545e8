# SPDX-License-Identifier: Apache-2.0
"""Training pictures from scenes: kept in memory small, cropped, flipped and turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import seeding
from .types import DataSet, Sample, Scene

# A crop must keep this share of its own area, and of the object, marked.
LEAST_COVERAGE = 0.01
LEAST_KEPT = 0.5
MOST_COVERAGE = 0.9
CROP_TRIALS = 8
# Larger sets stay on disk. Processes that load data share what is in memory.
MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class Square:
    """A picture as a network is trained on it, uint8.

    Attributes:
        frame: [3,S,S], the photograph.
        mask: [1,S,S]; None of a photograph without one.
        composite: [3,S,S] that the set has of it, or None.
    """

    frame: Tensor
    mask: Tensor | None = None
    composite: Tensor | None = None


class Cached:
    """Pictures of a set as squares: in memory if they fit, else read when they are asked for.

    Args:
        data: scenes, composites with their answers, or photographs without masks; all of one
            kind. Of clips the first frame is taken.
        size: side in pixels; the aspect is not kept, as the networks do not keep it either.
        indices: which of the set's pictures, in the order wanted; None takes all.
        most_bytes: above that the pictures stay where they are.

    Attributes:
        in_memory: whether they fitted.
        channels: 3 of photographs, 4 of scenes, 7 of composites.

    Raises:
        ValueError: no picture, or a composite without an answer.
    """

    def __init__(
        self, data: DataSet[Any], size: int = 256, *, indices: Sequence[int] | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:  # fmt: skip
        self.data, self.size = data, size
        self.indices = list(range(len(data)) if indices is None else indices)
        if not self.indices:
            raise ValueError("data: expected at least one picture, got none")
        first = self._read(0)
        self.channels = len(first)
        self.in_memory = len(self.indices) * first.numel() <= most_bytes
        self._kept: Tensor | None = None
        if self.in_memory:
            self._kept = torch.empty(len(self.indices), *first.shape, dtype=torch.uint8)
            for i in range(len(self.indices)):
                self._kept[i] = self._read(i)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def has_composites(self) -> bool:
        """Whether the set has composites of its own."""
        return self.channels == 7

    def square(self, index: int) -> Square:
        """One of them."""
        planes = self._read(index) if self._kept is None else self._kept[index]
        if self.channels == 3:
            return Square(planes)
        composite = planes[3:6] if self.has_composites else None
        return Square(planes[:3], planes[-1:], composite)

    def __getitem__(self, index: int) -> Scene | Sample:
        """The scene, or the composite, of one frame."""
        place = self.indices[index]
        names = getattr(self.data, "names", None)
        name = str(place) if names is None else names[place]
        square = self.square(index)
        if square.mask is None:
            raise TypeError("data: a photograph without a mask is no scene")
        frames, masks = square.frame[None], square.mask[None]
        if square.composite is None:
            return Scene(name, frames, masks)
        return Sample(name, square.composite[None], masks, frames)

    def _read(self, index: int) -> Tensor:
        """[C,S,S]: the photograph, the composite if there is one, the mask if there is one."""
        place = self.indices[index]
        # Sets that can do so read the first frame and not the whole clip.
        part = getattr(self.data, "part", None)
        found = self.data[place] if part is None else part(place, 0, 1)
        if isinstance(found, Tensor):
            return resized(found[:1], self.size)[0]
        if isinstance(found, Sample):
            if found.target is None:
                raise ValueError(
                    f"data: expected composites with their true answers, {found.name} has none"
                )
            parts = (found.target, found.composite, found.masks)
        else:
            parts = (found.frames, found.masks)
        return torch.cat([resized(p[:1], self.size)[0] for p in parts])


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
        frame: uint8 [C,H,W]; more than three channels are several pictures cropped alike.
        mask: uint8 [1,H,W].
        size: side of what is returned.
        source: what is drawn from.
        least_side: the crop's least side, as a share of the frame's.
        flip: left for right, one time in two.
        rotate: by a multiple of 90 degrees, one time in two.

    Returns:
        uint8 [C,size,size] and [1,size,size]. The crop keeps at least half of the marked area, and
        some background, where the frame allows it.
    """
    both = torch.cat((frame, mask))
    rows, columns = _crop(mask[0] > 127, source, least_side)
    both = resized(both[:, rows, columns][None], size)[0]
    if flip and seeding.chance(source, 0.5):
        both = both.flip(2)
    if rotate and seeding.chance(source, 0.5):
        both = both.rot90(1 + seeding.integer(source, 3), (1, 2))
    return both[:-1].contiguous(), both[-1:].contiguous()


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

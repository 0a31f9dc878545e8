# SPDX-License-Identifier: Apache-2.0
"""What a layout's reader finds, and the sets that hand it out.

A reader lists clips without opening their pictures. `FileScenes` and `FileSamples` read them one
by one, when they are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ._pictures import resize_picture
from ._sources import Source, first_label
from .errors import DataError
from .types import Sample, Scene


@dataclass(frozen=True)
class Problem:
    """Something broken in a data set.

    Attributes:
        name: the clip, or the file, it is about.
        kind: "mask missing", "picture missing", "unreadable", "sizes differ", "mask empty", ...
        detail: what exactly, naming files.
        blocks: the clip cannot be used. A mask without a picture, say, does not block.
    """

    name: str
    kind: str
    detail: str
    blocks: bool = True


@dataclass(frozen=True)
class Clip:
    """One entry of a data set, not read yet.

    Attributes:
        name: unique in its set, without a file ending.
        frames: the natural frames (the true answer where there are composites), or None.
        masks: of the composite or of the natural frames; None for photographs without masks.
        composites: or None for a natural scene.
        subset, split: "" where the layout has none.
    """

    name: str
    frames: Source | None
    masks: Source | None
    composites: Source | None = None
    subset: str = ""
    split: str = ""


@dataclass(frozen=True)
class Scan:
    """What lies in a place: clips, photographs without masks, and what is broken."""

    clips: tuple[Clip, ...]
    problems: tuple[Problem, ...] = ()
    photos: tuple[Clip, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur."""
        return tuple(dict.fromkeys(clip.split for clip in self.clips if clip.split))


class ClipSet:
    """What all sets of clips share: length, names, a sentence about them, and reading a part.

    Attributes:
        names: one for each position.
        subsets: those that occur, in order; () where the layout has none.
        description: one sentence: how many of what, in which layout, from which folder.
        clips: the entries.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        size: tuple[int, int] | None = None,
        description: str = "",
    ) -> None:
        self.clips = tuple(clips)
        self.size = size
        self.names = tuple(clip.name for clip in self.clips)
        self.subsets = tuple(dict.fromkeys(clip.subset for clip in self.clips if clip.subset))
        self.description = description or f"{len(self.clips)} clips"
        repeated = [name for name, times in Counter(self.names).items() if times > 1]
        if repeated:
            raise DataError(f"{repeated[0]}: the name stands for more than one clip")

    def __len__(self) -> int:
        return len(self.clips)

    def count(self, index: int) -> int:
        """How many frames the clip at this position has."""
        clip = self._clip(index)
        return (clip.composites or clip.frames).count()

    def masks(self, index: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Only the masks, uint8 [T,1,H,W]: much quicker than the whole clip."""
        clip = self._clip(index)
        end = clip.masks.count() if stop is None else stop
        return self._read(clip, mask=clip.masks.masks(start, end))["mask"]

    def _clip(self, index: int) -> Clip:
        if not -len(self.clips) <= index < len(self.clips):
            raise IndexError(f"index: expected less than {len(self.clips)}, got {index}")
        return self.clips[index]

    def _range(self, clip: Clip, start: int, stop: int | None) -> tuple[int, int]:
        total = (clip.composites or clip.frames).count()
        end = total if stop is None else stop
        if not 0 <= start < end <= total:
            raise ValueError(
                f"start, stop: expected a part of the {total} frames of {clip.name}, "
                f"got {start} to {end}"
            )
        return start, end

    def _read(self, clip: Clip, **sources: Iterable[np.ndarray]) -> dict[str, Tensor]:
        """uint8 [T,C,H,W] of each source of pictures [H,W] or [H,W,3]; all of one size."""
        first: tuple[str, tuple[int, int]] | None = None
        read = {}
        for kind, pictures in sources.items():
            kept = []
            for number, picture in enumerate(pictures):
                here = (f"{kind} {number}", picture.shape[:2])
                first = first or here
                if here[1] != first[1]:
                    told = " and ".join(f"{what} is {w}x{h}" for what, (h, w) in (first, here))
                    where = first_label(clip.composites or clip.frames)
                    raise DataError(f"{clip.name}: sizes differ: {told} ({where})")
                kept.append(picture if self.size is None else resize_picture(picture, self.size))
            stacked = np.stack(kept)
            stacked = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
            read[kind] = torch.from_numpy(np.ascontiguousarray(stacked))
        return read


class FileScenes(ClipSet):
    """Natural scenes, read when asked for."""

    def __getitem__(self, index: int) -> Scene:
        return self.part(index)

    def part(self, index: int, start: int = 0, stop: int | None = None) -> Scene:
        """Frames start to stop of a clip.

        Raises:
            DataError: a file is unreadable, or picture and mask differ in size.
        """
        clip = self._clip(index)
        start, stop = self._range(clip, start, stop)
        found = self._read(
            clip, frame=clip.frames.colours(start, stop), mask=clip.masks.masks(start, stop)
        )
        return Scene(clip.name, found["frame"], found["mask"], clip.subset)


class FileSamples(ClipSet):
    """Composites with or without their true answer, read when asked for."""

    def __getitem__(self, index: int) -> Sample:
        return self.part(index)

    def part(self, index: int, start: int = 0, stop: int | None = None) -> Sample:
        """Frames start to stop of a clip.

        Raises:
            DataError: a file is unreadable, or composite, mask and answer differ in size.
        """
        clip = self._clip(index)
        start, stop = self._range(clip, start, stop)
        read = {"composite": clip.composites.colours(start, stop)}
        read["mask"] = clip.masks.masks(start, stop)
        if clip.frames is not None:
            read["target"] = clip.frames.colours(start, stop)
        found = self._read(clip, **read)
        return Sample(
            clip.name, found["composite"], found["mask"], found.get("target"), clip.subset
        )


class UnmaskedPhotos(ClipSet):
    """Photographs (or clips) without masks: uint8 [T,3,H,W] each. See `BorrowedMasks`."""

    def __getitem__(self, index: int) -> Tensor:
        clip = self._clip(index)
        return self._read(clip, frame=clip.frames.colours(0, clip.frames.count()))["frame"]


def spread(count: int, limit: int | None) -> list[int]:
    """Positions of `limit` of `count` things, evenly spread; all where limit is None.

    Raises:
        ValueError: limit below 1.
    """
    if limit is None:
        return list(range(count))
    if limit < 1:
        raise ValueError(f"limit: expected 1 or more, got {limit}")
    return list(range(count)) if limit >= count else [n * count // limit for n in range(limit)]


def with_prefix(clip: Clip, prefix: str) -> Clip:
    """The clip under a longer name."""
    return replace(clip, name=f"{prefix}/{clip.name}")

# SPDX-License-Identifier: Apache-2.0
"""Short runs of frames for training: from photographs at rest or in motion, and from clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vharm.data import seeding
from vharm.data.augment import augmented, resized
from vharm.data.dancing_batches import DancingBatches
from vharm.data.types import Sample

from .config import ConfigError
from .motion_data import motion_scenes
from .order import Key
from .pictures import CACHE_SIDE, PictureSet


@dataclass(frozen=True)
class Window:
    """T frames uint8 [T,3,S,S] with masks [T,1,S,S], their key, and a set's own composites."""

    frames: Tensor
    masks: Tensor
    key: Key
    composites: Tensor | None = None


@dataclass(frozen=True)
class WindowBatch:
    """Several of one length, [B,T,...]; `given` says which ones come with composites."""

    frames: Tensor
    masks: Tensor
    keys: tuple[Key, ...]
    composites: Tensor | None
    given: tuple[bool, ...]

    @property
    def length(self) -> int:
        """T."""
        return self.frames.shape[1]

    def to(self, device: torch.device) -> tuple[Any, ...]:
        """The arguments of a `Composer`: a window is one tall picture [3,T*S,S].

        So all its frames are recoloured alike, with means over all of them.
        """
        parts = (
            None if t is None else tall(t).to(device, non_blocking=True)
            for t in (self.frames, self.masks, self.composites)
        )
        frames, masks, composites = parts
        return frames, masks, self.keys, composites, self.given

    def pin_memory(self) -> WindowBatch:
        composites = None if self.composites is None else self.composites.pin_memory()
        return WindowBatch(
            self.frames.pin_memory(), self.masks.pin_memory(), self.keys, composites, self.given
        )


def tall(windows: Tensor) -> Tensor:
    """[B,T,C,H,W] as [B,C,T*H,W], one frame below the other."""
    return windows.transpose(1, 2).flatten(2, 3)


def apart(picture: Tensor, length: int) -> Tensor:
    """[B,C,T*H,W] as frames [B*T,C,H,W], a window's one after the other."""
    return picture.unflatten(2, (length, -1)).transpose(1, 2).flatten(0, 1)


def collate(items: Sequence[Window]) -> WindowBatch:
    """One batch of them, all cut to the shortest about its middle."""
    length = min(len(item.frames) for item in items)
    given = tuple(item.composites is not None for item in items)
    shown = [item.frames if item.composites is None else item.composites for item in items]
    return WindowBatch(
        torch.stack([_middle(item.frames, length) for item in items]),
        torch.stack([_middle(item.masks, length) for item in items]),
        tuple(item.key for item in items),
        torch.stack([_middle(frames, length) for frames in shown]) if any(given) else None,
        given,
    )


def _middle(frames: Tensor, length: int) -> Tensor:
    start = (len(frames) - length) // 2
    return frames[start : start + length]


class WindowSet:
    """Windows by (epoch, index); epochs take turns over the lengths.

    Args:
        pictures: photographs with masks; a window of one is a still, or dances.
        lengths: numbers of frames.
        dancing: how often the foreground of a photograph moves over its slowly cropped background
            (see `vharm.data.Dancing`) where a window has more than one frame.
        clips: sets of consecutive frames, see `open_clips`.
        clip_share: how often a window is taken from a clip.

    Attributes:
        pictures, lengths: as above.
    """

    def __init__(
        self, pictures: PictureSet, lengths: Sequence[int] = (1,), *, dancing: float = 0.5,
        clips: ClipFrames | None = None, clip_share: float = 0.5,
    ) -> None:  # fmt: skip
        self.pictures, self.lengths = pictures, tuple(lengths)
        self.dancing, self.clips, self.clip_share = dancing, clips, clip_share
        self._dances: DancingBatches | None = None
        # Composites of a set's own cannot dance: nothing is known behind their foreground.
        if dancing > 0 and max(self.lengths) > 1 and not pictures.scenes.has_composites:
            self._dances = DancingBatches(
                motion_scenes(pictures.scenes, pictures.size), pictures.size, None,
                seed=pictures.seed, min_coverage=0, max_coverage=1, least_crop=pictures.least_crop,
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> Window:
        length = self.lengths[key[0] % len(self.lengths)]
        source = seeding.generator(self.pictures.seed, *key, 2)
        from_clip = seeding.chance(source, self.clip_share)
        moves = seeding.chance(source, self.dancing)
        if self.clips is not None and from_clip:
            return self._cropped(*self.clips.draw(length, source), key, source)
        if self._dances is not None and length > 1 and moves:
            return self._danced(self._dances, length, key, source)
        still = self.pictures[key]
        composite = None if still.composite is None else _repeated(still.composite, length)
        return Window(_repeated(still.frame, length), _repeated(still.mask, length), key, composite)

    def _danced(
        self, dances: DancingBatches, length: int, key: Key, source: torch.Generator
    ) -> Window:
        clip = dances.render([dances.draw(key, length)])
        planes = torch.cat((clip.target[0], clip.masks[0]), 1).mul(255).round().to(torch.uint8)
        # Cropped and mirrored already, but not turned.
        if seeding.chance(source, 0.5):
            planes = planes.rot90(1 + seeding.integer(source, 3), (2, 3))
        return Window(planes[:, :3].contiguous(), planes[:, 3:].contiguous(), key)

    def _cropped(
        self, frames: Tensor, masks: Tensor, composites: Tensor | None, key: Key,
        source: torch.Generator,
    ) -> Window:  # fmt: skip
        """All frames cropped, flipped and turned alike; the crop is chosen by the first mask."""
        kinds = [frames, masks[1:]] if composites is None else [frames, masks[1:], composites]
        channels = [kind.flatten(0, 1) for kind in kinds]
        counts = [len(kind) for kind in channels]
        both, first = augmented(
            torch.cat(channels), masks[0], self.pictures.size, source,
            least_side=self.pictures.least_crop,
        )  # fmt: skip
        parts = both.split(counts)
        masks = torch.cat((first, parts[1]))[:, None]
        shown = None if composites is None else parts[2].unflatten(0, (-1, 3))
        return Window(parts[0].unflatten(0, (-1, 3)), masks, key, shown)


def _repeated(frame: Tensor, length: int) -> Tensor:
    return frame.expand(length, *frame.shape)


class ClipFrames:
    """Runs of consecutive frames from clips, read when they are drawn, as squares.

    Args:
        data: clips that can be read in parts: scenes, or composites with their answers.
        longest: clips of fewer frames are left out.
        size: side of the squares.

    Raises:
        ConfigError: no clip is long enough.
    """

    def __init__(self, data: Any, longest: int, size: int = CACHE_SIDE) -> None:
        self.data, self.size = data, size
        self.counts = {i: data.count(i) for i in range(len(data))}
        self.positions = [i for i, count in self.counts.items() if count >= longest]
        if not self.positions:
            most = max(self.counts.values(), default=0)
            raise ConfigError(f"clips: no clip has {longest} frames, the longest has {most}")

    def draw(self, length: int, source: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """Frames [T,3,S,S], masks [T,1,S,S], and composites of the set's own or None.

        Raises:
            ConfigError: a composite without its answer.
        """
        clip = self.positions[seeding.integer(source, len(self.positions))]
        start = seeding.integer(source, self.counts[clip] - length + 1)
        found = self.data.part(clip, start, start + length)
        if not isinstance(found, Sample):
            return resized(found.frames, self.size), resized(found.masks, self.size), None
        if found.target is None:
            raise ConfigError(
                f"clips: expected composites with their answers, {found.name} has none"
            )
        frames, masks, composites = (
            resized(t, self.size) for t in (found.target, found.masks, found.composite)
        )
        return frames, masks, composites


def open_clips(path: str, longest: int, size: int) -> ClipFrames | None:
    """The training clips of a data set; None for no path.

    Of a set without splits all clips are taken, of one with splits those of "train".

    Raises:
        ConfigError: the place cannot be read as one, or no clip is long enough.
    """
    from vharm.data import DataError, open_data
    from vharm.data.layouts import find

    if not path:
        return None
    try:
        split = "train" if find(path, split="train")[1].splits else None
        data = open_data(path, split=split)
    except (DataError, FileNotFoundError, ValueError) as error:
        raise ConfigError(f"clips: {str(error).removeprefix('path: ')}") from error
    return ClipFrames(data, longest, max(CACHE_SIDE, size))

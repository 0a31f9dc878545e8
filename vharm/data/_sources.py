# SPDX-License-Identifier: Apache-2.0
"""Where the frames of a clip come from: files, members of an archive, videos, or two laid over.

Every source is small, picklable, has no open file, and gives frames start to stop one after the
other as uint8 arrays: `colours` [H,W,3], `masks` [H,W].
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ._pictures import SUFFIXES, decode_colour, decode_mask
from .errors import DataError


class Source(Protocol):
    """The frames of a clip."""

    def count(self) -> int: ...

    def colours(self, start: int, stop: int) -> Iterator[np.ndarray]: ...

    def masks(self, start: int, stop: int) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class Stills:
    """One picture file a frame, below a folder."""

    folder: str
    files: tuple[str, ...]

    def count(self) -> int:
        """How many frames there are."""
        return len(self.files)

    def label(self, index: int) -> str:
        """The file of a frame."""
        return os.path.join(self.folder, self.files[index])

    def data(self, index: int) -> bytes:
        """The encoded bytes of a frame.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            return Path(self.label(index)).read_bytes()
        except OSError as error:
            raise DataError(f"{self.label(index)}: {error.strerror or error}") from error

    def colours(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames as pictures."""
        return (decode_colour(self.data(i), self.label(i)) for i in range(start, stop))

    def masks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames as masks."""
        return (decode_mask(self.data(i), self.label(i)) for i in range(start, stop))


@dataclass(frozen=True)
class Video:
    """A video file, or a picture standing for a clip of one frame."""

    path: str

    @property
    def _still(self) -> Stills | None:
        folder, name = os.path.split(self.path)
        return Stills(folder, (name,)) if name.lower().endswith(SUFFIXES) else None

    def count(self) -> int:
        """How many frames there are; a video is decoded where its header does not say."""
        if self._still is not None:
            return 1
        with _opened(self.path) as reader:
            if reader.frame_count is not None and reader.frame_count_exact:
                return reader.frame_count
            return sum(1 for _ in reader)

    def colours(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames as pictures, decoded from the video's beginning."""
        if self._still is not None:
            return self._still.colours(start, stop)
        return self._between(self._pictures(), start, stop)

    def masks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames as masks, decoded from the video's beginning."""
        if self._still is not None:
            return self._still.masks(start, stop)
        return self._between(self._mattes(), start, stop)

    def _pictures(self) -> Iterator[np.ndarray]:
        from ..media import ColorSpec, convert

        with _opened(self.path) as reader:
            for frame in reader:
                yield convert(frame, ColorSpec("rgb", 8)).planes[0].copy()

    def _mattes(self) -> Iterator[np.ndarray]:
        from ..media import open_mask

        with _opened(self.path) as probe:
            width, height = probe.width, probe.height
        with open_mask(self.path, width=width, height=height, single_ok=False) as reader:
            for mask in reader:
                yield np.rint(mask.unit() * 255).astype(np.uint8)

    def _between(self, frames: Iterator[np.ndarray], start: int, stop: int) -> Iterator[np.ndarray]:
        from ..media import MediaError

        seen = 0
        try:
            while seen < stop:
                frame = next(frames, None)
                if frame is None:
                    raise DataError(f"{self.path}: ends after {seen} frames, not {stop}")
                seen += 1
                if seen > start:
                    yield frame
        except MediaError as error:
            raise DataError(f"{self.path}: {error}") from error
        finally:
            frames.close()


def _opened(path: str):
    from ..media import MediaError, open_reader

    try:
        return open_reader(path)
    except (MediaError, FileNotFoundError) as error:
        raise DataError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Overlay:
    """A foreground laid over a background by its matte: round(m*f + (1-m)*b)."""

    foreground: Source
    background: Source
    matte: Source

    def count(self) -> int:
        """How many frames there are: the foreground's."""
        return self.foreground.count()

    def colours(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The composite's frames."""
        front = self.foreground.colours(start, stop)
        mattes = self.matte.masks(start, stop)
        if self.background.count() == 1:
            behind = itertools.repeat(*self.background.colours(0, 1))
        else:
            behind = self.background.colours(start, stop)
        for number, (above, below, matte) in enumerate(zip(front, behind, mattes, strict=False)):
            if not above.shape[:2] == below.shape[:2] == matte.shape:
                raise DataError(
                    f"{self.name()}: sizes differ: frame {start + number} is {_size(above)}, its "
                    f"background {_size(below)} and its matte {_size(matte)}"
                )
            yield lay_over(above, below, matte)

    def masks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The matte's frames."""
        return self.matte.masks(start, stop)

    def name(self) -> str:
        """The foreground's file, for messages."""
        return first_label(self.foreground)


def lay_over(above: np.ndarray, below: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """round(m*above + (1-m)*below), uint8 [H,W,3]; matte uint8 [H,W]. m = 0 keeps `below`."""
    # 255 * 255 + 127 fits 16 bits.
    weight = matte.astype(np.uint16)[..., None]
    mixed = above * weight
    mixed += below * (255 - weight)
    mixed += 127
    mixed //= 255
    return mixed.astype(np.uint8)


def first_label(source: Source) -> str:
    """A file that names the source in messages."""
    if isinstance(source, Video):
        return source.path
    if isinstance(source, Overlay):
        return source.name()
    return source.label(0)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"

# SPDX-License-Identifier: Apache-2.0
"""What `vharm.harmonize` is given, opened as readers of frames and masks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..media.array_reader import cut_indices
from ..media.frame import Frame
from ..media.mask import Mask, MaskReader, open_mask
from ..media.mask_shape import shape_mask
from ..media.open import open_reader
from ..media.reader import Reader, rate_of
from ..media.threads import matte_threads
from .pairs import has_own_mask, own_mask
from .sources import MemoryReader


@dataclass
class Source:
    """The arguments of `harmonize` that say what is read; see there."""

    frames: Any = None
    masks: Any = None
    foreground: Any = None
    background: Any = None
    premultiplied: bool = False
    layout: str | None = None
    frame_rate: Any = None
    start: float | None = None
    end: float | None = None
    mask_grow: float = 0
    mask_feather: float = 0.0
    invert_mask: bool = False
    on_short: str = "error"
    to_file: bool = False

    def check(self) -> None:
        """Raises TypeError or ValueError for arguments that do not go together."""
        composed = self.foreground is not None or self.background is not None
        if composed and self.frames is not None:
            raise ValueError("frames: give either frames, or foreground and background")
        if composed and (self.foreground is None or self.background is None):
            missing = "foreground" if self.foreground is None else "background"
            raise ValueError(f"{missing}: is needed to compose frames, got None")
        if self.main is None:
            raise TypeError("frames: expected pictures or a path, got None")
        if self.layout is not None and is_path(self.main):
            raise ValueError("layout: is for pictures in memory; files state their own")
        if (is_path(self.main) or isinstance(self.main, Reader)) and not self.to_file:
            raise ValueError(
                "output: is needed where frames come from files; give the path to write to"
            )

    @property
    def main(self) -> Any:
        """What gives the result its form: the frames, or the background."""
        return self.frames if self.background is None else self.background

    @property
    def streams(self) -> bool:
        """Whether the main source is an iterator, to be read as results are drawn."""
        main = self.main
        if is_path(main) or hasattr(main, "shape") or isinstance(main, list | tuple | Reader):
            return False
        return hasattr(main, "__iter__")

    def device(self) -> torch.device:
        """Where the pictures are; the CPU for all that are not tensors."""
        main = self.main
        if isinstance(main, list | tuple) and main:
            main = main[0]
        return main.device if isinstance(main, Tensor) else torch.device("cpu")

    def paths(self) -> list[Any]:
        """All paths that are read, which must not be written to."""
        given = (self.frames, self.masks, self.foreground, self.background)
        found = []
        for entry in given:
            found += entry if isinstance(entry, list | tuple) and is_path(entry) else [entry]
        return [entry for entry in found if isinstance(entry, str | os.PathLike)]


def is_path(source: Any) -> bool:
    """Whether this names files: a path or a list of paths."""
    if isinstance(source, list | tuple):
        return bool(source) and all(isinstance(item, str | os.PathLike) for item in source)
    return isinstance(source, str | os.PathLike)


def open_source(source: Source) -> tuple[Reader, MaskReader | None]:
    """The reader of composites and that of their masks (None: frames carry their own).

    A reader of pictures in memory, or composed of such, has `memory`: the MemoryReader whose form
    the results are to have.
    """
    if source.background is None:
        reader = _open_frames(source, source.frames, "frames")
        masks = None if source.masks is None else _open_masks(source, reader)
    else:
        from ..media.composite import composite_reader

        background = _open_frames(source, source.background, "background", plain=True)
        foreground = _open_frames(source, source.foreground, "foreground", plain=True)
        matte = None if source.masks is None else _open_masks(source, background)
        reader = composite_reader(foreground, background, matte, premultiplied=source.premultiplied)
        reader.memory = background if isinstance(background, MemoryReader) else None
        masks = None
    if source.masks is None and _shaping(source):
        reader = _Shaped(reader, source)
    return reader, masks


def _shaping(source: Source) -> bool:
    return bool(source.invert_mask or source.mask_grow or source.mask_feather)


def _open_frames(source: Source, frames: Any, name: str, *, plain: bool = False) -> Reader:
    if is_path(frames) or isinstance(frames, Reader):
        rate = None if isinstance(frames, Reader) else _rate_for(frames, source.frame_rate)
        return open_reader(frames, start=source.start, end=source.end, frame_rate=rate)
    reader = MemoryReader(
        frames, source.layout, source.frame_rate, start=source.start, end=source.end, name=name,
        plain=plain,
    )  # fmt: skip
    reader.memory = reader
    return reader


def _rate_for(path: Any, rate: Any) -> Any:
    """The rate where it is wanted: videos carry their own and refuse one."""
    if rate is None:
        return None
    from ..media.image_reader import find_images

    return None if find_images(path) is None else rate


def _open_masks(source: Source, reader: Reader) -> MaskReader:
    masks = source.masks
    if is_path(masks):
        masks = _cut_files(source, reader)
    elif source.start is not None or source.end is not None:
        masks = _cut_memory(source, reader)
    return open_mask(
        masks, width=reader.width, height=reader.height,
        frame_count=reader.frame_count if reader.frame_count_exact else None,
        on_short=source.on_short, invert=source.invert_mask, grow=source.mask_grow,
        feather=source.mask_feather,
    )  # fmt: skip


def _cut_files(source: Source, reader: Reader) -> Any:
    if source.start is None and source.end is None:
        return source.masks
    threads = matte_threads()
    whole = open_reader(source.masks, threads=threads)
    if whole.still:
        return whole
    rate = reader.frame_rate if whole.frame_rate is None else None
    whole.close()
    return open_reader(
        source.masks, start=source.start, end=source.end, frame_rate=rate, threads=threads
    )


def _cut_memory(source: Source, reader: Reader) -> Any:
    """Masks in memory go frame by frame with the clip, so its rate cuts them."""
    masks = source.masks
    if getattr(masks, "ndim", None) == 2 or isinstance(masks, Reader):
        return masks
    rate = rate_of(source.frame_rate) or reader.frame_rate
    if rate is None:
        raise ValueError("start, end: masks in memory are cut by seconds with frame_rate")
    first, stop = cut_indices(source.start, source.end, rate)
    if hasattr(masks, "__getitem__"):
        return masks[first:stop]
    return itertools.islice(masks, first, stop)


class _Shaped(Reader):
    """Frames whose own masks (matte or alpha) are inverted, grown or feathered.

    Frames without any pass as they are; `shape_mask` does the same to masks found later.
    """

    def __init__(self, reader: Reader, source: Source) -> None:
        self.__dict__.update(reader.__dict__)
        self._inner = reader
        self._invert = source.invert_mask
        self._shape = {"grow": source.mask_grow, "feather": source.mask_feather}
        self.shape_mask = self._shaped

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(self._inner):
            if has_own_mask(frame):
                mask = self._shaped(own_mask(frame, number))
                mask.index = number
                frame = replace(frame, matte=mask)
            yield frame
            del frame

    def _shaped(self, mask: Mask) -> Mask:
        data = mask.data
        if isinstance(data, Tensor):
            data = data.cpu()
            data = (data.float() if data.is_floating_point() else data).numpy()
        unit = Mask(data, mask.black, mask.white).unit()
        unit = 1 - unit if self._invert else unit
        if any(self._shape.values()):
            unit = shape_mask(unit, **self._shape)
        return Mask(unit, 0.0, 1.0)

    def close(self) -> None:
        self._inner.close()

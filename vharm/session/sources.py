# SPDX-License-Identifier: Apache-2.0
"""Frames from memory, and results in the form they came in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.array_reader import cut_indices
from ..media.frame import ColorSpec, Frame, shared_tensor
from ..media.reader import Reader, Template, rate_of
from .apply import TensorFrame, check_not_nan

LAYOUTS = ("NHWC", "NCHW")
DEFAULT_RATE = Fraction(25)
"""Frames a second that pictures in memory are taken to have, for smoothing over time only."""

_DTYPES = {
    torch.uint8: 8, torch.uint16: 16, torch.float16: 32, torch.bfloat16: 32, torch.float32: 32,
    torch.float64: 32,
}  # fmt: skip
# Scene-linear highlights reach some multiples of white; 0..255 given as floats goes far beyond.
_BRIGHTEST = 64.0


class MemoryReader(Reader):
    """Pictures in memory as frames that share their samples.

    Args:
        source: an array or tensor of 4 axes (a clip) or 3 (a picture), a list or tuple of
            pictures, or an iterator of them. 3 channels, or 4 where the last is alpha. uint8,
            uint16 (full scale) or float (0 to 1; beyond for HDR).
        layout: "NHWC" or "NCHW" (for one picture HWC or CHW); None: arrays NHWC, tensors NCHW.
        frame_rate: frames a second; None takes 25 for smoothing and gives no time stamps.
        name: what errors call the source.
        plain: give numpy frames (float16, bfloat16 and float64 become float32) instead of tensors.

    Attributes:
        kind: "array", "list" or "iterator". single: one picture, not a clip. tensor: made of
        torch tensors.

    Raises:
        TypeError: a dtype or an object that is no picture.
        ValueError: a shape that does not fit the layout, no frames, NaN, or a 0-255 scale.
    """

    def __init__(
        self, source: Any, layout: str | None = None, frame_rate: Any = None, *,
        start: float | None = None, end: float | None = None, name: str = "frames",
        plain: bool = False,
    ) -> None:  # fmt: skip
        if layout is not None and layout not in LAYOUTS:
            raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}; got {layout!r}")
        self._name, self._layout, self._plain = name, layout, plain
        self._source = source
        self.single = False
        pictures, count = self._open()
        rate = rate_of(frame_rate)
        self._span: tuple[int, int | None] = (0, None)
        if start is not None or end is not None:
            if rate is None:
                raise ValueError("start, end: frames in memory are cut by seconds with frame_rate")
            self._span = cut_indices(start, end, rate)
            count = None if count is None else len(range(count)[slice(*self._span)])
        pictures = itertools.islice(pictures, *self._span)
        first = next(pictures, None)
        if first is None:
            raise ValueError(f"{name}: expected at least one frame, got none")
        self.tensor = isinstance(first, Tensor)
        rgb, alpha = self._split(first, 0)
        self.dtype = rgb.dtype
        self.origin = first
        super().__init__(
            rgb.shape[1], rgb.shape[0], ColorSpec("rgb", _DTYPES[rgb.dtype]),
            Template(frame_rate=rate),
        )  # fmt: skip
        self.has_alpha = alpha is not None
        self.reiterable = self.kind != "iterator"
        self.frame_count, self.frame_count_exact = count, count is not None
        self.still = count == 1
        self.duration = float(count / rate) if count and rate else None
        self._waiting: Iterator[Any] | None = itertools.chain([first], pictures)

    def _open(self) -> tuple[Iterator[Any], int | None]:
        source = self._source
        if hasattr(source, "shape") and hasattr(source, "dtype"):
            self.kind = "array"
            source = source if isinstance(source, Tensor) else np.asarray(source)
            if source.ndim not in (3, 4):
                raise ValueError(
                    f"{self._name}: expected 4 axes (a clip) or 3 (a picture), got shape "
                    f"{tuple(source.shape)}"
                )
            self.single = source.ndim == 3
            clip = source[None] if self.single else source
            return iter(clip), len(clip)
        if isinstance(source, list | tuple):
            self.kind = "list"
            return iter(source), len(source)
        if isinstance(source, Iterable) and not isinstance(source, str | bytes | dict | set):
            self.kind = "iterator"
            return iter(source), None
        raise TypeError(
            f"{self._name}: expected a path, an array, a tensor, a list or an iterator of "
            f"pictures, got {type(source).__name__}"
        )

    def layout(self) -> str:
        """The layout in force: the one asked for, or that of the kind of pictures."""
        return self._layout or ("NCHW" if self.tensor else "NHWC")

    def channels_last(self) -> bool:
        """Whether pictures are [H,W,C]."""
        return self.layout() == "NHWC"

    def _split(self, picture: Any, index: int) -> tuple[Tensor, Tensor | None]:
        """RGB [H,W,3] and alpha [H,W] of one picture, sharing its memory."""
        name = f"{self._name}: frame {index}"
        if not isinstance(picture, Tensor):
            if not hasattr(picture, "__array__") and not hasattr(picture, "__array_interface__"):
                raise TypeError(
                    f"{name}: expected an array or a tensor, got {type(picture).__name__}"
                )
            picture = _tensor(np.asarray(picture), name)
        picture = picture.detach()
        last = self.channels_last()
        shape = tuple(picture.shape)
        axis = 2 if last else 0
        if len(shape) != 3 or shape[axis] not in (3, 4):
            raise ValueError(self._misfit(name, shape, last))
        if 0 in shape:
            raise ValueError(f"{name}: is empty, shape {list(shape)}")
        if picture.dtype not in _DTYPES:
            raise TypeError(f"{name}: expected uint8, uint16 or float, got {picture.dtype}")
        if not last:
            picture = picture.permute(1, 2, 0)
        if picture.is_floating_point():
            check_not_nan(picture, index)
            top = float(picture[..., :3].max())
            if top > _BRIGHTEST:
                raise ValueError(
                    f"{name}: float samples are 0 to 1, got up to {top:g}; divide by 255, or give "
                    "uint8"
                )
        return picture[..., :3], picture[..., 3] if picture.shape[2] == 4 else None

    def _misfit(self, name: str, shape: tuple[int, ...], last: bool) -> str:
        kinds = "[H,W,3] or [H,W,4]" if last else "[3,H,W] or [4,H,W]"
        text = f"{name}: expected {kinds} (layout {self.layout()}), got shape {list(shape)}"
        if len(shape) == 3 and shape[0 if last else 2] in (3, 4):
            text += f'; give layout="{"NCHW" if last else "NHWC"}" if that is meant'
        return text

    def __iter__(self) -> Iterator[Frame]:
        pictures, self._waiting = self._waiting, None
        if pictures is None:
            if not self.reiterable:
                raise ValueError(f"{self._name}: an iterator can be read only once")
            pictures = itertools.islice(self._open()[0], *self._span)
        rate = self.frame_rate
        for index, picture in enumerate(pictures):
            rgb, alpha = self._split(picture, index)
            del picture
            if rgb.shape[:2] != (self.height, self.width) or rgb.dtype != self.dtype:
                raise ValueError(
                    f"{self._name}: frame {index} is {rgb.shape[1]}x{rgb.shape[0]} {rgb.dtype}, "
                    f"the first one {self.width}x{self.height} {self.dtype}"
                )
            if (alpha is not None) != self.has_alpha:
                raise ValueError(f"{self._name}: frame {index} differs from the first in channels")
            frame = TensorFrame(
                (rgb,), self.color, index, index if rate else None, 1 / rate if rate else None,
                1 if rate else None, float(index / (rate or DEFAULT_RATE)), alpha,
            )  # fmt: skip
            yield frame.plain() if self._plain else frame
            del frame, rgb, alpha


def _tensor(array: np.ndarray, name: str) -> Tensor:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    try:
        return shared_tensor(array)
    except TypeError as error:
        raise TypeError(f"{name}: expected uint8, uint16 or float, got {array.dtype}") from error


class Collector:
    """Takes frames like a writer and keeps them in the form of the reader's source."""

    takes_tensors = True

    def __init__(self, reader: MemoryReader) -> None:
        self._reader = reader
        self._pictures: list[Any] = []
        self._out: Any = None
        self._count = 0

    def write(self, frame: Frame) -> None:
        """Adds a frame."""
        picture = self.picture(frame)
        count = self._reader.frame_count
        if self._reader.kind != "array" or self._reader.single:
            self._pictures.append(picture)
            return
        if self._out is None:
            # One copy into place, not a list of frames that is stacked at the end.
            self._out = (
                picture.new_empty(count, *picture.shape) if isinstance(picture, Tensor)
                else np.empty((count, *picture.shape), picture.dtype)
            )  # fmt: skip
        self._out[self._count] = picture
        self._count += 1

    def close(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """Drops what was collected."""
        self._pictures, self._out = [], None

    def result(self) -> Any:
        """What was collected: an array, a tensor, a picture or a list, as the source was."""
        if self._out is not None:
            return self._out
        return self._pictures[0] if self._reader.single else self._pictures

    def picture(self, frame: Frame) -> Any:
        """One frame as a picture like those of the source, in memory of its own."""
        reader = self._reader
        parts = [frame.tensors()[0]]
        if frame.alpha is not None:
            alpha = frame.alpha
            parts.append((alpha if isinstance(alpha, Tensor) else shared_tensor(alpha))[..., None])
        like = reader.origin
        device = like.device if isinstance(like, Tensor) else torch.device("cpu")
        parts = [part.to(device=device, dtype=reader.dtype) for part in parts]
        picture = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
        if not reader.channels_last():
            picture = picture.permute(2, 0, 1)
        picture = picture.contiguous() if frame.alpha is not None else picture.clone()
        return picture if isinstance(like, Tensor) else picture.numpy()

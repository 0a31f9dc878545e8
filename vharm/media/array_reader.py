# SPDX-License-Identifier: Apache-2.0
"""Frames from memory: arrays, tensors, lists and generators of pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from .frame import ColorSpec, Frame
from .reader import Reader, Template


class ArrayReader(Reader):
    """RGB frames (4th channel: alpha) of uint8, uint16 or float samples; see ``open_reader``.

    float16 and float64 become float32. Samples are handed on as read-only views where they can.
    """

    def __init__(
        self,
        source: Any,
        frame_rate: Fraction | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        pictures, count = pictures_of(source)
        self._source = source
        first_index, stop_index = 0, None
        if start is not None or end is not None:
            if frame_rate is None:
                raise ValueError(
                    "start, end: frames in memory are cut by seconds only with frame_rate"
                )
            first_index, stop_index = cut_indices(start, end, frame_rate)
        self._span = (first_index, stop_index)
        pictures = itertools.islice(pictures, first_index, stop_index)
        first = next(pictures, None)
        if first is None:
            raise ValueError("source: holds no frame" if not first_index else
                             f"start: no frame at or after {start} s")  # fmt: skip
        rgb, alpha = split_picture(first, 0)
        color = color_of_rgb(rgb)
        rate = frame_rate
        super().__init__(rgb.shape[1], rgb.shape[0], color, Template(frame_rate=rate))
        self.has_alpha = alpha is not None
        self.reiterable = count is not None
        if count is not None:
            stop = count if stop_index is None else min(stop_index, count)
            self.frame_count = stop - first_index
            self.frame_count_exact = True
            if rate:
                self.duration = float(self.frame_count / rate)
        self.still = count is not None and count == 1
        self._waiting: Iterator[np.ndarray] | None = itertools.chain([first], pictures)

    def __iter__(self) -> Iterator[Frame]:
        pictures, self._waiting = self._waiting, None
        if pictures is None:
            if not self.reiterable:
                raise ValueError("source: a generator can be iterated only once")
            pictures = itertools.islice(pictures_of(self._source)[0], *self._span)
        return self._run(pictures)

    def _run(self, pictures: Iterator[Any]) -> Iterator[Frame]:
        rate = self.frame_rate
        for index, picture in enumerate(pictures):
            rgb, alpha = split_picture(picture, index)
            if rgb.shape[:2] != (self.height, self.width):
                raise ValueError(
                    f"source: frame {index} is {rgb.shape[1]}x{rgb.shape[0]}, "
                    f"the first one {self.width}x{self.height}"
                )
            if rgb.dtype != self.color.dtype:
                raise TypeError(
                    f"source: frame {index} is {rgb.dtype}, the first one {self.color.dtype}"
                )
            if (alpha is not None) != self.has_alpha:
                raise ValueError(f"source: frame {index} differs from the first one in alpha")
            yield Frame(
                (rgb,),
                self.color,
                index=index,
                pts=index if rate else None,
                time_base=1 / rate if rate else None,
                duration=1 if rate else None,
                time=float(index / rate) if rate else float(index),
                alpha=alpha,
            )


def cut_indices(start: float | None, end: float | None, rate: Fraction) -> tuple[int, int | None]:
    """First frame and the one after the last, for frames at n / rate in [start, end)."""
    half = Fraction(1, 2000) * rate
    first = 0 if start is None else max(-int(-(Fraction(start) * rate - half) // 1), 0)
    stop = None if end is None else max(-int(-(Fraction(end) * rate - half) // 1), first)
    return first, stop


def pictures_of(source: Any, dimensions: int = 3) -> tuple[Iterator[Any], int | None]:
    """Iterate over single pictures; the count is None for a source that can be read only once.

    dimensions: how many axes one picture has. Raises TypeError for what holds no pictures.
    """
    if _is_array(source):
        axes = len(source.shape)
        if axes == dimensions:
            return iter([source]), 1
        if axes == dimensions + 1:
            return iter(source), int(source.shape[0])
        raise ValueError(
            f"source: expected {dimensions} or {dimensions + 1} axes, got shape "
            f"{tuple(source.shape)}"
        )
    if isinstance(source, list | tuple):
        return iter(source), len(source)
    if isinstance(source, Iterable) and not isinstance(source, bytes | dict | set):
        iterator = iter(source)
        if iterator is source:
            return iterator, None
        return iterator, len(source) if hasattr(source, "__len__") else None
    raise TypeError(
        "source: expected a path, an array, a tensor, or an iterable of frames, got "
        f"{type(source).__name__}"
    )


def to_numpy(picture: Any, name: str) -> np.ndarray:
    """Return a picture as a read-only numpy array: tensors are detached and brought to the CPU."""
    if type(picture).__module__.partition(".")[0] == "torch":
        picture = picture.detach().cpu()
        if str(picture.dtype) == "torch.bfloat16":
            picture = picture.float()
        array = picture.numpy()
    elif hasattr(picture, "__array__") or hasattr(picture, "__array_interface__"):
        array = np.asarray(picture)
    else:
        raise TypeError(f"{name}: expected an array or tensor, got {type(picture).__name__}")
    array = array.view()
    array.setflags(write=False)
    return array


def split_picture(picture: Any, index: int) -> tuple[np.ndarray, np.ndarray | None]:
    """RGB [H,W,3] and alpha [H,W] (or None) of one picture."""
    name = f"source: frame {index}"
    tensor = type(picture).__module__.partition(".")[0] == "torch"
    array = to_numpy(picture, name)
    order = "[3,H,W] or [4,H,W]" if tensor else "[H,W,3] or [H,W,4]"
    if array.ndim != 3:
        raise ValueError(f"{name}: expected {order}, got shape {array.shape}")
    if tensor:
        array = array.transpose(1, 2, 0)
    if array.shape[2] not in (3, 4):
        shape = tuple(picture.shape)
        raise ValueError(f"{name}: expected {order}, got shape {shape}")
    if 0 in array.shape:
        raise ValueError(f"{name}: is empty, shape {array.shape}")
    if array.dtype in (np.float16, np.float64):
        array = array.astype(np.float32)
    if array.dtype not in (np.uint8, np.uint16, np.float32):
        raise TypeError(f"{name}: expected uint8, uint16 or float samples, got {array.dtype}")
    return array[..., :3], array[..., 3] if array.shape[2] == 4 else None


def color_of_rgb(rgb: np.ndarray) -> ColorSpec:
    """Full-range RGB of the array's depth, without tags."""
    return ColorSpec("rgb", {1: 8, 2: 16, 4: 32}[rgb.dtype.itemsize])


def _is_array(source: Any) -> bool:
    return hasattr(source, "shape") and hasattr(source, "dtype")

# SPDX-License-Identifier: Apache-2.0
"""Masks of any kind, brought to one form: samples with their black and white point."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .array_reader import pictures_of, to_numpy
from .frame import Frame
from .mask_shape import shape_mask
from .open import open_reader
from .reader import Reader
from .threads import matte_threads

# Coloured noise of this much, of 255, is JPEG's; more is a picture or a map of labels.
_COLOR_NOISE = 24 / 255
# Mattes from renderers overshoot a little.
_OVERSHOOT = 1e-3


@dataclass(eq=False)
class Mask:
    """One mask: M = clamp((data - black) / (white - black), 0, 1), data [H,W].

    data is uint8, uint16 or float32 and may be a read-only view on the source.
    """

    data: np.ndarray
    black: float = 0.0
    white: float = 255.0
    index: int = 0

    def unit(self) -> np.ndarray:
        """Return M as float32 [H,W] in [0,1]."""
        scale = np.float32(1.0 / (self.white - self.black))
        values = self.data.astype(np.float32)
        values -= np.float32(self.black)
        values *= scale
        return np.clip(values, 0, 1, out=values)


class MaskReader:
    """Iterates over the masks of a clip; see ``open_mask``.

    Never ends by itself where ``on_short`` is "loop" or "hold" or the mask is a single picture:
    the clip's frames set the length. ``finish`` tells it how many there were.
    """

    def __init__(
        self,
        source: Any,
        width: int,
        height: int,
        frame_count: int | None,
        on_short: str,
        shaping: dict[str, Any],
        channel: str,
        single_ok: bool,
    ) -> None:
        self.width, self.height = width, height
        self._on_short = on_short
        self._invert = shaping["invert"]
        self._shaping = {key: shaping[key] for key in ("grow", "feather")}
        self._checked = False
        self._exhausted = False
        self._given = 0
        self._reader: Reader | None = None
        self._source = source
        if isinstance(source, str | os.PathLike | Reader) or _are_paths(source):
            own = {} if isinstance(source, Reader) else {"threads": matte_threads()}
            self._reader = open_reader(source, **own)
            self.frame_count = self._reader.frame_count
            exact = self._reader.frame_count_exact
            self._channel = channel
            self._check_size(self._reader.height, self._reader.width)
            single = self._reader.still
            again = self._reader.reiterable
        else:
            self._pictures, self.frame_count = pictures_of(_squeeze(source), 2)
            exact = self.frame_count is not None
            single = self.frame_count == 1
            again = exact
        self.holds = single and single_ok
        if on_short == "loop" and not again:
            raise ValueError("on_short: a generator cannot be looped; give a list or an array")
        if exact and frame_count is not None and not self.holds and on_short == "error":
            self._compare(frame_count)

    def _compare(self, frames: int) -> None:
        if self.frame_count != frames:
            raise ValueError(
                f"mask: has {self.frame_count} frames, the clip has {frames}; "
                'give on_short="loop" or "hold" if that is meant'
            )

    def __enter__(self) -> MaskReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the files held open."""
        if self._reader is not None:
            self._reader.close()

    def __iter__(self) -> Iterator[Mask]:
        self._given, self._exhausted = 0, False
        last: Mask | None = None
        while True:
            empty = True
            for mask in self._once():
                empty = False
                mask = self._shape(mask)
                mask.index = self._given
                self._given += 1
                last = mask if self.holds or self._on_short == "hold" else None
                yield mask
            if empty:
                raise ValueError("mask: holds no frame")
            if self.holds or self._on_short == "hold":
                while True:
                    self._given += 1
                    yield Mask(last.data, last.black, last.white, self._given - 1)
            if self._on_short != "loop":
                break
        self._exhausted = True
        self.frame_count = self._given

    def pairs(
        self,
        frames: Reader,
        around_mask: Callable[[], AbstractContextManager] = contextlib.nullcontext,
    ) -> Iterator[tuple[Frame, Mask]]:
        """Iterate over a clip's frames with their masks.

        A mask is read within a context that ``around_mask`` makes, which may time it.

        Raises ValueError naming both lengths where one ends before the other, unless the masks
        are looped or held; longer masks are then cut.
        """
        masks = iter(self)
        count = 0
        for frame in frames:
            with around_mask():
                mask = next(masks, None)
            if mask is None:
                total = frames.frame_count
                about = f" (about {total})" if total and total > count else ""
                raise ValueError(
                    f"mask: has {count} frames, the clip has more{about}; give "
                    'on_short="loop" or "hold" if that is meant'
                )
            count += 1
            yield frame, mask
            del frame, mask
        if not self.holds and self._on_short == "error" and next(masks, None) is not None:
            total = self.frame_count
            about = f" ({total})" if total and total > count else ""
            raise ValueError(f"mask: has more frames{about} than the clip, which has {count}")

    def _once(self) -> Iterator[Mask]:
        if self._reader is not None:
            for frame in self._reader:
                yield self._of_frame(frame)
            return
        pictures, self._pictures = self._pictures, None
        if pictures is None:
            if self.frame_count is None:
                raise ValueError("mask: a generator can be iterated only once")
            pictures, _ = pictures_of(_squeeze(self._source), 2)
        for index, picture in enumerate(pictures):
            yield self._of_array(picture, index)

    def _of_array(self, picture: Any, index: int) -> Mask:
        array = to_numpy(picture, f"mask: frame {index}")
        if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
            array = array[..., 0] if array.shape[2] == 1 else array[0]
        if array.ndim != 2:
            raise ValueError(f"mask: expected [H,W] for frame {index}, got shape {array.shape}")
        self._check_size(*array.shape)
        if array.dtype == bool:
            return Mask(array.view(np.uint8), 0.0, 1.0)
        if array.dtype in (np.uint8, np.uint16):
            self._check_scale(array)
            return Mask(array, 0.0, float(np.iinfo(array.dtype).max))
        if array.dtype.kind != "f":
            raise TypeError(
                f"mask: expected bool, uint8, uint16 or float, got {array.dtype} in frame {index}"
            )
        return _of_float(array, index)

    def _of_frame(self, frame: Frame) -> Mask:
        if self._channel == "auto":
            self._channel = "alpha" if _is_transparent(frame.alpha) else "luma"
        if self._channel == "alpha":
            if frame.alpha is None:
                raise ValueError(
                    f"mask: frame {frame.index} of {self._source} has no alpha channel"
                )
            data = frame.alpha
            full = True
        else:
            data = frame.planes[0]
            full = frame.color.full_range
            if frame.color.layout == "rgb":
                data = _grey_of_rgb(data, str(self._source), frame.index)
        if data.dtype.kind == "f":
            return _of_float(data, frame.index)
        if not full:
            return Mask(data, frame.color.black, frame.color.white)
        self._check_scale(data)
        top = frame.color.white if self._channel == "luma" else float(np.iinfo(data.dtype).max)
        return Mask(data, 0.0, top)

    def _check_scale(self, array: np.ndarray) -> None:
        """Refuse 0/1 integers, told by the first mask that is not empty."""
        if not self._checked and array.size:
            top = int(array.max())
            self._checked = top > 0
            if top == 1:
                raise ValueError(
                    f"mask: {array.dtype} values up to 1 only; this looks like a mask of 0 and 1: "
                    f"make it bool, or multiply it by {np.iinfo(array.dtype).max}"
                )

    def _check_size(self, height: int, width: int) -> None:
        if (height, width) == (self.height, self.width):
            return
        hint = ""
        if (width, height) == (self.height, self.width):
            hint = "; it seems to be turned by 90 degrees"
        elif width * self.height == height * self.width:
            hint = f"; it has the same shape: scale it by {self.width / width:g}"
        raise ValueError(f"mask: is {width}x{height}, the clip is {self.width}x{self.height}{hint}")

    def _shape(self, mask: Mask) -> Mask:
        if any(self._shaping.values()):
            unit = mask.unit()
            unit = shape_mask(1 - unit if self._invert else unit, **self._shaping)
            return Mask(unit, 0.0, 1.0, mask.index)
        if self._invert:
            data = mask.data
            low, high = data.dtype.type(mask.black), data.dtype.type(mask.white)
            return Mask(low + (high - np.clip(data, low, high)), mask.black, mask.white, mask.index)
        return mask


MAX_SHAPING = 256
"""Pixels; the cost of growing goes with the disc's area, and no matte's edge is off by more."""


def open_mask(
    source: Any,
    *,
    width: int,
    height: int,
    frame_count: int | None = None,
    on_short: Literal["error", "loop", "hold"] = "error",
    invert: bool = False,
    grow: float = 0,
    feather: float = 0.0,
    single_ok: bool = True,
    channel: Literal["auto", "luma", "alpha"] = "auto",
) -> MaskReader:
    """Open the masks of a clip of ``width`` x ``height``.

    source: all that ``open_reader`` takes as a path, an open Reader, or arrays, tensors, lists and
    generators of [H,W], [T,H,W], [T,H,W,1] or [T,1,H,W]. bool; uint8 and uint16 at full scale (the
    first mask that is not empty must not have a maximum of 1); float in [0,1]. A single picture
    stands for all frames unless single_ok is False. frame_count: the clip's exact length if known,
    compared at once. on_short: what to do when the masks end first. invert, then grow (pixels, a
    disc; below 0 shrinks), then feather (Gaussian sigma, pixels). channel: of pictures with alpha,
    which channel is the mask; "auto" takes alpha where the first one is not wholly opaque.

    Limited-range video is handed on as it is, with black 16 and white 235.

    Raises ValueError (size, length, range, coloured pictures), TypeError (dtype), and what
    ``open_reader`` raises.
    """
    if on_short not in ("error", "loop", "hold"):
        raise ValueError(f'on_short: expected "error", "loop" or "hold", got {on_short!r}')
    if channel not in ("auto", "luma", "alpha"):
        raise ValueError(f'channel: expected "auto", "luma" or "alpha", got {channel!r}')
    if not abs(grow) <= MAX_SHAPING:
        raise ValueError(f"grow: expected -{MAX_SHAPING} to {MAX_SHAPING} pixels, got {grow}")
    if not 0 <= feather <= MAX_SHAPING:
        raise ValueError(f"feather: expected a sigma of 0 to {MAX_SHAPING} pixels, got {feather}")
    shaping = {"invert": invert, "grow": grow, "feather": feather}
    return MaskReader(source, width, height, frame_count, on_short, shaping, channel, single_ok)


def _are_paths(source: Any) -> bool:
    return (
        isinstance(source, list | tuple)
        and bool(source)
        and all(isinstance(item, str | os.PathLike) for item in source)
    )


def _squeeze(source: Any) -> Any:
    """Drop the channel axis of [T,H,W,1] and [T,1,H,W] arrays; leave others alone."""
    if hasattr(source, "shape") and hasattr(source, "dtype") and len(source.shape) == 4:
        if source.shape[3] == 1:
            return source[..., 0]
        if source.shape[1] == 1:
            return source[:, 0]
        raise ValueError(
            f"mask: expected [T,H,W], [T,H,W,1] or [T,1,H,W], got shape {tuple(source.shape)}"
        )
    return source


def _of_float(array: np.ndarray, index: int) -> Mask:
    low, high = float(array.min()), float(array.max())
    # NaN fails both comparisons.
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
        raise ValueError(
            f"mask: float values must lie in [0,1]; frame {index} has {low:g} to {high:g}"
        )
    return Mask(array.astype(np.float32, copy=False), 0.0, 1.0)


def _is_transparent(alpha: np.ndarray | None) -> bool:
    if alpha is None:
        return False
    return alpha.min() < (1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max)


def _grey_of_rgb(rgb: np.ndarray, name: str, index: int) -> np.ndarray:
    red, green, blue = (rgb[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return green
    full = 1.0 if rgb.dtype.kind == "f" else float(np.iinfo(rgb.dtype).max)
    spread = rgb.max(axis=-1).astype(np.float32) - rgb.min(axis=-1)
    if float(spread.max()) > _COLOR_NOISE * full:
        raise ValueError(
            f"mask: frame {index} of {name} is coloured; expected black, white and grey (a map of "
            "labels must be turned into one mask first, a cut-out has its mask in the alpha "
            'channel: channel="alpha")'
        )
    return green

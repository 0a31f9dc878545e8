# SPDX-License-Identifier: Apache-2.0
"""Laying a foreground over a background by its matte, in the background's own samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .formats import blank_like, convert
from .frame import Frame, shared_tensor, yuv_format
from .mask import Mask, MaskReader
from .reader import Reader


def composite(
    foreground: Frame, background: Frame, matte: Mask | None = None, *, premultiplied: bool = False
) -> Frame:
    """Compose O = M F + (1-M) B, or O = F + (1-M) B where F is premultiplied by its own matte.

    The result has the background's format, time stamps and tags; where the matte is 0 its samples
    are the background's own, bit for bit (chroma where the matte is 0 at all luma sites of the
    sample; elsewhere chroma uses the matte's mean over those sites). The foreground is converted
    to the background's format first. matte None takes the foreground's alpha channel.

    Raises ValueError for sizes that differ or a foreground without alpha where it is needed.
    """
    size = (background.width, background.height)
    if (foreground.width, foreground.height) != size:
        raise ValueError(
            f"foreground: is {foreground.width}x{foreground.height}, the background "
            f"{size[0]}x{size[1]}"
        )
    if matte is None:
        matte = matte_of_alpha(foreground)
    if matte.data.shape != (background.height, background.width):
        raise ValueError(
            f"matte: is {matte.data.shape[1]}x{matte.data.shape[0]}, the background "
            f"{size[0]}x{size[1]}"
        )
    color = background.color
    front = convert(
        foreground if foreground.alpha is None else replace(foreground, alpha=None), color
    )
    if color.layout == "yuv" and front.alpha is None and background.alpha is None:
        return _composite_yuv(front, background, matte, premultiplied)
    unit = matte.unit()
    rows, columns = np.any(unit > 0, axis=1), np.any(unit > 0, axis=0)
    if not rows.any():
        return replace(background, matte=matte)
    across, down = color.subsampling if color.layout == "yuv" else (0, 0)
    box = _box(rows, columns, across, down)
    planes = []
    for number, plane in enumerate(background.planes):
        chroma = color.layout == "yuv" and number > 0
        shift = (across, down) if chroma else (0, 0)
        where = tuple(
            slice(s.start >> k, -(-s.stop >> k)) for s, k in zip(box, shift[::-1], strict=True)
        )
        weight = _area_mean(unit[box], *shift) if chroma else unit[box]
        zero = color.neutral if chroma else color.black
        mixed = _mix(front.planes[number][where], plane[where], weight, zero, premultiplied)
        if plane.dtype.kind != "f":
            top = (1 << color.depth) - 1
            mixed = np.clip(np.rint(mixed), 0, top).astype(plane.dtype)
        result = plane.copy()
        result[where] = mixed
        planes.append(result)
    return replace(background, planes=tuple(planes), matte=matte, source=None)


def _composite_yuv(front: Frame, back: Frame, matte: Mask, premultiplied: bool) -> Frame:
    from ..ops import PlaneMask, composite_yuv

    blank = blank_like(back)
    assert blank is not None  # YUV without alpha
    weight = PlaneMask(shared_tensor(matte.data), matte.black, matte.white)
    composite_yuv(
        front.tensors(), back.tensors(), weight, format=yuv_format(back.color),
        premultiplied=premultiplied, out=blank.tensors(),
    )  # fmt: skip
    return replace(blank, matte=matte)


def matte_of_alpha(frame: Frame) -> Mask:
    """Return a frame's alpha channel as a mask. Raises ValueError where it has none."""
    if frame.alpha is None:
        raise ValueError("foreground: has no alpha channel, so a matte must be given")
    top = 1.0 if frame.alpha.dtype.kind == "f" else float(np.iinfo(frame.alpha.dtype).max)
    return Mask(frame.alpha, 0.0, top, frame.index)


def _box(rows: np.ndarray, columns: np.ndarray, across: int, down: int) -> tuple[slice, slice]:
    """Smallest box around the matte whose corners lie on chroma samples."""

    def span(used: np.ndarray, shift: int) -> slice:
        found = np.flatnonzero(used)
        first, stop = int(found[0]), int(found[-1]) + 1
        return slice((first >> shift) << shift, min(-(-stop >> shift) << shift, len(used)))

    return span(rows, down), span(columns, across)


def _area_mean(unit: np.ndarray, across: int, down: int) -> np.ndarray:
    """Mean of the mask over each chroma sample's luma sites; those beyond the edge do not count."""
    for axis, shift in ((0, down), (1, across)):
        if shift:
            if unit.shape[axis] % 2:
                # The mean of a site and its own repetition is the site.
                unit = np.pad(unit, [(0, 1) if axis == k else (0, 0) for k in (0, 1)], "edge")
            halves = (unit[::2], unit[1::2]) if axis == 0 else (unit[:, ::2], unit[:, 1::2])
            unit = (halves[0] + halves[1]) * np.float32(0.5)
    return unit


def _mix(
    front: np.ndarray, back: np.ndarray, weight: np.ndarray, zero: float, premultiplied: bool
) -> np.ndarray:
    """Mix samples; ``zero`` is the sample value that stands for nothing."""
    if front.ndim == 3:
        weight = weight[..., None]
    below = back.astype(np.float32)
    if premultiplied:
        mixed = (below - np.float32(zero)) * (1 - weight) + front
        np.copyto(mixed, below, where=weight == 0)
        return mixed
    # Exact at both ends: 0 adds nothing, 1 adds the difference of two integers.
    return below + (front - below) * weight


class CompositeReader(Reader):
    """The frames of two clips composed; see ``composite_reader``."""

    def __init__(
        self,
        foreground: Reader,
        background: Reader,
        matte: MaskReader | None,
        premultiplied: bool,
    ) -> None:
        super().__init__(background.width, background.height, background.color, background.template)
        for name in ("frame_count", "frame_count_exact", "duration", "rotation", "has_audio",
                     "has_alpha", "still", "streams", "path"):  # fmt: skip
            setattr(self, name, getattr(background, name))
        self.inputs = foreground.inputs + background.inputs
        self.reiterable = foreground.reiterable and background.reiterable
        self._parts = (foreground, background, matte)
        self._premultiplied = premultiplied

    def __iter__(self) -> Iterator[Frame]:
        foreground, background, matte = self._parts
        fronts = _held(foreground) if foreground.still else iter(foreground)
        mattes = iter(matte) if matte is not None else None
        count = 0
        for back in background:
            front = next(fronts, None)
            if front is None:
                raise ValueError(
                    f"foreground: has {count} frames, the background has more"
                    f"{_about(background, count)}"
                )
            mask = None
            if mattes is not None and (mask := next(mattes, None)) is None:
                raise ValueError(
                    f"mask: has {count} frames, the clip has more{_about(background, count)}"
                )
            count += 1
            yield composite(front, back, mask, premultiplied=self._premultiplied)
        if not foreground.still and next(fronts, None) is not None:
            raise ValueError(
                f"foreground: has more frames{_about(foreground, count)} than the background, "
                f"which has {count}"
            )

    def close(self) -> None:
        for part in self._parts:
            if part is not None:
                part.close()


def composite_reader(
    foreground: Reader,
    background: Reader,
    matte: MaskReader | None = None,
    *,
    premultiplied: bool = False,
) -> Reader:
    """Compose two clips frame by frame; the background gives time stamps, sound and format.

    matte None takes the foreground's alpha. Each frame carries its mask in ``frame.matte``. A
    still picture as the foreground stands for all frames. Raises ValueError for sizes that
    differ, for a foreground without alpha where it is needed, and, while it is read, for clips
    of different lengths, naming both.
    """
    if (foreground.width, foreground.height) != (background.width, background.height):
        raise ValueError(
            f"foreground: is {foreground.width}x{foreground.height}, the background "
            f"{background.width}x{background.height}"
        )
    if matte is None and not foreground.has_alpha:
        raise ValueError("foreground: has no alpha channel, so a matte must be given")
    return CompositeReader(foreground, background, matte, premultiplied)


def _held(reader: Reader) -> Iterator[Frame]:
    frame = next(iter(reader))
    while True:
        yield frame


def _about(reader: Reader, count: int) -> str:
    total = reader.frame_count
    return (
        f" ({'' if reader.frame_count_exact else 'about '}{total})"
        if total and total > count
        else ""
    )

# SPDX-License-Identifier: Apache-2.0
"""Between FFmpeg's pictures and vharm's frames: zero-copy views and conversions."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from .errors import MediaError, av_version, require_av
from .frame import ColorSpec, Frame
from .pixel_formats import (
    FULL_RANGE,
    LIMITED_RANGE,
    PLAIN,
    PLANAR_YUV,
    SUBSAMPLING,
    color_of_format,
    float_kind,
    format_of_color,
    native_format,
)

# SWS_CS_* numbers of swscale; not the tags that streams carry.
_SWS_MATRIX = {"bt709": 1, "bt601": 5, "bt2020": 9}
_SWS_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000  # bicubic, full chroma in and out, accurate rounding


def frame_from_av(picture: Any, index: int = 0, *, image: bool = False) -> Frame:
    """Make a Frame of an ``av.VideoFrame``; planes are read-only views wherever possible."""
    name = picture.format.name
    color = color_of_format(
        name,
        picture.width,
        picture.height,
        matrix_tag=int(picture.colorspace),
        range_tag=int(picture.color_range),
        transfer_tag=int(picture.color_trc),
        primaries_tag=int(picture.color_primaries),
        image=image,
    )
    native = native_format(name)
    if native != name:
        picture = _swscale(picture, native, color, color)
    planes, alpha = _planes_of(picture, native, color)
    if name == "pal8" and alpha is not None and alpha.min() == 255:
        alpha = None
    pts, time_base = picture.pts, picture.time_base
    time = 0.0 if pts is None else pts * time_base.numerator / time_base.denominator
    return Frame(
        planes,
        color,
        index=index,
        pts=pts,
        time_base=time_base,
        duration=getattr(picture, "duration", None) or None,
        time=time,
        alpha=alpha,
        source=(picture, planes, alpha, color),
    )


def unchanged_picture(frame: Frame) -> Any:
    """The ``av.VideoFrame`` of a Frame that is still what a decoder gave; else None."""
    picture, *made = frame.source or (None,)
    # A frame changed by dataclasses.replace no longer is what the decoder gave.
    now = (frame.planes, frame.alpha, frame.color)
    return picture if all(a is b for a, b in zip(made, now, strict=False)) else None


def make_av_frame(frame: Frame) -> Any:
    """Make an ``av.VideoFrame`` of a Frame, with its colour tags and time stamp.

    A frame that is still what a decoder gave hands that picture back without a copy.
    """
    picture = unchanged_picture(frame)
    if picture is None:
        name = format_of_color(frame.color, frame.alpha is not None)
        picture = _new_picture(frame, name)
        _fill(picture, name, frame)
    # The decoder's picture type would be taken by encoders as an order to repeat it.
    picture.pict_type = 0
    picture.pts = frame.pts
    if frame.time_base is not None:
        picture.time_base = frame.time_base
    picture.duration = frame.duration or 0
    return picture


def blank_like(frame: Frame) -> Frame | None:
    """A frame of the same size and format whose planes may be written: an encoder's own memory.

    What is written into its planes goes to ``make_av_frame`` without another copy. Returns None
    for frames that are not YUV without alpha, whose planes are not the picture's memory.
    """
    if frame.color.layout != "yuv" or frame.alpha is not None:
        return None
    name = format_of_color(frame.color, False)
    return _on_picture(frame, _new_picture(frame, name), name)


def overwritable(frame: Frame) -> Frame | None:
    """The frame again, in memory of its own that may be written to, as by ``blank_like``.

    That is the decoder's own memory where the decoder needs it no more (a copy costs more than
    most Looks), and else a copy. The frame that was given may not be read afterwards: its planes
    are written over, or given back to the decoder. Returns None for frames that are not YUV
    without alpha, straight from a decoder.
    """
    picture = unchanged_picture(frame)
    if picture is None or frame.color.layout != "yuv" or frame.alpha is not None:
        return None
    name = format_of_color(frame.color, False)
    if picture.format.name != name:
        return None
    picture.make_writable()
    return _on_picture(frame, picture, name)


def _on_picture(frame: Frame, picture: Any, name: str) -> Frame:
    """The frame with the picture's memory for planes, no longer that of its packet."""
    planes = tuple(_storage(picture, name)[:3])
    source = (picture, planes, None, frame.color)
    return replace(frame, planes=planes, source=source, packet=None)


def _new_picture(frame: Frame, name: str) -> Any:
    picture = require_av().VideoFrame(frame.width, frame.height, name)
    picture.colorspace = frame.color.matrix_tag
    picture.color_range = frame.color.range_tag
    picture.color_trc = frame.color.transfer_tag
    picture.color_primaries = frame.color.primaries_tag
    return picture


def convert(frame: Frame, color: ColorSpec) -> Frame:
    """Convert a frame to another layout, depth, subsampling, matrix or range through swscale.

    Transfer function and primaries are not converted: where both sides state a transfer function
    and only one is HDR or linear, ValueError is raised. Returns ``frame`` itself where nothing
    differs. Alpha is kept.
    """
    have = frame.color
    wide = {"pq", "hlg", "linear"}
    states = "unspecified" not in (have.transfer, color.transfer)
    if states and have.transfer != color.transfer and wide & {have.transfer, color.transfer}:
        raise ValueError(
            f"frame: its transfer function is {have.transfer}, wanted is {color.transfer}; "
            "convert one of the clips first"
        )
    keys = ("layout", "depth", "subsampling", "full_range")
    same = all(getattr(have, key) == getattr(color, key) for key in keys)
    if same and (have.layout != "yuv" or have.matrix == color.matrix):
        return frame
    if have.layout == color.layout != "yuv" and have.full_range and color.full_range:
        exact = _rescale(frame, color)
        if exact is not None:
            return exact
    picture = make_av_frame(frame)
    has_alpha = frame.alpha is not None
    name = format_of_color(color, has_alpha and not (color.depth == 32 and color.layout == "gray"))
    result = _swscale(picture, name, have, color)
    planes, alpha = _planes_of(result, name, color)
    return Frame(
        planes, color, frame.index, frame.pts, frame.time_base, frame.duration, frame.time, alpha,
        frame.matte,
    )  # fmt: skip


def _rescale(frame: Frame, color: ColorSpec) -> Frame | None:
    """Change between 8 and 16 bits by the exact factor 257; swscale does it by shifting."""
    depths = (frame.color.depth, color.depth)
    if depths not in ((8, 16), (16, 8)):
        return None

    def change(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        if depths[0] == 8:
            return array.astype(np.uint16) * np.uint16(257)
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)

    planes = tuple(change(plane) for plane in frame.planes)
    return replace(frame, planes=planes, alpha=change(frame.alpha), color=color, source=None)


def to_format(picture: Any, name: str, have: ColorSpec, want: ColorSpec) -> Any:
    """Convert an ``av.VideoFrame`` from ``have`` to pixel format ``name`` and color ``want``."""
    if picture.format.name == name.replace("yuvj", "yuv") and have == want:
        return picture
    return _swscale(picture, name, have, want)


def _swscale(picture: Any, name: str, have: ColorSpec, want: ColorSpec) -> Any:
    matrices = {spec.matrix for spec in (have, want) if spec.layout == "yuv"}
    changes = have.layout != want.layout or len(matrices) > 1
    if changes and "bt2020" in matrices and av_version(require_av()) < (18, 0):
        # Older ones drop that matrix silently and compute with another.
        raise MediaError("converting from or to BT.2020 needs PyAV 18 or newer")
    result = picture.reformat(
        format=name,
        src_colorspace=_SWS_MATRIX[have.matrix],
        dst_colorspace=_SWS_MATRIX[want.matrix],
        src_color_range=FULL_RANGE if have.full_range else LIMITED_RANGE,
        dst_color_range=FULL_RANGE if want.full_range else LIMITED_RANGE,
        interpolation=_SWS_FLAGS,
    )
    # Some encoders (ProRes) write the picture's tags, which swscale set to what it computed with.
    result.colorspace, result.color_range = want.matrix_tag, want.range_tag
    result.color_trc, result.color_primaries = want.transfer_tag, want.primaries_tag
    result.pts, result.duration = picture.pts, picture.duration
    if picture.time_base is not None:
        result.time_base = picture.time_base
    return result


def _storage(picture: Any, name: str) -> list[np.ndarray]:
    """Writable arrays over the picture's memory, in FFmpeg's own order of planes."""
    # Each look at `planes` makes them anew.
    stored = picture.planes
    layout = _layout(name, picture.height, picture.width)
    return [_view(picture, stored[number], *kind) for number, kind in enumerate(layout)]


def _view(
    picture: Any, plane: Any, shape: tuple[int, ...], dtype: np.dtype, sample: int, row: int
) -> np.ndarray:
    line = plane.line_size
    if abs(line) < row:
        raise MediaError(f"a {picture.format.name} row of {row} bytes is stored in {line}")
    strides = (line, dtype.itemsize) if len(shape) == 2 else (line, sample, dtype.itemsize)
    offset = 0 if line > 0 else -line * (shape[0] - 1)
    return np.ndarray(shape, dtype, buffer=plane, offset=offset, strides=strides)


@functools.lru_cache(maxsize=64)
def _layout(
    name: str, height: int, width: int
) -> tuple[tuple[tuple[int, ...], np.dtype, int, int], ...]:
    """For each plane its shape, type, and the bytes of a pixel and of a row."""
    size = (height, width)
    kind = float_kind(name)
    planar = PLANAR_YUV.match(name)
    if kind:
        dtype = np.dtype(np.float32 if "f32" in kind else np.float16)
        counts = {"gbrap": (1,) * 4, "gbrp": (1,) * 3, "gray": (1,), "ya": (2,), "rgba": (4,)}
        layers = counts.get(kind.split("f")[0], (3,))
        shapes = [size if count == 1 else (*size, count) for count in layers]
    elif planar:
        across, down = SUBSAMPLING[planar[3]]
        chroma = (-(-height >> down), -(-width >> across))
        shapes = [size, chroma, chroma] + ([size] if planar[1] else [])
        dtype = np.dtype(np.uint16 if planar[4] else np.uint8)
    else:
        layout, depth, alpha = PLAIN[name]
        channels = {"rgb": 3, "gray": 1}[layout] + alpha
        shapes = [size if channels == 1 else (*size, channels)]
        dtype = np.dtype(np.uint8 if depth == 8 else np.uint16)
    made = []
    for shape in shapes:
        pixel = dtype.itemsize * (shape[2] if len(shape) > 2 else 1)
        made.append((shape, dtype, pixel, shape[1] * pixel))
    return tuple(made)


def _planes_of(
    picture: Any, name: str, color: ColorSpec
) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
    arrays = _storage(picture, name)
    for array in arrays:
        array.setflags(write=False)
    kind = float_kind(name)
    alpha = None
    if kind and kind.startswith("gbr"):
        green, blue, red = arrays[:3]
        alpha = arrays[3].astype(np.float32) if len(arrays) == 4 else None
        return (np.stack((red, green, blue), axis=-1).astype(np.float32, copy=False),), alpha
    first = arrays[0]
    if kind:
        first = first.astype(np.float32, copy=False)
    if color.layout == "yuv":
        if len(arrays) == 4:
            alpha = _alpha_to_full_scale(arrays[3], color.depth)
        return tuple(arrays[:3]), alpha
    channels = 1 if first.ndim == 2 else first.shape[2]
    if channels in (2, 4):
        alpha = np.ascontiguousarray(first[..., -1])
        first = np.ascontiguousarray(first[..., 0] if channels == 2 else first[..., :3])
    return (first,), alpha


def _fill(picture: Any, name: str, frame: Frame) -> None:
    arrays = _storage(picture, name)
    color, alpha = frame.color, frame.alpha
    if float_kind(name) and color.layout == "rgb":
        for array, channel in zip(arrays, (1, 2, 0), strict=False):
            array[...] = frame.planes[0][..., channel]
        if alpha is not None:
            arrays[3][...] = alpha
    elif color.layout == "yuv":
        for array, plane in zip(arrays, frame.planes, strict=False):
            array[...] = plane
        if alpha is not None:
            arrays[3][...] = alpha >> (16 - color.depth) if color.depth in (10, 12) else alpha
    elif alpha is None:
        arrays[0][...] = frame.planes[0]
    else:
        arrays[0][..., :-1] = frame.planes[0].reshape(frame.height, frame.width, -1)
        arrays[0][..., -1] = alpha


def _alpha_to_full_scale(alpha: np.ndarray, depth: int) -> np.ndarray:
    if depth in (8, 16):
        return alpha
    # Repeating the high bits maps the greatest value to 65535 and shifts back exactly.
    return (alpha << (16 - depth)) | (alpha >> (2 * depth - 16))

# SPDX-License-Identifier: Apache-2.0
"""Pictures and masks from encoded bytes and back, and their sizes."""

from __future__ import annotations

import functools
import os
from types import ModuleType

import numpy as np

from .errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# Coloured noise of this much, of 255, is JPEG's; more is a picture or a map of labels.
_COLOUR_NOISE = 24


@functools.cache
def require_cv2() -> ModuleType:
    """Return OpenCV, or raise an ImportError that says how to install it."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError('reading data sets needs OpenCV: pip install "vharm[video]"') from error
    if hasattr(os, "register_at_fork"):
        # Forked children are a DataLoader's workers: a thread for each core in every one of them
        # would only be in the others' way.
        os.register_at_fork(after_in_child=functools.partial(cv2.setNumThreads, 0))
    return cv2


def decode_colour(data: bytes, label: str) -> np.ndarray:
    """A picture as uint8 [H,W,3], RGB, as stored: orientation notes (EXIF) are not followed.

    Raises:
        DataError: no picture, or one that ends early.
    """
    cv2 = require_cv2()
    _check_whole(data, label)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    picture = _decode(cv2, data, flags, label)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def decode_mask(data: bytes, label: str) -> np.ndarray:
    """A mask as uint8 [H,W], full scale, of a grey picture or of a cut-out's alpha channel.

    Raises:
        DataError: not readable, coloured (a map of labels), or of 0 and 1 only.
    """
    cv2 = require_cv2()
    _check_whole(data, label)
    picture = _decode(cv2, data, cv2.IMREAD_UNCHANGED, label)
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if picture.dtype != np.uint8:
        raise DataError(f"{label}: expected a mask of 8 or 16 bits, got {picture.dtype}")
    mask = picture if picture.ndim == 2 else _single_channel(picture, label)
    if mask.size and mask.max() == 1:
        raise DataError(
            f"{label}: a mask of 0 and 1; expected 0 to 255 (multiply it by 255 when writing it)"
        )
    return np.ascontiguousarray(mask)


def _decode(cv2: ModuleType, data: bytes, flags: int, label: str) -> np.ndarray:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        picture = None
    if picture is None:
        raise DataError(f"{label}: not a readable picture")
    return picture


def _check_whole(data: bytes, label: str) -> None:
    """Some versions of OpenCV fill what a cut file lacks with grey and say nothing."""
    jpeg = data[:2] == b"\xff\xd8"
    # In coded data 0xFF is followed by 0: after the last scan's start the end mark is itself.
    if jpeg and data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) < 0:
        raise DataError(f"{label}: ends early ({len(data)} bytes)")
    if data[:4] == b"\x89PNG" and data.rfind(b"IEND") < 0:
        raise DataError(f"{label}: ends early ({len(data)} bytes)")


def _single_channel(picture: np.ndarray, label: str) -> np.ndarray:
    if picture.shape[2] == 4 and picture[..., 3].min() < 255:
        return picture[..., 3]
    colours = picture[..., :3]
    spread = colours.max(axis=2).astype(np.int16) - colours.min(axis=2)
    if spread.size and int(spread.max()) > _COLOUR_NOISE:
        raise DataError(
            f"{label}: a coloured picture; expected a mask in black, white and grey "
            "(turn a map of labels into one mask first)"
        )
    return colours[..., 1]


def resize_picture(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H,W] or [H,W,3] at size (height, width): area means down, bilinear up."""
    cv2 = require_cv2()
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    shrinks = size[0] <= height and size[1] <= width
    if not shrinks and (size[0] < height or size[1] < width):
        # INTER_AREA turns into nearest neighbour for the whole picture where one side grows.
        middle = (min(size[0], height), min(size[1], width))
        picture, shrinks = resize_picture(picture, middle), False
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(picture, (size[1], size[0]), interpolation=how)


def encode_jpeg(picture: np.ndarray, quality: int) -> bytes:
    """A JPEG (4:2:0, progressive) of uint8 [H,W,3]; the same bytes for the same input."""
    cv2 = require_cv2()
    settings = [
        cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1,
        cv2.IMWRITE_JPEG_PROGRESSIVE, 1,
    ]  # fmt: skip
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    if not ok:
        raise DataError(f"a picture of shape {picture.shape} could not be encoded as JPEG")
    return data.tobytes()


def encode_png(picture: np.ndarray) -> bytes:
    """A PNG of uint8 [H,W] or [H,W,3]; of one bit a pixel where it holds only 0 and 255."""
    cv2 = require_cv2()
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 9]
    if picture.ndim == 2 and bool(((picture == 0) | (picture == 255)).all()):
        settings += [cv2.IMWRITE_PNG_BILEVEL, 1]
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".png", picture, settings)
    if not ok:
        raise DataError(f"a picture of shape {picture.shape} could not be encoded as PNG")
    return data.tobytes()


def size_of(size: int | tuple[int, int] | None, name: str = "size") -> tuple[int, int] | None:
    """(height, width) of what the caller gave: a number, a pair, or None.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) and not isinstance(size, bool) else size
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"{name}: expected a whole number or (height, width), got {size!r}")
    if not all(isinstance(value, int) and value > 0 for value in pair):
        raise ValueError(f"{name}: expected whole numbers above 0, got {size!r}")
    return (pair[0], pair[1])

# SPDX-License-Identifier: Apache-2.0
"""The orientation that cameras note in a picture's EXIF data, and display matrices."""

from __future__ import annotations

import math
import struct

import numpy as np

# Orientation 1 to 8: transpose first, then mirror columns, then mirror rows.
_STEPS = {
    1: (False, False, False), 2: (False, True, False), 3: (False, True, True),
    4: (False, False, True), 5: (True, False, False), 6: (True, True, False),
    7: (True, True, True), 8: (True, False, True),
}  # fmt: skip


def exif_orientation(data: bytes) -> int:
    """Return the EXIF orientation (1 to 8) of a JPEG, PNG, WebP or TIFF file; 1 if it has none."""
    block = _exif_block(data)
    if block is None or len(block) < 8 or block[:2] not in (b"II", b"MM"):
        return 1
    order = "<" if block[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, start)
        for number in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * number)
            if tag == 0x0112 and kind == 3:
                return value if value in _STEPS else 1
    except struct.error:
        return 1
    return 1


def _exif_block(data: bytes) -> bytes | None:
    if data[:2] in (b"II", b"MM"):
        return data
    if data[:2] == b"\xff\xd8":
        return _jpeg_block(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _chunk(data, 8, ">I4s", b"eXIf", size_first=True)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        block = _chunk(data, 12, "<4sI", b"EXIF", size_first=False)
        return block[6:] if block is not None and block[:4] == b"Exif" else block
    return None


def _jpeg_block(data: bytes) -> bytes | None:
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, size = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xDA:
            return None
        body = data[place + 4 : place + 2 + size]
        if marker == 0xE1 and body[:6] == b"Exif\0\0":
            return body[6:]
        place += 2 + size
    return None


def _chunk(data: bytes, place: int, form: str, wanted: bytes, *, size_first: bool) -> bytes | None:
    while place + 8 <= len(data):
        first, second = struct.unpack_from(form, data, place)
        size, name = (first, second) if size_first else (second, first)
        if name == wanted:
            return data[place + 8 : place + 8 + size]
        # PNG closes a chunk with a checksum, RIFF pads it to an even length.
        place += 8 + size + (4 if size_first else size & 1)
    return None


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn samples [H,W] or [H,W,C] stored under an EXIF orientation as they are to be seen."""
    transpose, columns, rows = _STEPS[orientation]
    if transpose:
        array = np.swapaxes(array, 0, 1)
    if columns:
        array = array[:, ::-1]
    return np.ascontiguousarray(array[::-1] if rows else array)


def matrix_of_rotation(degrees: float) -> tuple[int, ...] | None:
    """Display matrix of a turn by ``degrees`` counter-clockwise; None for no turn."""
    if not degrees:
        return None
    cosine, sine = (round(f(math.radians(degrees)) * 65536) for f in (math.cos, math.sin))
    return (cosine, -sine, 0, sine, cosine, 0, 0, 0, 1 << 30)

# SPDX-License-Identifier: Apache-2.0
"""A contact sheet: pictures of a data set with their masks' outlines."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from ._pictures import encode_png, require_cv2
from .clips import spread
from .types import Sample

TILE, MARGIN, CAPTION = 200, 6, 18
"""Pixels: a tile's side, the gap between tiles, the line of text below each."""
PAPER, INK, OUTLINE = (24, 24, 26), (220, 220, 220), (255, 60, 60)


def contact_sheet(data: Any, path: str | os.PathLike, *, count: int = 48, columns: int = 8) -> Path:
    """Draws pictures of a set, evenly spread, with their masks' outlines, into a PNG file.

    Of clips the middle frame is shown; of samples the composite. Outlines run at half the mask.

    Args:
        data: a set of scenes or samples.
        path: the file, written whole or not at all.
        count: at most so many pictures.
        columns: of tiles.

    Raises:
        ValueError: count or columns below 1, or an empty set.
    """
    if columns < 1 or not len(data):
        raise ValueError(f"columns: expected 1 or more, and a set that is not empty, got {columns}")
    tiles = []
    for index in spread(len(data), count):
        item, frame = _middle(data, index)
        frames = item.composite if isinstance(item, Sample) else item.frames
        picture = np.ascontiguousarray(frames[frame].permute(1, 2, 0).numpy())
        share = float(item.masks[frame].float().mean()) / 255
        tiles.append(_tile(picture, item.masks[frame, 0].numpy(), f"{item.name} {share:.0%}"))
    across = min(columns, len(tiles))
    height, width = tiles[0].shape[0] + MARGIN, tiles[0].shape[1] + MARGIN
    lines = -(-len(tiles) // across)
    sheet = np.full((lines * height + MARGIN, across * width + MARGIN, 3), PAPER, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = MARGIN + number // across * height, MARGIN + number % across * width
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.write_bytes(encode_png(sheet))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _middle(data: Any, index: int) -> tuple[Any, int]:
    """The item and its middle frame's position, reading that frame alone where the set can."""
    if hasattr(data, "part"):
        middle = data.count(index) // 2
        return data.part(index, middle, middle + 1), 0
    item = data[index]
    return item, len(item.masks) // 2


def _tile(picture: np.ndarray, mask: np.ndarray, caption: str) -> np.ndarray:
    cv2 = require_cv2()
    height, width = mask.shape
    factor = TILE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(picture, size, interpolation=how)
    inside = (cv2.resize(mask, size, interpolation=how) > 127).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(small, outlines, -1, OUTLINE, 1)
    tile = np.full((TILE + CAPTION, TILE, 3), PAPER, np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    # The end of a long name tells more than its beginning. OpenCV's letters are ASCII only.
    text = caption.encode("ascii", "replace").decode()[-30:]
    place = (2, TILE + CAPTION - 5)
    cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
    return tile

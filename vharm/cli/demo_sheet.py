# SPDX-License-Identifier: Apache-2.0
"""The demo's contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TILE = 320
"""Width of a tile in pixels; its height follows the clip."""
MARGIN, HEADER, FOOTER = 6, 34, 64
PAPER, INK, SOFT = (24, 24, 26), (240, 240, 240), (168, 168, 172)


def draw_sheet(
    path: Path, rows: list[tuple[str, list[np.ndarray]]], columns: list[str], footer: list[str]
) -> None:
    """Draws rows of pictures with labels.

    Args:
        path: a PNG file.
        rows: a label and one uint8 picture ([H,W,3] or [H,W]) for each column, all of one size.
        columns: headings.
        footer: at most two lines below.
    """
    from PIL import Image, ImageDraw, ImageFont

    height = round(TILE * rows[0][1][0].shape[0] / rows[0][1][0].shape[1])
    size = (
        MARGIN + len(columns) * (TILE + MARGIN),
        HEADER + len(rows) * (height + MARGIN) + FOOTER,
    )
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    for number, heading in enumerate(columns):
        left = MARGIN + number * (TILE + MARGIN)
        pen.text((left + TILE / 2, HEADER / 2), heading, INK, large, anchor="mm")
        for line, (label, pictures) in enumerate(rows):
            top = HEADER + line * (height + MARGIN)
            tile = Image.fromarray(pictures[number]).convert("RGB")
            sheet.paste(tile.resize((TILE, height), Image.Resampling.LANCZOS), (left, top))
            if number == 0:
                _caption(pen, left + 5, top + height - 5, label, small)
    top = HEADER + len(rows) * (height + MARGIN)
    for line, text in enumerate(footer[:2]):
        place = (MARGIN + 2, top + 17 + 24 * line)
        pen.text(place, text, SOFT if line else INK, small, anchor="lm")
    sheet.save(path)


def _caption(pen, left: float, bottom: float, text: str, font) -> None:
    box = pen.textbbox((left + 4, bottom - 3), text, font, anchor="lb")
    pen.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), PAPER)
    pen.text((left + 4, bottom - 3), text, INK, font, anchor="lb")

# SPDX-License-Identifier: Apache-2.0
"""Before and after in one picture."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..media.frame import shared_tensor
from .apply import TensorFrame

if TYPE_CHECKING:
    from ..media import Frame

COMPARISONS = ("wipe", "side-by-side")
WIPE_PERIOD = 4.0
"""Seconds the wipe's divider takes from the middle to both sides and back."""


def check_comparison(name: str | None) -> str | None:
    """The name itself; raises ValueError for an unknown one."""
    if name is not None and name not in COMPARISONS:
        raise ValueError(f"compare: expected one of {', '.join(COMPARISONS)}; got {name!r}")
    return name


def output_size(width: int, height: int, compare: str | None) -> tuple[int, int]:
    """(width, height) of the frames that come out; for opening a writer.

    Side by side doubles the width, after dropping an odd last column (encoders want even sizes).
    """
    if compare != "side-by-side":
        return width, height
    return 2 * (width - width % 2 if width > 1 else 1), height


def join(before: Frame, after: Frame, compare: str) -> Frame:
    """The composite and the harmonized frame in one.

    Args:
        before: the composite.
        after: the harmonized frame, of the same format.
        compare: "wipe" (left of a moving divider the composite, right of it the result) or
            "side-by-side" (composite left, result right; an odd last column is dropped).

    Returns:
        A frame of the same format, planes newly allocated; time stamps are those of `after`.
    """
    draw = _wipe if compare == "wipe" else _side_by_side
    if not isinstance(after, TensorFrame):
        return draw(before, after)
    joined = draw(before.plain(), after.plain())
    like = after.planes[0]
    planes = [shared_tensor(plane).to(like) for plane in joined.planes]
    alpha = None if joined.alpha is None else shared_tensor(joined.alpha).to(like)
    return replace(after, planes=tuple(planes), alpha=alpha, matte=None)


def _shifts(frame: Frame) -> list[int]:
    """How far each plane's columns are shifted against the picture's."""
    across = frame.color.subsampling[0] if frame.color.layout == "yuv" else 0
    return [0] + [across] * (len(frame.planes) - 1)


def _wipe(before: Frame, after: Frame) -> Frame:
    width = after.width
    swing = 0.4 * math.sin(2 * math.pi * after.time / WIPE_PERIOD)
    # Even columns, so that luma and chroma are cut at the same place.
    edge = int(width * (0.5 + swing)) // 2 * 2
    divider = max(2, width // 480 // 2 * 2)
    color = after.color
    planes = []
    for number, shift in enumerate(_shifts(after)):
        plane = np.array(after.planes[number])
        cut, stop = edge >> shift, (edge + divider) >> shift
        plane[:, :cut] = before.planes[number][:, :cut]
        plane[:, cut:stop] = color.white if number == 0 else color.neutral
        planes.append(plane)
    return after.replace_planes(planes)


def _side_by_side(before: Frame, after: Frame) -> Frame:
    keep = output_size(after.width, after.height, "side-by-side")[0] // 2
    planes = []
    for number, shift in enumerate(_shifts(after)):
        stop = -(-keep >> shift)
        pair = (before.planes[number][:, :stop], after.planes[number][:, :stop])
        # A chroma column more than the wider picture has, where it is 2 pixels wide.
        planes.append(np.concatenate(pair, axis=1)[:, : -(-2 * keep >> shift)])
    alpha = after.alpha
    if alpha is not None:
        alpha = np.concatenate((alpha[:, :keep], alpha[:, :keep]), axis=1)
    return replace(after, planes=tuple(planes), alpha=alpha, matte=None, source=None)

# SPDX-License-Identifier: Apache-2.0
"""Frames with their masks."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..media.frame import Frame
from ..media.mask import Mask, MaskReader

if TYPE_CHECKING:
    from .mask_free import MaskFinder


def pair_up(
    reader: Any, masks: Any, finder: MaskFinder | None = None, every: int | None = None,
    around_mask: Callable[[], AbstractContextManager] = contextlib.nullcontext,
) -> Iterator[tuple[Frame, Mask]]:  # fmt: skip
    """Frames with their masks; each pair is dropped before the next is read.

    masks None takes a frame's matte or alpha channel; where the first frame has neither, the
    finder makes masks (of every n-th frame only, if `every` says so). A mask is read within a
    context of `around_mask`. Raises ValueError where there is none of these, or where one of both
    ends before the other.
    """
    if isinstance(masks, MaskReader):
        return masks.pairs(reader, around_mask)
    if masks is None:
        return _own(reader, finder, every)
    return _paired(reader, masks, around_mask)


def _own(
    reader: Iterable[Frame], finder: MaskFinder | None, every: int | None
) -> Iterator[tuple[Frame, Mask]]:
    frames = iter(reader)
    first = next(frames, None)
    if first is None:
        return
    finds = finder is not None and not has_own_mask(first)
    frames = itertools.chain([first], frames)
    del first
    if finds:
        yield from finder.pairs(frames, every, getattr(reader, "shape_mask", None))
        return
    for number, frame in enumerate(frames):
        yield frame, own_mask(frame, number)
        del frame


def has_own_mask(frame: Frame) -> bool:
    """Whether a frame carries a matte or an alpha channel."""
    return frame.matte is not None or frame.alpha is not None


def own_mask(frame: Frame, number: int) -> Mask:
    """The mask a frame carries: its matte, or else its alpha channel."""
    if frame.matte is not None:
        return frame.matte
    if frame.alpha is None:
        raise ValueError(
            f"masks: none were given, and frame {number} has neither a matte nor an alpha "
            "channel; expected masks, frames with 4 channels, or a method that finds the "
            'foreground itself: method="huang"'
        )
    return alpha_mask(frame.alpha)


def alpha_mask(alpha: Any) -> Mask:
    """An alpha channel [H,W] (array or tensor) as a mask."""
    if isinstance(alpha, Tensor):
        kinds = {"torch.uint8": 255.0, "torch.uint16": 65535.0}
        return Mask(alpha, 0.0, kinds.get(str(alpha.dtype), 1.0))
    return Mask(alpha, 0.0, 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max))


def _paired(
    reader: Iterable[Frame], masks: Iterable[Mask],
    around_mask: Callable[[], AbstractContextManager],
) -> Iterator[tuple[Frame, Mask]]:  # fmt: skip
    others = iter(masks)
    count = 0
    for frame in reader:
        with around_mask():
            mask = next(others, None)
        if mask is None:
            raise ValueError(f"masks: expected one for each frame, got {count}, the clip has more")
        count += 1
        yield frame, mask
        del frame, mask
    if next(others, None) is not None:
        raise ValueError(f"masks: expected one for each of {count} frames, got more")


def check_readable_twice(name: str, source: Any) -> None:
    """Raises ValueError for what can be read only once: locking takes two passes."""
    if source is None:
        return
    again = getattr(source, "reiterable", None)
    if again is None:
        again = isinstance(source, MaskReader) or iter(source) is not source
    if not again:
        raise ValueError(
            f'{name}: temporal="lock" reads the clip twice, and a generator can be read only once; '
            'give a list, an array or a file, or use temporal="smooth"'
        )

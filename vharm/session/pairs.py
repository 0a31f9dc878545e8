# SPDX-License-Identifier: Apache-2.0
"""Frames with their masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from ..media.frame import Frame
from ..media.mask import Mask, MaskReader


def pair_up(reader: Any, masks: Any) -> Iterator[tuple[Frame, Mask]]:
    """Frames with their masks; each pair is dropped before the next is read.

    masks None takes a frame's matte or alpha channel. Raises ValueError where there is neither,
    or where one of both ends before the other.
    """
    if isinstance(masks, MaskReader):
        return masks.pairs(reader)
    if masks is None:
        return _own(reader)
    return _paired(reader, masks)


def _own(reader: Iterable[Frame]) -> Iterator[tuple[Frame, Mask]]:
    for number, frame in enumerate(reader):
        yield frame, own_mask(frame, number)
        del frame


def own_mask(frame: Frame, number: int) -> Mask:
    """The mask a frame carries: its matte, or else its alpha channel."""
    if frame.matte is not None:
        return frame.matte
    if frame.alpha is None:
        raise ValueError(
            f"masks: none were given, and frame {number} has neither a matte nor an alpha "
            "channel; expected masks, or frames with 4 channels"
        )
    return alpha_mask(frame.alpha)


def alpha_mask(alpha: Any) -> Mask:
    """An alpha channel [H,W] (array or tensor) as a mask."""
    if isinstance(alpha, Tensor):
        kinds = {"torch.uint8": 255.0, "torch.uint16": 65535.0}
        return Mask(alpha, 0.0, kinds.get(str(alpha.dtype), 1.0))
    return Mask(alpha, 0.0, 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max))


def _paired(reader: Iterable[Frame], masks: Iterable[Mask]) -> Iterator[tuple[Frame, Mask]]:
    others = iter(masks)
    count = 0
    for frame in reader:
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

# SPDX-License-Identifier: Apache-2.0
"""What the foreground is to match: its own background, part of it, or another picture."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..media.array_reader import color_of_rgb, split_picture
from ..media.frame import Frame
from ..media.mask import Mask, MaskReader, open_mask
from .apply import mask_thumbnail, thumbnail

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True)
class Goal:
    """What the foreground is to match instead of all of its own background.

    picture: [1,3,h,w] float RGB in [0,1], or None for the frame's own background.
    weight: [1,1,h,w], which of the picture counts; None for all of it.
    """

    picture: Tensor | None = None
    weight: Tensor | None = None


class ClipWeights:
    """Masks of which background counts, one for each frame of the clip."""

    def __init__(self, masks: MaskReader) -> None:
        self._masks = masks
        self._running: Iterator[Mask] | None = None

    def restart(self) -> None:
        """Begins at the clip's start again."""
        self._running = None

    def take(self, number: int) -> Mask:
        """The mask of the next frame."""
        with _named("reference_mask"):
            if self._running is None:
                self._running = iter(self._masks)
            mask = next(self._running, None)
        if mask is None:
            raise ValueError(f"reference_mask: has {number} frames, the clip has more")
        return mask


def open_goal(session: Session, width: int, height: int) -> tuple[Goal, ClipWeights | None]:
    """The Session's reference and reference_mask, ready for a clip of that size."""
    reference, mask = session.reference, session.reference_mask
    if session.given is not None:
        return Goal(), None
    if reference is None:
        if mask is None:
            return Goal(), None
        with _named("reference_mask"):
            return Goal(), ClipWeights(open_mask(mask, width=width, height=height))
    frame = _picture(reference)
    size = session.method.working_size(frame.height, frame.width)
    picture = thumbnail(frame, size, torch.device("cpu"))[None]
    if mask is None:
        return Goal(picture), None
    with _named("reference_mask"):
        one = next(iter(open_mask(mask, width=frame.width, height=frame.height)))
    return Goal(picture, mask_thumbnail(one, size, torch.device("cpu"))[None]), None


@contextlib.contextmanager
def _named(argument: str) -> Iterator[None]:
    """Puts the argument's name before what is wrong with it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from error


def _picture(reference: Any) -> Frame:
    if isinstance(reference, Frame):
        return reference
    if isinstance(reference, str | os.PathLike):
        from ..media import read_image

        return read_image(reference)
    with _named("reference: expected a path or one picture"):
        rgb, _ = split_picture(reference, 0)
    return Frame((rgb,), color_of_rgb(rgb))

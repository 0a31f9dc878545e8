# SPDX-License-Identifier: Apache-2.0
"""Estimating on every n-th frame of a shot: which frames those are, and the Looks between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..looks import Look
from .items import Item

WAITING_BYTES = 2 << 30
"""How many bytes of frames may wait for the next estimate."""


def check_waiting(every: int, look_ahead: int, frame_bytes: int, total: int | None) -> None:
    """Raises ValueError where frames that wait for the next estimate would fill the memory.

    Args:
        every: estimate on every n-th frame.
        look_ahead: of the method, counted in frames it is given.
        frame_bytes: of one frame.
        total: frames of the clip, None where unknown: no more than these can wait.
    """
    waiting, most = every * (look_ahead + 1) - 1, WAITING_BYTES // frame_bytes
    if every > 1 and min(waiting, total or waiting) > most:
        raise ValueError(
            f"estimate_every: with {every}, {waiting} frames of {frame_bytes / 2**20:.0f} MiB "
            "would wait in memory for the next estimate; expected at most "
            f"{max(1, (most + 1) // (look_ahead + 1))} for frames of this size"
        )


class Turns:
    """Which frames are estimated, told one after the other.

    The first of a shot that has a foreground, and from then on the first that has one and is at
    least `every` frames after the last that was estimated.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._last: int | None = None

    def take(self, item: Item) -> bool:
        """Whether this frame is to be estimated."""
        if item.cut:
            self._last = None
        if item.empty or (self._last is not None and item.number - self._last < self._every):
            return False
        self._last = item.number
        return True


@dataclass(frozen=True)
class _Estimate:
    """A Look, and which frame it is of; the frame itself is not kept."""

    look: Look
    number: int
    time: float


def interpolated(items: Iterable[Item], every: int) -> Iterator[Item]:
    """The items with a Look wherever the mask is not empty, blended from those around it.

    A frame between two estimates of a shot gets the Look between theirs, linearly in its time (in
    its number, where time stamps do not increase). So it waits for the second one, which is
    `every` frames after the first: at most `every - 1` items are held. Where it does not come (the
    shot or the clip ends, or the mask is empty when its turn is) the first Look is held; what has
    a foreground after so many frames is estimated anew and not blended with what was before.

    Args:
        items: with Looks on those that were estimated, chosen by `Turns(every)`.
        every: at least 1.
    """
    last: _Estimate | None = None
    waiting: deque[Item] = deque()
    for item in items:
        if item.cut:
            yield from _held(waiting, last)
            last = None
        if item.look is not None:
            new = _Estimate(item.look, item.number, item.frame.time)
            yield from _blended(waiting, last, new)
            last = new
        elif last is None or item.number - last.number >= every:
            yield from _held(waiting, last)
            last = None
        else:
            waiting.append(item)
            del item
            continue
        yield item
        del item
    yield from _held(waiting, last)


def _held(waiting: deque[Item], last: _Estimate | None) -> Iterator[Item]:
    while waiting:
        item = waiting.popleft()
        if last is not None and not item.empty:
            item.look = last.look
        yield item
        del item


def _blended(waiting: deque[Item], last: _Estimate | None, new: _Estimate) -> Iterator[Item]:
    while waiting:
        item = waiting.popleft()
        if last is not None and not item.empty:
            item.look = last.look.blend(new.look, _place(item, last, new))
        yield item
        del item


def _place(item: Item, last: _Estimate, new: _Estimate) -> float:
    """How far the frame is from one estimate (0) to the next (1)."""
    time, span = item.frame.time - last.time, new.time - last.time
    if span > 0 and 0 <= time <= span:
        return time / span
    return (item.number - last.number) / (new.number - last.number)

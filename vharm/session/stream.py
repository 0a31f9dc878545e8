# SPDX-License-Identifier: Apache-2.0
"""Looks of methods that take a shot's frames one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from ..looks import Look
from .between import Turns
from .items import Item


class ShotFeed(Protocol):
    """A `vharm.methods.Shot` that takes Items."""

    def push(self, items: list[Item]) -> list[Look]: ...

    def finish(self) -> list[Look]: ...


class ShotStream:
    """Feeds shots to a method, and hands its Looks to the frames they belong to.

    A shot ends at a cut, and where as many frames as the method looks ahead have an empty mask:
    so the frames held are never more than a batch, `every * look_ahead` and such a run.

    Args:
        open_shot: called at the beginning of each shot.
        look_ahead: of the method.
        batch: frames given at once, with those in between counted; it does not change the Looks.
        every: give every n-th frame of a shot.
    """

    def __init__(
        self, open_shot: Callable[[], ShotFeed], look_ahead: int, batch: int, every: int
    ) -> None:
        self._open_shot, self._batch, self._every = open_shot, batch, every
        self._longest_gap = max(1, look_ahead)
        self._feed: ShotFeed | None = None
        self._held: deque[Item] = deque()
        self._asked: deque[Item] = deque()  # those of `held` that wait for a Look of their own
        self._fresh: list[Item] = []  # those of `asked` that have not been given yet

    def looks(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in order, `look` filled in where it is estimated."""
        turns, gap = Turns(self._every), 0
        for item in items:
            if item.cut:
                yield from self._ended()
            gap = gap + 1 if item.empty else 0
            if gap == self._longest_gap:
                yield from self._ended()
            self._held.append(item)
            if turns.take(item):
                self._asked.append(item)
                self._fresh.append(item)
            del item
            if len(self._fresh) * self._every >= self._batch:
                self._give()
            yield from self._ready()
        yield from self._ended()

    def _give(self) -> None:
        if self._feed is None:
            self._feed = self._open_shot()
        fresh, self._fresh = self._fresh, []
        self._take(self._feed.push(fresh))

    def _ended(self) -> Iterator[Item]:
        if self._fresh:
            self._give()
        if self._feed is not None:
            self._take(self._feed.finish())
            self._feed = None
        if self._asked:
            raise RuntimeError(f"the method gave no Look for {len(self._asked)} frames of a shot")
        yield from self._ready()

    def _take(self, looks: list[Look]) -> None:
        if len(looks) > len(self._asked):
            raise RuntimeError(
                f"the method gave {len(looks)} Looks for {len(self._asked)} frames of a shot"
            )
        for look in looks:
            self._asked.popleft().look = look

    def _ready(self) -> Iterator[Item]:
        """The frames before the first that waits for its Look."""
        while self._held and not (self._asked and self._held[0] is self._asked[0]):
            item = self._held.popleft()
            yield item
            del item

# SPDX-License-Identifier: Apache-2.0
"""From a stream of thumbnails to a stream of Looks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..looks import Look, LookTrack, Smoother, lock
from .items import Item
from .stream import ShotFeed, ShotStream

LOCK_SAMPLES = 64
"""How many frames, spread over the clip, a locked Look is estimated on (at most twice as many)."""


class Estimator:
    """Asks a method for Looks, a batch at a time.

    Args:
        estimate: one Look for each of the items it is given.
        look_ahead: how many later frames it must be shown beside those whose Looks are wanted.
        batch: frames at once.
        every: estimate on every n-th frame of a shot and hold the Look in between.
        open_shot: for methods that take a shot's frames one after the other, what takes them;
            `estimate` is then asked for single frames only.
    """

    def __init__(
        self, estimate: Callable[[list[Item]], list[Look]], look_ahead: int, batch: int,
        every: int, open_shot: Callable[[], ShotFeed] | None = None,
    ) -> None:  # fmt: skip
        self._estimate = estimate
        self._look_ahead = look_ahead
        self._batch = batch
        self._every = every
        self._open_shot = open_shot
        self._last: Look | None = None

    def looks(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in order, `look` filled in wherever the mask is not empty.

        Holds at most `batch` frames; for a method that looks ahead, as many as that takes.
        """
        if self._open_shot is not None:
            stream = ShotStream(self._open_shot, self._look_ahead, self._batch, self._every)
            yield from stream.looks(items)
            return
        ahead = self._look_ahead
        held: deque[Item] = deque()
        asked: list[Item] = []  # those of `held` that need an estimate of their own
        since, self._last = 0, None
        for item in items:
            if item.cut:
                if ahead:
                    # A method that looks ahead must not look into the next shot.
                    yield from self._release(held, asked, len(asked))
                since = 0
            held.append(item)
            if not item.empty:
                if since % self._every == 0:
                    asked.append(item)
                since += 1
            del item
            full = len(asked) >= self._batch + ahead if ahead else len(held) >= self._batch
            if full or not asked:
                yield from self._release(held, asked, self._batch)
        while asked:
            yield from self._release(held, asked, self._batch)
        yield from self._release(held, asked, 0)

    def _release(self, held: deque[Item], asked: list[Item], count: int) -> Iterator[Item]:
        """Estimates the first `count` that asked, and yields all frames before the next one."""
        if asked:
            for item, look in zip(asked[:count], self._estimate(asked), strict=False):
                item.look = look
            del asked[:count]
        while held and not (asked and held[0] is asked[0]):
            item = held.popleft()
            if item.look is not None:
                self._last = item.look
            elif not item.empty:
                item.look = self._last
            yield item
            del item

    def lock(
        self, samples: Callable[[int], Iterator[Item]], frame_count: int | None
    ) -> Look | None:
        """One Look for a clip, from about `LOCK_SAMPLES` of its frames; None if no mask is set.

        `samples(step)` reads the clip and yields an Item for every frame, with thumbnails where
        `number % step == 0` (and the mask is not empty, for that of the mask). Where the length is
        unknown the step is doubled each time twice as many Looks as wanted have come together.
        """
        step = max(1, (frame_count or 0) // LOCK_SAMPLES)
        kept: list[tuple[int, Look, float]] = []
        waiting: list[Item] = []

        def settle() -> None:
            if waiting:
                # Frames far apart are no neighbours: each is a shot of its own.
                one_by_one = self._open_shot is not None
                looks = (
                    [self._estimate([item])[0] for item in waiting] if one_by_one
                    else self._estimate(waiting)
                )  # fmt: skip
                for item, look in zip(waiting, looks, strict=True):
                    kept.append((item.number, look, float(item.mask_thumb.mean())))
                waiting.clear()

        for item in samples(step):
            if item.mask_thumb is None or item.number % step:
                continue
            waiting.append(item)
            if len(waiting) >= self._batch:
                settle()
            if len(kept) >= 2 * LOCK_SAMPLES:
                step *= 2
                kept = [entry for entry in kept if entry[0] % step == 0]
        settle()
        if not kept:
            return None
        return lock((look for _, look, _ in kept), [area for _, _, area in kept])


def smoothed(items: Iterable[Item], time_constant: float) -> Iterator[Item]:
    """The items with their Looks averaged over time, anew after each cut."""
    smoother = Smoother(time_constant)
    last = 0.0
    for item in items:
        if item.cut:
            smoother.reset()
        if item.look is not None:
            # Time stamps of broken files go back now and then; the average must not stop at that.
            last = max(last, item.frame.time)
            item.look = smoother.update(item.look, last)
        yield item
        del item


def given(items: Iterable[Item], looks: Look | LookTrack) -> Iterator[Item]:
    """The items with Looks that were made before: one for all, or a track's at each time."""
    track = looks if isinstance(looks, LookTrack) else None
    for item in items:
        item.look = looks if track is None else track.at(item.frame.time)
        yield item
        del item

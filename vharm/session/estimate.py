# SPDX-License-Identifier: Apache-2.0
"""From a stream of thumbnails to a stream of Looks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..looks import Look, LookTrack, Smoother, lock
from .between import Turns, interpolated
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
        every: estimate on every n-th frame of a shot and blend the Looks in between.
        open_shot: for methods that take a shot's frames one after the other, what takes them;
            `estimate` is then asked for single frames only.

    Attributes:
        estimated: how many frames have got a Look of their own so far.
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
        self.estimated = 0

    def looks(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in order, `look` filled in wherever the mask is not empty.

        Holds at most `every - 1` frames, which wait for the next estimate, and those of a batch
        (with `every` more for each one of it after the first); for a method that looks ahead,
        `every` more for each frame of that.
        """
        if self._open_shot is not None:
            stream = ShotStream(self._open_shot, self._look_ahead, self._batch, self._every)
            estimated = stream.looks(items)
        else:
            estimated = self._batches(items)
        yield from interpolated(self._counted(estimated), self._every)

    def _counted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self.estimated += item.look is not None
            yield item
            del item

    def _batches(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in order, `look` filled in where it is estimated."""
        ahead, every = self._look_ahead, self._every
        held: deque[Item] = deque()
        asked: list[Item] = []  # those of `held` that are to be estimated
        turns = Turns(every)
        for item in items:
            if item.cut and ahead:
                # A method that looks ahead must not look into the next shot.
                yield from self._release(held, asked, len(asked))
            held.append(item)
            if turns.take(item):
                asked.append(item)
            del item
            # Frames between estimates are held too, so the batch is counted in frames of the clip.
            full = (len(asked) - ahead) * every >= self._batch
            if full or (not ahead and len(held) >= self._batch) or not asked:
                yield from self._release(held, asked, max(len(asked) - ahead, 0))
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
            yield item
            del item

    def lock(
        self, samples: Callable[[int], Iterator[Item]], frame_count: int | None
    ) -> Look | None:
        """One Look for a clip, from about `LOCK_SAMPLES` of its frames; None if no mask is set.

        Only estimates count, at least `every` frames apart, and the first frame with a foreground
        is among them. `samples(step)` reads the clip and yields an Item for every frame; where
        masks are yet to be found, those of the frames with `number % step == 0` are. Where the
        length is unknown the step is doubled each time twice as many Looks as wanted have come
        together.
        """
        step = max(self._every, (frame_count or 0) // LOCK_SAMPLES)
        due = 0
        kept: list[tuple[Look, float]] = []
        waiting: list[Item] = []

        def settle() -> None:
            if waiting:
                # Frames far apart are no neighbours: each is a shot of its own.
                one_by_one = self._open_shot is not None
                looks = (
                    [self._estimate([item])[0] for item in waiting] if one_by_one
                    else self._estimate(waiting)
                )  # fmt: skip
                self.estimated += len(looks)
                for item, look in zip(waiting, looks, strict=True):
                    kept.append((look, float(item.mask_thumb.mean())))
                waiting.clear()

        for item in samples(step):
            if item.empty or item.number < due:
                continue
            due = item.number + step
            waiting.append(item)
            if len(waiting) >= self._batch:
                settle()
            if len(kept) >= 2 * LOCK_SAMPLES:
                step *= 2
                kept = kept[::2]
        settle()
        if not kept:
            return None
        return lock((look for look, _ in kept), [area for _, area in kept])


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

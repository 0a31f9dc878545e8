# SPDX-License-Identifier: Apache-2.0
"""Methods that see a window of frames around each one."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vharm.looks import Look

from .base import Shot
from .pixel import PixelMethod


@dataclass
class Entry:
    """A frame in a window.

    Attributes:
        number: counts the usable frames of the shot from 0.
        frame: [1,3,h,w] composite, in [0,1].
        seen: [1,3,h,w], what a network is shown; see `Request.seen`.
        mask: [1,1,h,w].
        known: what the method made of this frame alone.
    """

    number: int
    frame: Tensor
    seen: Tensor
    mask: Tensor
    known: Any


class WindowMethod(PixelMethod):
    """Base of methods that paint a frame with what is known of `reach` frames on each side.

    Each frame is prepared once, by `prepare`; then each is painted, by `paint`. At the ends of a
    shot the window is shorter. Frames without a foreground, or without a background that counts,
    are passed over; a run of `look_ahead` such frames ends the window like the end of a shot.

    Attributes:
        look_behind: frames before the one that is painted; `look_ahead` those after it.
    """

    look_behind: int = 0

    @abstractmethod
    def prepare(self, seen: Tensor, masks: Tensor) -> Sequence[Any]:
        """What is made of each frame alone.

        Args:
            seen: [B,3,h,w].
            masks: [B,1,h,w].

        Returns:
            B things for `Entry.known`.
        """

    @abstractmethod
    def paint(
        self, current: Entry, before: Sequence[Entry], after: Sequence[Entry], memory: Any
    ) -> Tensor:
        """The picture [1,3,h,w] in [0,1] of one frame, not composited.

        Args:
            current: the frame.
            before: up to `look_behind` frames, the nearest first.
            after: up to `look_ahead` frames, the nearest first.
            memory: of this shot, as `remember` made it.
        """

    def remember(self) -> Any:
        """Something to keep during a shot; frames are painted in order."""
        return None

    def shot(self) -> Shot:
        return WindowShot(self)

    def render(self, frames: Tensor, masks: Tensor) -> Tensor:
        """Frames of one shot, painted in their windows."""
        shot = WindowShot(self)
        return torch.cat([picture for _, picture in shot.rendered(frames, masks)])

    def estimate(
        self,
        frames: Tensor,
        masks: Tensor,
        *,
        background: Tensor | None = None,
        background_weight: Tensor | None = None,
    ) -> list[Look]:
        """One Look for each frame of a whole shot; see `Method.estimate`."""
        shot = self.shot()
        looks = shot.push(frames, masks, background=background, background_weight=background_weight)
        return looks + shot.finish()


class WindowShot(Shot):
    """A shot on its way through a `WindowMethod`."""

    def __init__(self, method: WindowMethod) -> None:
        self.method = method
        self.memory = method.remember()
        self._entries: deque[Entry] = deque()
        self._count = 0  # usable frames so far
        self._gap = 0  # unusable frames since the last usable one
        self._next = 0  # number of the next one to be painted
        # For every frame without its Look: the Look, or None where it is to be painted.
        self._due: deque[Look | None] = deque()

    @torch.no_grad()
    def push(
        self,
        frames: Tensor,
        masks: Tensor,
        *,
        background: Tensor | None = None,
        background_weight: Tensor | None = None,
    ) -> list[Look]:
        method = self.method
        given = method.request(frames, masks, background, background_weight)
        use = given.usable()
        self._due += [None if usable else method._unchanged() for usable in use.tolist()]
        if not bool(use.any()):
            return self._looks(self._taken([None] * len(frames)))
        seen, inside = given.seen()[use], given.masks[use]
        entries = self._entries_of(given.frames[use], seen, inside)
        return self._looks(self._taken([next(entries) if usable else None for usable in use]))

    @torch.no_grad()
    def finish(self) -> list[Look]:
        return self._looks(self._painted(self._count))

    def rendered(self, seen: Tensor, masks: Tensor) -> list[tuple[Entry, Tensor]]:
        """All frames of a shot at once, each with its picture."""
        done = self._taken(list(self._entries_of(seen, seen, masks)))
        return done + self._painted(self._count)

    def _entries_of(self, frames: Tensor, seen: Tensor, masks: Tensor) -> Iterator[Entry]:
        known = self.method.prepare(seen, masks)
        for i, about in enumerate(known):
            one = slice(i, i + 1)
            yield Entry(self._count, frames[one], seen[one], masks[one], about)

    def _taken(self, entries: Sequence[Entry | None]) -> list[tuple[Entry, Tensor]]:
        """Takes frames, None for one that is passed over; gives those that can be painted."""
        done: list[tuple[Entry, Tensor]] = []
        for entry in entries:
            if entry is None:
                self._gap += 1
                if self._gap == max(1, self.method.look_ahead):
                    # What comes after so long a gap tells nothing of what was before.
                    done += self._painted(self._count)
                    self._entries.clear()
                continue
            self._gap = 0
            entry.number = self._count
            self._entries.append(entry)
            self._count += 1
            done += self._painted(self._count - self.method.look_ahead)
        return done

    def _painted(self, end: int) -> list[tuple[Entry, Tensor]]:
        """Paints the frames before number `end` that have not been."""
        method, done = self.method, []
        while self._next < end:
            number, self._next = self._next, self._next + 1
            while self._entries[0].number < number - method.look_behind:
                self._entries.popleft()
            first = self._entries[0].number
            window = list(self._entries)
            at = number - first
            after = window[at + 1 : at + 1 + method.look_ahead]
            before = window[:at][::-1]
            picture = method.paint(window[at], before, after, self.memory)
            done.append((window[at], picture.float().clamp(0, 1)))
        return done

    def _looks(self, painted: Sequence[tuple[Entry, Tensor]]) -> list[Look]:
        made: deque[Look] = deque()
        for entry, picture in painted:
            made += self.method._fitted(entry.frame, picture.to(entry.frame.device), entry.mask)
        looks: list[Look] = []
        while self._due and (self._due[0] is not None or made):
            waiting = self._due.popleft()
            looks.append(made.popleft() if waiting is None else waiting)
        return looks

# SPDX-License-Identifier: Apache-2.0
"""The Looks of a clip, with their times."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence

from . import _fields
from .base import Look
from .smoothing import lock

INTERPOLATIONS = ("linear", "hold")
# Containers round time stamps, some of them to milliseconds: this close is the same frame.
SAME_TIME = 1e-3


class LookTrack:
    """Looks at times, or a single Look for all times.

    Args:
        looks: at least one, in the order of their times; any sequence, also one that reads its
            items from a file.
        times: seconds, increasing, one a Look; None for a single Look.
        cuts: indices of Looks that begin a new shot; nothing is interpolated across.
        interpolation: "linear" blends the neighbours, "hold" keeps a Look until the next.

    Raises:
        ValueError: naming the argument.
    """

    def __init__(
        self,
        looks: Sequence[Look],
        times: Sequence[float] | None = None,
        *,
        cuts: Iterable[int] = (),
        interpolation: str = "linear",
    ) -> None:
        if len(looks) == 0:
            raise ValueError("LookTrack: looks must hold at least one look, got none")
        if times is None:
            if len(looks) != 1:
                raise ValueError(f"LookTrack: times must be given for {len(looks)} looks")
            times = (0.0,)
        check_interpolation("LookTrack", interpolation)
        self._looks = looks
        self.times = tuple(float(t) for t in times)
        self.cuts = frozenset(cuts)
        self.interpolation = interpolation
        if len(self.times) != len(looks):
            raise ValueError(
                f"LookTrack: times must have one number a look, got {len(self.times)} for "
                f"{len(looks)}"
            )
        for i, time in enumerate(self.times):
            if not math.isfinite(time) or (i and time <= self.times[i - 1]):
                raise ValueError(f"LookTrack: times must increase, got {time} for look {i}")
        for index in self.cuts:
            if not 0 <= index < len(looks):
                raise ValueError(f"LookTrack: cuts must be indices of looks, got {index}")

    @classmethod
    def of(cls, look: Look | LookTrack) -> LookTrack:
        """A track from a Look (for all times) or from a track (itself)."""
        if isinstance(look, LookTrack):
            return look
        if not isinstance(look, Look):
            raise TypeError(f"of: expected a Look or a LookTrack, got {type(look).__name__}")
        return cls([look])

    def __len__(self) -> int:
        return len(self._looks)

    def __getitem__(self, index: int) -> Look:
        return self._looks[index]

    def __iter__(self) -> Iterator[Look]:
        for i in range(len(self._looks)):
            yield self._looks[i]

    def at(self, time: float) -> Look:
        """The Look for a frame at this time, in seconds.

        Before the first and after the last Look theirs is held. A Look within a millisecond of
        `time` is returned as it is.
        """
        i = max(bisect.bisect_right(self.times, time + SAME_TIME) - 1, 0)
        before = self.times[i]
        last = i + 1 == len(self.times)
        if time <= before + SAME_TIME or last or self.interpolation == "hold":
            return self._looks[i]
        if i + 1 in self.cuts:
            return self._looks[i]
        weight = (time - before) / (self.times[i + 1] - before)
        return self._looks[i].blend(self._looks[i + 1], min(weight, 1.0))

    def lock(self, weights: Iterable[float] | None = None) -> Look:
        """One Look for the clip; see `vharm.looks.lock`."""
        return lock(iter(self), weights)


def check_interpolation(owner: str, value: object) -> None:
    if value not in INTERPOLATIONS:
        raise ValueError(
            f"{owner}: interpolation must be one of {', '.join(INTERPOLATIONS)}; got {value!r}"
            f"{_fields.nearest(value, INTERPOLATIONS)}"
        )

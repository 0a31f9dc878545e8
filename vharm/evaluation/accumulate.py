# SPDX-License-Identifier: Apache-2.0
"""Means that are taken while clips stream by, with how sure they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

BINS = (0.0, 0.05, 0.15, 0.30, 0.50, 0.70, 1.0)
"""Edges of the foreground's share of the frame; a bin holds its lower edge, the last one both."""

BIN_NAMES = tuple(f"{100 * a:g}-{100 * b:g} %" for a, b in zip(BINS[:-1], BINS[1:], strict=True))


@dataclass(frozen=True)
class Figure:
    """A mean and how sure it is.

    Attributes:
        mean: over all frames (pairs, clips).
        error: its standard error; None for fewer than two clips.
        count: of frames (pairs, clips).
        clips: they come from.
    """

    mean: float
    error: float | None
    count: int
    clips: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, by the normal approximation."""
        if self.error is None:
            return None
        return self.mean - 1.96 * self.error, self.mean + 1.96 * self.error


class Mean:
    """A mean over values that come clip by clip.

    Frames of one clip resemble each other, so the standard error is that of a ratio of sums over
    clips (Cochran, Sampling Techniques, 1977, eq. 2.46), which for clips of equal length is that
    of the mean of the clips' means. Updated in the manner of Welford: nothing cancels.
    """

    def __init__(self) -> None:
        self.count = self.clips = 0
        self.mean = 0.0
        # Sums over clips of n^2, n^2 d and n^2 d^2, d = clip's mean - self.mean.
        self._squares = self._cross = self._spread = 0.0

    def add(self, values: list[float]) -> None:
        """Takes in one clip's values; none is no clip."""
        if not values:
            return
        size = len(values)
        mean = math.fsum(values) / size
        before = self.mean
        self.count += size
        self.clips += 1
        self.mean += (mean - before) * size / self.count
        moved = before - self.mean
        self._spread += 2 * moved * self._cross + moved * moved * self._squares
        self._cross += moved * self._squares
        distance, weight = mean - self.mean, float(size * size)
        self._squares += weight
        self._cross += weight * distance
        self._spread += weight * distance * distance

    def figure(self) -> Figure | None:
        """What came out; None if nothing came in."""
        if not self.clips:
            return None
        error = None
        if self.clips > 1:
            factor = self.clips / (self.clips - 1)
            error = math.sqrt(max(0.0, factor * self._spread)) / self.count
        return Figure(self.mean, error, self.count, self.clips)


def bin_of(ratio: float) -> int:
    """Which bin a foreground's share of the frame falls in.

    Raises:
        ValueError: no share.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio: expected 0 to 1, got {ratio}")
    return max(i for i, low in enumerate(BINS[:-1]) if ratio >= low)


class Table:
    """Means by row (method) and column (metric) that make themselves on first use."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], Mean] = {}

    def add(self, row: str, column: str, values: list[float]) -> None:
        """Takes in one clip's values."""
        if values:
            self._cells.setdefault((row, column), Mean()).add(values)

    def figures(self) -> dict[str, dict[str, Figure]]:
        """What came out, by row and column."""
        out: dict[str, dict[str, Figure]] = {}
        for (row, column), mean in self._cells.items():
            out.setdefault(row, {})[column] = mean.figure()
        return out


class Totals:
    """Tables of everything, by subset, and by the foreground's share of each frame.

    In the last, only metrics over frames stand.
    """

    def __init__(self) -> None:
        self.all = Table()
        self.subsets: dict[str, Table] = {}
        self.bins: dict[str, Table] = {}

    def add(
        self, method: str, subset: str, values: dict[str, list[float]], ratios: list[float]
    ) -> None:
        """Takes in one method's values on one clip; see `ClipScores`."""
        for metric, numbers in values.items():
            self.all.add(method, metric, numbers)
            if subset:
                self.subsets.setdefault(subset, Table()).add(method, metric, numbers)
            if len(numbers) != len(ratios) or metric in _NOT_BY_FRAME:
                continue
            parts: dict[int, list[float]] = {}
            for number, ratio in zip(numbers, ratios, strict=True):
                parts.setdefault(bin_of(ratio), []).append(number)
            for place, part in parts.items():
                self.bins.setdefault(BIN_NAMES[place], Table()).add(method, metric, part)

    def figures(self) -> tuple[dict, dict, dict]:
        """(all, by subset in order of name, by bin in order of share)."""
        subsets = {name: self.subsets[name].figures() for name in sorted(self.subsets)}
        bins = {name: self.bins[name].figures() for name in BIN_NAMES if name in self.bins}
        return self.all.figures(), subsets, bins


_NOT_BY_FRAME = frozenset({"TL", "L_T1", "L_T2", "flicker", "drift"})

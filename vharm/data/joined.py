# SPDX-License-Identifier: Apache-2.0
"""Sets made of sets: one after the other, chosen positions, and short windows of clips."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def names_of(data: Any) -> tuple[str, ...]:
    """The names of a set; of one without `names`, by reading every item."""
    names = getattr(data, "names", None)
    return tuple(names) if names is not None else tuple(data[i].name for i in range(len(data)))


def _told(data: Any) -> str:
    return getattr(data, "description", "") or f"{len(data)} items"


class Joined(Generic[T]):
    """Sets one after the other.

    Raises:
        ValueError: no set, or a name in two of them.
    """

    def __init__(self, sets: Sequence[Any]) -> None:
        if not sets:
            raise ValueError("sets: expected at least one")
        self.sets = tuple(sets)
        self._ends = [sum(len(s) for s in self.sets[: n + 1]) for n in range(len(self.sets))]
        self.names = tuple(name for one in self.sets for name in names_of(one))
        if len(set(self.names)) != len(self.names):
            seen: set[str] = set()
            twice = next(n for n in self.names if n in seen or seen.add(n))
            raise ValueError(f"sets: the name {twice} is in more than one place")
        self.subsets = tuple(
            dict.fromkeys(name for one in self.sets for name in getattr(one, "subsets", ()))
        )
        self.description = "; ".join(_told(one) for one in self.sets)

    def __len__(self) -> int:
        return self._ends[-1]

    def _place(self, index: int) -> tuple[Any, int]:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index: expected less than {len(self)}, got {index}")
        which = bisect.bisect_right(self._ends, position)
        return self.sets[which], position - (self._ends[which - 1] if which else 0)

    def __getitem__(self, index: int) -> T:
        data, position = self._place(index)
        return data[position]

    def masks(self, index: int) -> Any:
        """Only the masks, where the set can read them alone."""
        data, position = self._place(index)
        return data.masks(position) if hasattr(data, "masks") else data[position].masks


class Chosen(Generic[T]):
    """Some positions of a set, in the order given.

    Raises:
        ValueError: a position that the set does not have.
    """

    def __init__(self, data: Any, positions: Sequence[int]) -> None:
        outside = [p for p in positions if not 0 <= p < len(data)]
        if outside:
            raise ValueError(f"positions: expected 0 to {len(data) - 1}, got {outside[0]}")
        names = names_of(data)
        self.data, self.positions = data, tuple(positions)
        self.names = tuple(names[p] for p in self.positions)
        self.subsets = getattr(data, "subsets", ())
        self.description = f"{len(self.positions)} of {_told(data)}"

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> T:
        return self.data[self.positions[index]]

    def masks(self, index: int) -> Any:
        """Only the masks, where the set can read them alone."""
        position = self.positions[index]
        return self.data.masks(position) if hasattr(self.data, "masks") else self[index].masks


class Windows(Generic[T]):
    """Runs of consecutive frames of every clip, reading no other frame's file.

    Args:
        data: a set of clips that can read a part (those of `open_data`).
        length: frames of a window.
        stride: frames from one window's start to the next one's; None: windows do not overlap.

    Clips shorter than `length` are left out; the description says how many. Names are
    CLIP@START.

    Raises:
        TypeError: the set cannot read a part.
        ValueError: length or stride below 1, or no clip is long enough.
    """

    def __init__(self, data: Any, length: int, stride: int | None = None) -> None:
        if not hasattr(data, "part"):
            raise TypeError(f"data: expected a set that reads parts, got {type(data).__name__}")
        step = length if stride is None else stride
        for name, value in (("length", length), ("stride", step)):
            if value < 1:
                raise ValueError(f"{name}: expected 1 or more, got {value}")
        self.data, self.length = data, length
        counts = [data.count(i) for i in range(len(data))]
        self._places = tuple(
            (clip, start)
            for clip, count in enumerate(counts)
            for start in range(0, count - length + 1, step)
        )
        if not self._places:
            longest = max(counts, default=0)
            raise ValueError(f"length: no clip has {length} frames, the longest {longest}")
        self.names = tuple(f"{data.names[clip]}@{start}" for clip, start in self._places)
        self.subsets = data.subsets
        short = sum(count < length for count in counts)
        left = f", {short} shorter clips left out" if short else ""
        self.description = (
            f"{len(self._places)} windows of {length} frames of {data.description}{left}"
        )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> T:
        import dataclasses

        clip, start = self._places[index]
        found = self.data.part(clip, start, start + self.length)
        return dataclasses.replace(found, name=self.names[index])

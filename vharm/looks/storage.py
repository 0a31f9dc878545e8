# SPDX-License-Identifier: Apache-2.0
"""Looks in JSON files.

One Look is the object of its `to_dict`. A track is

    {"format": "vharm looks", "version": 1, "interpolation": "linear", "looks": [
    {"time": 0.0, "kind": "filter", "filters": {"contrast": 0.1, ...}, ...},
    {"time": 0.04, "cut": true, "kind": "filter", ...}
    ]}

with "cut" where a shot begins. Any layout of the JSON is read; files above `LAZY_BYTES` that keep
one Look a line, as they are written, are read a Look at a time.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from . import _fields
from ._files import atomic_text, part_path
from .base import Look
from .lut_look import LutLook
from .residual_look import ResidualLook
from .track import LookTrack, check_interpolation

FORMAT, VERSION = "vharm looks", 1
LAZY_BYTES = 32 << 20

_ENTRY = re.compile(rb'\{"time": (-?[0-9][0-9.e+-]*), ("cut": true, )?"kind"')
_END = b"]}"


class TrackWriter:
    """Writes a track's Looks as they come, so that a long clip never piles up in memory.

    The Looks go to a file beside `path`, which takes its place when the writer closes; an
    exception inside the `with` block removes it and leaves `path` as it was.

        with TrackWriter("clip.looks.json") as writer:
            for time, look in looks:
                writer.append(look, time)

    Args:
        path: the JSON file.
        interpolation: between Looks, when read back: "linear" or "hold".
        grid_dtype: how LUTs and residuals are stored, "float16" (about 290 kB for 33^3 nodes) or
            "float32" (exact, twice that).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        interpolation: str = "linear",
        grid_dtype: str = "float16",
    ) -> None:
        check_interpolation("TrackWriter", interpolation)
        if grid_dtype not in _fields.PACKED_DTYPES:
            raise ValueError(
                f"TrackWriter: grid_dtype must be one of {', '.join(_fields.PACKED_DTYPES)}; "
                f"got {grid_dtype!r}"
            )
        self.path = Path(path)
        self.count = 0
        self._dtype = grid_dtype
        self._last = -math.inf
        self._part = part_path(self.path)
        self._file: IO[str] | None = open(  # noqa: SIM115 - closed by close() or abort()
            self._part, "x", encoding="utf-8", newline="\n"
        )
        self._file.write(_header(interpolation))

    def append(self, look: Look, time: float, *, cut: bool = False) -> None:
        """Adds a Look.

        Args:
            look: any Look.
            time: seconds, after the preceding one's.
            cut: whether a new shot begins with it.

        Raises:
            ValueError: `time` does not increase, or the writer is closed.
        """
        if self._file is None:
            raise ValueError("append: the writer is closed")
        time = float(time)
        if not math.isfinite(time) or time <= self._last:
            raise ValueError(f"append: time must increase, got {time} after {self._last}")
        entry: dict[str, Any] = {"time": time}
        if cut:
            entry["cut"] = True
        entry.update(_to_dict(look, self._dtype))
        self._file.write(",\n" if self.count else "\n")
        self._file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False))
        self._last, self.count = time, self.count + 1

    def close(self) -> None:
        """Completes the file. Closing twice does nothing.

        Raises:
            ValueError: no Look was added.
        """
        if self._file is None:
            return
        if not self.count:
            self.abort()
            raise ValueError(f"TrackWriter: no looks were written to {self.path}")
        self._file.write(f"\n{_END.decode()}\n")
        self._file.close()
        self._file = None
        os.replace(self._part, self.path)

    def abort(self) -> None:
        """Drops what was written; `path` stays as it was."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> TrackWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def save_look(path: str | os.PathLike[str], look: Look | LookTrack) -> None:
    """Saves a Look or a track; the file appears only when it is whole.

    Args:
        path: a JSON file, or a `.cube` file for a single Look that is a colour map (its strength
            baked in).
        look: what to save. LUTs and residuals of a single Look are stored as float32, those of a
            track as float16.

    Raises:
        TypeError: `look` is neither. ValueError: a track for a `.cube` file (lock it first).
    """
    if not isinstance(look, Look | LookTrack):
        raise TypeError(f"save_look: expected a Look or a LookTrack, got {type(look).__name__}")
    if Path(path).suffix.lower() == ".cube":
        if isinstance(look, LookTrack):
            if len(look) != 1:
                raise ValueError(
                    f"save_look: a .cube file holds one look, got {len(look)}; lock() them first"
                )
            look = look[0]
        (look if isinstance(look, LutLook) else look.to_lut()).save_cube(path)
    elif isinstance(look, Look):
        with atomic_text(path) as file:
            json.dump(look.to_dict(), file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
    else:
        with TrackWriter(path, interpolation=look.interpolation) as writer:
            for i, (time, item) in enumerate(zip(look.times, look, strict=True)):
                writer.append(item, time, cut=i in look.cuts)


def load_look(path: str | os.PathLike[str]) -> Look | LookTrack:
    """What `save_look`, `TrackWriter` or a hand wrote.

    Args:
        path: a JSON file, or a `.cube` file.

    Returns:
        A Look or a `LookTrack`, as the file holds; `LookTrack.of` makes the former the latter.

    Raises:
        ValueError: what is wrong, with the file's name and the Look's number. OSError: no such
            file.
    """
    path = Path(path)
    if path.suffix.lower() == ".cube":
        return LutLook.from_cube(path)
    if path.stat().st_size > LAZY_BYTES:
        track = _open_lazily(path)
        if track is not None:
            return track
    try:
        with open(path, encoding="utf-8-sig") as file:
            data = json.load(file, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    try:
        data = _fields.mapping("the file", data)
        return _read_track(data) if "looks" in data else Look.from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; a key given twice would silently lose the first."""
    data = dict(pairs)
    if len(data) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice in one object")
    return data


def _header(interpolation: str) -> str:
    fields = {"format": FORMAT, "version": VERSION, "interpolation": interpolation}
    return f'{json.dumps(fields)[:-1]}, "looks": ['


def _to_dict(look: Look, dtype: str) -> dict[str, Any]:
    if isinstance(look, LutLook | ResidualLook):
        return look.to_dict(dtype=dtype)
    return look.to_dict()


def _check_header(data: Mapping[str, Any]) -> str:
    """Checks what stands beside the Looks; the interpolation."""
    _fields.only("track", data, ("format", "version", "interpolation", "looks"))
    if data.get("format", FORMAT) != FORMAT:
        raise ValueError(f"track: format must be {FORMAT!r}, got {data['format']!r}")
    if data.get("version", VERSION) != VERSION:
        raise ValueError(f"track: version must be {VERSION}, got {data['version']!r}")
    interpolation = data.get("interpolation", "linear")
    check_interpolation("track", interpolation)
    return str(interpolation)


def _read_track(data: Mapping[str, Any]) -> LookTrack:
    interpolation = _check_header(data)
    entries = data["looks"]
    if not isinstance(entries, list):
        raise ValueError(f"track: looks must be a list, got {type(entries).__name__}")
    looks, times, cuts = [], [], []
    for i, entry in enumerate(entries):
        look, time, cut = _read_entry(entry, i)
        looks.append(look)
        times.append(time)
        if cut:
            cuts.append(i)
    return LookTrack(looks, times, cuts=cuts, interpolation=interpolation)


def _read_entry(entry: object, index: int) -> tuple[Look, float, bool]:
    owner = f"looks, number {index}"
    fields = dict(_fields.mapping(owner, entry))
    time = _fields.number(owner, "time", _fields.required(owner, fields, "time"), -1e12, 1e12)
    cut = _fields.boolean(owner, "cut", fields.get("cut", False))
    fields.pop("time")
    fields.pop("cut", None)
    try:
        return Look.from_dict(fields), time, cut
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from error


def _open_lazily(path: Path) -> LookTrack | None:
    """A track whose Looks stay in the file, or None where the file has another layout."""
    offsets: list[int] = []
    times: list[float] = []
    cuts: list[int] = []
    with open(path, "rb") as file:
        first = file.readline()
        try:
            interpolation = _check_header(json.loads(first + _END))
        except (ValueError, UnicodeDecodeError):
            return None
        while True:
            offset, line = file.tell(), file.readline()
            if line.strip() == _END:
                break
            entry = _ENTRY.match(line)
            if entry is None:
                return None
            if entry[2]:
                cuts.append(len(offsets))
            offsets.append(offset)
            times.append(float(entry[1]))
    return LookTrack(_LazyLooks(path, offsets), times, cuts=cuts, interpolation=interpolation)


class _LazyLooks(Sequence[Look]):
    """Looks read from a file's lines when asked for; the last few are kept."""

    def __init__(self, path: Path, offsets: list[int]) -> None:
        self._path = path
        self._offsets = offsets
        self._read = functools.lru_cache(maxsize=4)(self._parse)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._read(range(len(self))[index])

    def _parse(self, index: int) -> Look:
        with open(self._path, "rb") as file:
            file.seek(self._offsets[index])
            line = file.readline().strip().removesuffix(b",")
        try:
            look, _, _ = _read_entry(json.loads(line, object_pairs_hook=_unique), index)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error
        return look

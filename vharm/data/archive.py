# SPDX-License-Identifier: Apache-2.0
"""Reading the archives that `vharm.data.pack` writes, without unpacking them.

An archive is a plain tar file. Its first member is index.json: parts (kind, clips with name,
split, subset), and for every picture its place and length, counted from the index's end. Any
program can unpack it; this one reads members where they lie, from any number of processes.
"""

from __future__ import annotations

import functools
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._pictures import decode_colour, decode_mask
from .clips import Clip, Scan
from .errors import DataError

FORMAT, VERSION, INDEX = "vharm data", 1, "index.json"
BLOCK = tarfile.BLOCKSIZE
KINDS = ("scenes", "samples", "photos")


@dataclass(frozen=True)
class Members:
    """Frames of a clip as members of an archive. `stamp` tells the file from a later one."""

    archive: str
    stamp: tuple[int, int]
    name: str
    spans: tuple[tuple[int, int], ...]

    def count(self) -> int:
        """How many frames there are."""
        return len(self.spans)

    def label(self, index: int) -> str:
        """The archive and the member, for messages."""
        return f"{self.archive}: {self.name}, frame {index}"

    def data(self, index: int) -> bytes:
        """The encoded bytes of a frame.

        Raises:
            DataError: the archive is gone, changed or cut.
        """
        return _read(self.archive, self.stamp, self.spans[index], self.label(index))

    def colours(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames as pictures."""
        return (decode_colour(self.data(i), self.label(i)) for i in range(start, stop))

    def masks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames as masks."""
        return (decode_mask(self.data(i), self.label(i)) for i in range(start, stop))


def _read(path: str, stamp: tuple[int, int], span: tuple[int, int], label: str) -> bytes:
    try:
        # pread keeps no position, so processes that share a descriptor do not disturb each other.
        data = os.pread(_descriptor(path, stamp), span[1], span[0])
    except OSError as error:
        raise DataError(f"{label}: {error.strerror or error}") from error
    if len(data) != span[1]:
        raise DataError(f"{label}: the archive ends early")
    return data


@functools.lru_cache(maxsize=16)
def _open(path: str, stamp: tuple[int, int]) -> _Descriptor:
    return _Descriptor(path, stamp)


def _descriptor(path: str, stamp: tuple[int, int]) -> int:
    return _open(path, stamp).number


class _Descriptor:
    """An open file, closed when the cache lets go of it."""

    def __init__(self, path: str, stamp: tuple[int, int]) -> None:
        self.number = os.open(path, os.O_RDONLY)
        if _stamp(os.fstat(self.number)) != stamp:
            raise DataError(f"{path}: the archive was changed since it was opened; open it again")

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


class Archive:
    """An archive's parts and extra files.

    Attributes:
        parts: name to the kind of its clips: "scenes", "samples" or "photos".
        extras: names of files kept as they are, such as look-up tables.
        size, quality: of the pictures: longer side in pixels, JPEG quality.

    Raises:
        DataError: not such an archive, or cut short.
        FileNotFoundError: no such file.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self._path = os.fspath(path)
        with open(self._path, "rb") as file:
            self._stamp = _stamp(os.fstat(file.fileno()))
            self._index, self._base = _read_index(file, self._path)
        self.parts = {name: part["kind"] for name, part in self._index["parts"].items()}
        self.extras = tuple(self._index["extras"])
        self.size, self.quality = self._index["size"], self._index["quality"]
        needed = self._base + self._index["length"]
        if self._stamp[0] < needed:
            raise DataError(
                f"{self._path}: ends early: {self._stamp[0]} bytes of at least {needed}"
            )

    def extra(self, name: str) -> bytes:
        """The bytes of an extra file.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.extras:
            there = ", ".join(self.extras) or "none"
            raise ValueError(f"name: no extra file {name!r} in the archive; there: {there}")
        start, length = self._index["extras"][name]
        return _read(self._path, self._stamp, (self._base + start, length), name)

    def scan(self, part: str) -> Scan:
        """The clips of a part.

        Raises:
            ValueError: there is none of that name.
        """
        if part not in self.parts:
            there = ", ".join(self.parts)
            raise ValueError(f"part: no part {part!r} in the archive; there: {there}")
        clips = tuple(self._clip(row) for row in self._index["parts"][part]["clips"])
        return Scan((), photos=clips) if self.parts[part] == "photos" else Scan(clips)

    def _clip(self, row: dict[str, Any]) -> Clip:
        def members(kind: str) -> Members | None:
            if kind not in row:
                return None
            spans = tuple((self._base + start, length) for start, length in row[kind])
            return Members(self._path, self._stamp, f"{row['name']} ({kind})", spans)

        return Clip(
            row["name"], members("frames"), members("masks"), members("composites"),
            row.get("subset", ""), row.get("split", ""),
        )  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether it is a file that is meant to be one."""
    return path.is_file() and path.suffix.lower() == ".tar"


def _read_index(file, path: str) -> tuple[dict[str, Any], int]:
    """The index, and where the members that it places begin."""
    try:
        header = tarfile.TarInfo.frombuf(file.read(BLOCK), "utf-8", "strict")
        if header.name != INDEX:
            raise ValueError("its first member is no index")
        index = json.loads(file.read(header.size))
        if index["format"] != FORMAT:
            raise ValueError("its index is of another kind")
        if index["version"] != VERSION:
            raise ValueError(f"it is of version {index['version']}, this reads {VERSION}")
    except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not an archive of `vharm data pack`: {error}") from error
    return index, BLOCK + -(-header.size // BLOCK) * BLOCK

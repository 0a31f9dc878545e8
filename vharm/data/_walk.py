# SPDX-License-Identifier: Apache-2.0
"""Finding pictures in folders, in an order that does not depend on the file system."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ._pictures import SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
SPLITS = ("train", "val", "test")


def natural(name: str) -> list[tuple[int, int | str]]:
    """A sorting key that puts frame_9 before frame_10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p)) if p.isdigit() and p.isascii() else (1, p) for p in parts if p]


def pictures_in(folder: str | Path) -> dict[str, str]:
    """Stem to file name of a folder's pictures, in natural order; {} where there is no folder."""
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
    return {os.path.splitext(name)[0]: name for name in sorted(found, key=natural)}


def pictures_below(folder: str | Path) -> tuple[dict[str, str], list[str]]:
    """Stem to path, both relative to the folder with "/", of all pictures below it.

    Also the stems that two files share; the first of them is kept.
    """
    root, found, twice = Path(folder), {}, []
    for where, folders, names in os.walk(root):
        folders[:] = sorted((f for f in folders if not f.startswith(".")), key=natural)
        prefix = Path(where).relative_to(root).as_posix()
        for name in sorted(names, key=natural):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in SUFFIXES or name.startswith("."):
                continue
            key = stem if prefix == "." else f"{prefix}/{stem}"
            if key in found:
                twice.append(key)
            else:
                found[key] = name if prefix == "." else f"{prefix}/{name}"
    return found, twice


def folders_in(folder: str | Path) -> list[str]:
    """Names of the folders in a folder, in natural order."""
    try:
        names = [e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(names, key=natural)


def video_named(folder: str | Path, *stems: str) -> Path | None:
    """The first video or picture in the folder with one of these stems, upper case or lower."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return None
    for stem in stems:
        for name in names:
            own, suffix = os.path.splitext(name.lower())
            if own == stem and suffix in (*VIDEO_SUFFIXES, *SUFFIXES):
                return Path(folder) / name
    return None

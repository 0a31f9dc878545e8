# SPDX-License-Identifier: Apache-2.0
"""Which layout a folder has: every layout says what it looks for, and one must fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import composites, folders, hyoutube, iharmony4, sequences, triples
from .archive import Archive, is_archive
from .clips import Scan


@dataclass(frozen=True)
class Layout:
    """A layout's name, what its reader looks for, and the reader."""

    name: str
    looked_for: str
    matches: Callable[[Path], bool]
    scan: Callable[..., Scan]


_MODULES = (iharmony4, hyoutube, composites, folders, sequences, triples)

LAYOUTS = {m.NAME: Layout(m.NAME, m.LOOKED_FOR, m.matches, m.scan) for m in _MODULES}
"""Name to layout; these are tried on a folder."""

# Read only when asked for by name.
_BY_NAME = {
    **LAYOUTS,
    "foregrounds": Layout(
        "foregrounds", triples.LOOKED_FOR, triples.matches, triples.scan_foregrounds
    ),
}


def fitting(path: Path) -> list[str]:
    """Names of the layouts that fit a folder."""
    return [layout.name for layout in LAYOUTS.values() if layout.matches(path)]


def find(
    path: str | os.PathLike,
    *,
    layout: str | None = None,
    masks: str | None = None,
    part: str | None = None,
    split: str | None = None,
) -> tuple[str, Scan]:
    """The layout of a place and what lies in it.

    Args:
        path: a folder, or an archive of `pack`.
        layout: its name, where it is not to be found out.
        masks: name of the folder of masks, where it is not the layout's own.
        part: of an archive with several.
        split: helps to choose an archive's part; nothing is left out here.

    Raises:
        FileNotFoundError: no such path.
        ValueError: no layout fits, or several do; all are named.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"path: {place} does not exist")
    if is_archive(place):
        for name, value in (("layout", layout), ("masks", masks)):
            if value is not None:
                raise ValueError(f"{name}: not for an archive, which has been read already")
        archive = Archive(place)
        name = part if part is not None else _only_part(archive, split)
        return f"archive, part {name}", archive.scan(name)
    if part is not None:
        raise ValueError(f"part: only archives have parts, {place.name} is none")
    if not place.is_dir():
        raise ValueError(f"path: expected a folder or a .tar archive of pack, got {place.name}")
    return _of_folder(place, layout, masks)


def _of_folder(place: Path, layout: str | None, masks: str | None) -> tuple[str, Scan]:
    if layout is not None and layout not in _BY_NAME:
        raise ValueError(f"layout: expected one of {', '.join(_BY_NAME)}; got {layout!r}")
    names = [layout] if layout is not None else fitting(place)
    if len(names) > 1:
        raise ValueError(
            f"path: {place.name} fits several layouts: {' and '.join(names)}; say which one is "
            f'meant, such as layout="{names[0]}"'
        )
    if not names:
        looked = "; ".join(f"{entry.name}: {entry.looked_for}" for entry in LAYOUTS.values())
        raise ValueError(f"path: {place.name} has no known layout. Looked for: {looked}")
    chosen = _BY_NAME[names[0]]
    found = chosen.scan(place, masks)
    if not (found.clips or found.photos or found.problems):
        raise ValueError(
            f"path: nothing found in {place.name} in the layout {chosen.name}, which has "
            f"{chosen.looked_for}"
        )
    return chosen.name, found


def _only_part(archive: Archive, split: str | None) -> str:
    """The part that is meant where none is named: the only one, or the only one with the split."""
    names = [name for name, kind in archive.parts.items() if kind != "photos"] or [*archive.parts]
    if len(names) > 1 and split is not None:
        names = [name for name in names if split in archive.scan(name).splits]
    if len(names) != 1:
        having = f" with the split {split!r}" if split is not None else ""
        raise ValueError(
            f"part: the archive has {len(names) or 'no'} parts{having}; say which is meant, of "
            f"{', '.join(archive.parts)}"
        )
    return names[0]

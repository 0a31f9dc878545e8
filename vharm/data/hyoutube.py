# SPDX-License-Identifier: Apache-2.0
"""HYouTube (Lu et al., 2021): clips of 20 frames, composites made with look-up tables.

    real_videos/VIDEO/ or real_videos/VIDEO/OBJECT/   ground truth, 00005.jpg, 00010.jpg, ...
    foreground_mask/VIDEO/OBJECT/                     masks, 00005.png, ...
    synthetic_composite_videos/VIDEO/OBJECT/          composites, 00005.jpg, ...

or Ground-truth/, Mask/ and Composite/ in their places. Lists (train_list.txt, test_list.txt,
train.txt, test.txt, ..._frames.txt) name in three columns a clip's folders, or a frame's files,
a line. Without lists every composite folder is a clip, and there are no splits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ._sources import Stills
from ._walk import folders_in, natural, pictures_in
from .clips import Clip, Problem, Scan

NAME = "hyoutube"
LOOKED_FOR = (
    "real_videos/, foreground_mask/ and synthetic_composite_videos/ "
    "(or Ground-truth/, Mask/ and Composite/)"
)

LAYOUTS = (
    ("real_videos", "foreground_mask", "synthetic_composite_videos"),
    ("Ground-truth", "Mask", "Composite"),
)
_LIST = re.compile(r"(train|val|test)(?:[_-]?(?:list|frames?|frame_list))?\.txt")


@dataclass(frozen=True)
class _Listed:
    """What a list says of a clip: three folders below the root, and perhaps its frames."""

    real: str
    mask: str
    composite: str
    split: str
    stems: tuple[str, ...] | None = None


def matches(path: Path) -> bool:
    """Whether the folder looks like this layout."""
    return _folders(path) is not None


def _folders(path: Path) -> tuple[str, str, str] | None:
    there = {name.lower(): name for name in folders_in(path)}
    for layout in LAYOUTS:
        if all(part.lower() in there for part in layout):
            return tuple(there[part.lower()] for part in layout)
    return None


def scan(path: Path, masks: str | None = None) -> Scan:
    """Lists clips with composite, mask and ground truth.

    Args:
        path: the folder of the three.
        masks: name of the folder of masks, if not the published one.
    """
    folders = _folders(path) or LAYOUTS[0]
    listed, problems = _read_lists(path, folders)
    if not listed and not problems:
        listed = _walk(path, folders)
    clips = []
    for entry in listed:
        clip, found = _clip(path, entry, (folders[1], masks) if masks else None)
        problems += found
        clips += [clip] if clip is not None else []
    return Scan(tuple(clips), tuple(problems))


def _walk(path: Path, folders: tuple[str, str, str]) -> list[_Listed]:
    real, mask, composite = folders
    found = []
    for video in folders_in(path / composite):
        found += [
            _Listed(f"{real}/{video}", f"{mask}/{video}/{o}", f"{composite}/{video}/{o}", "")
            for o in folders_in(path / composite / video)
        ]
    return found


def _read_lists(path: Path, folders: tuple[str, str, str]) -> tuple[list[_Listed], list[Problem]]:
    """The clips of all lists; of two lists for one split the shorter one is of clips."""
    chosen: dict[str, tuple[Path, list[str]]] = {}
    for file in sorted(path.glob("*.txt")):
        match = _LIST.fullmatch(file.name)
        lines = [line for line in file.read_text().splitlines() if line.strip()] if match else []
        if lines and (match[1] not in chosen or len(lines) < len(chosen[match[1]][1])):
            chosen[match[1]] = (file, lines)
    listed, problems = [], []
    for split in ("train", "val", "test"):
        file, lines = chosen.get(split, (None, []))
        rows = []
        for number, line in enumerate(lines, 1):
            columns = _columns(line, folders)
            if columns is None:
                detail = f"{file.name} line {number}: expected three paths, got {line.strip()!r}"
                problems.append(Problem(f"{file.name}:{number}", "odd line", detail))
            else:
                rows.append(columns)
        listed += _grouped(rows, split)
    return listed, problems


def _columns(line: str, folders: tuple[str, str, str]) -> tuple[str, str, str] | None:
    """(real, mask, composite); in the released order, or in another that the folders tell."""
    found = [part.replace("\\", "/").strip("/").removeprefix("./") for part in line.split()]
    if len(found) != 3:
        return None
    tops = [part.split("/")[0].lower() for part in found]
    wanted = [folder.lower() for folder in folders]
    if sorted(tops) == sorted(wanted):
        found = [found[tops.index(top)] for top in wanted]
    return tuple(found)


def _grouped(rows: list[tuple[str, str, str]], split: str) -> list[_Listed]:
    """Clips of a list of clips or of a list of frames."""
    listed: list[_Listed] = []
    frames: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows:
        if all(PurePosixPath(part).suffix for part in row):
            frames.setdefault(str(PurePosixPath(row[2]).parent), []).append(row)
        else:
            listed.append(_Listed(*row, split))
    for group in frames.values():
        parents = [str(PurePosixPath(part).parent) for part in group[0]]
        stems = {PurePosixPath(row[2]).stem for row in group}
        listed.append(_Listed(*parents, split, tuple(sorted(stems, key=natural))))
    return listed


def _clip(
    path: Path, entry: _Listed, renamed: tuple[str, str] | None
) -> tuple[Clip | None, list[Problem]]:
    name = "/".join(entry.composite.split("/")[1:]) or entry.composite
    mask_folder = entry.mask.replace(*renamed, 1) if renamed else entry.mask
    shown = pictures_in(path / entry.composite)
    stems = entry.stems or tuple(shown)
    if not stems:
        detail = f"{entry.composite}/ is not there or holds no pictures"
        return None, [Problem(name, "picture missing", detail)]
    real_folder, real = _real(path, entry)
    problems = []
    for folder, files, kind in (
        (entry.composite, shown, "picture missing"),
        (mask_folder, masks := pictures_in(path / mask_folder), "mask missing"),
        (real_folder, real, "target missing"),
    ):
        absent = [stem for stem in stems if stem not in files]
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            detail = f"{folder}/{absent[0]}{more} not found"
            problems.append(Problem(name, kind, detail))
    if problems:
        return None, problems

    def stills(folder: str, files: dict[str, str]) -> Stills:
        return Stills(str(path / folder), tuple(files[stem] for stem in stems))

    return Clip(
        name, stills(real_folder, real), stills(mask_folder, masks),
        stills(entry.composite, shown), split=entry.split,
    ), []  # fmt: skip


def _real(path: Path, entry: _Listed) -> tuple[str, dict[str, str]]:
    """The ground truth's folder and files: some copies have the OBJECT level, some not."""
    video_object = entry.composite.split("/")[1:]
    candidates = [entry.real]
    if len(video_object) == 2:
        top = entry.real.split("/")[0]
        candidates += [f"{top}/{'/'.join(video_object)}", f"{top}/{video_object[0]}"]
    for folder in candidates:
        files = pictures_in(path / folder)
        if files:
            return folder, files
    return entry.real, {}

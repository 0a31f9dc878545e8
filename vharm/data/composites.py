# SPDX-License-Identifier: Apache-2.0
"""Composites that are there already, with or without their true answer.

    composites/X.jpg  masks/X.png  [targets/X.jpg]          pictures
    NAME/composites/00000.png  NAME/masks/00000.png  [...]  clips
    real_composites/images/X.jpg  real_composites/masks/X.png

The last: images/ and masks/ in a folder whose name contains "composite".
"""

from __future__ import annotations

from pathlib import Path

from ._sources import Stills
from ._walk import folders_in, pictures_below, pictures_in
from .clips import Clip, Problem, Scan
from .folders import scan_pair
from .sequences import matched

NAME = "composites"
LOOKED_FOR = (
    "composites/ and masks/ (perhaps targets/) with files of the same stem, or NAME/composites/ "
    'and NAME/masks/ for clips, or images/ and masks/ in a folder named "...composite..."'
)


def matches(path: Path) -> bool:
    """Whether the folder looks like this layout."""
    return _pictures_folder(path) is not None or bool(_clip_names(path))


def _pictures_folder(path: Path) -> str | None:
    if not (path / "masks").is_dir():
        return None
    if (path / "composites").is_dir():
        return "composites"
    named_so = "composite" in path.resolve().name.lower()
    return "images" if named_so and (path / "images").is_dir() else None


def _clip_names(path: Path) -> list[str]:
    return [n for n in folders_in(path) if _is_clip(path / n)]


def _is_clip(path: Path) -> bool:
    return (path / "composites").is_dir() and (path / "masks").is_dir()


def scan(path: Path, masks: str | None = None) -> Scan:
    """Lists composites with their masks and, where there are any, their answers.

    Args:
        path: the folder.
        masks: name of the folder of masks, if not "masks".
    """
    # Asked for by name, images/ and masks/ hold composites whatever the folder is called.
    folder = _pictures_folder(path) or ("images" if (path / "images").is_dir() else None)
    if folder is None:
        return _scan_clips(path, masks or "masks")
    pairs = scan_pair(path, folder, masks or "masks")
    targets, _ = pictures_below(path / "targets")
    clips, problems = [], list(pairs.problems)
    for clip in pairs.clips:
        target = None
        if targets:
            if clip.name not in targets:
                detail = f"{folder}/{clip.name} has no picture in targets/"
                problems.append(Problem(clip.name, "target missing", detail))
                continue
            target = Stills(str(path / "targets"), (targets[clip.name],))
        clips.append(Clip(clip.name, target, clip.masks, clip.frames, clip.subset, clip.split))
    return Scan(tuple(clips), tuple(problems))


def _scan_clips(path: Path, masks: str) -> Scan:
    clips, problems = [], []
    for name in _clip_names(path):
        folder = path / name
        shown = pictures_in(folder / "composites")
        mask, found = matched(name, folder, "composites", shown, masks)
        target = None
        if mask is not None and (folder / "targets").is_dir():
            target, more = matched(name, folder, "composites", shown, "targets", "target missing")
            found += more
        problems += found
        if not any(problem.blocks for problem in found):
            frames = Stills(str(folder / "composites"), tuple(shown.values()))
            clips.append(Clip(name, target, mask, frames))
    return Scan(tuple(clips), tuple(problems))

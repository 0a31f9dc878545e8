# SPDX-License-Identifier: Apache-2.0
"""Foreground, background and matte, each a video or a picture of one size.

    NAME/foreground.mp4  NAME/background.mp4  NAME/mask.mp4   (matte, alpha: also known)
    foreground/X.png     background/X.png     mask/X.png

Read as samples: the foreground laid over the background. The layout "foregrounds" reads the same
folders as scenes instead: the foreground's own frames and their matte.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ._sources import Overlay, Stills, Video
from ._walk import folders_in, pictures_in, video_named
from .clips import Clip, Problem, Scan

NAME = "triples"
LOOKED_FOR = (
    "foreground, background and mask (or matte, alpha) as videos or pictures in NAME/, "
    "or as folders of pictures of the same stem"
)

MATTES = ("mask", "matte", "alpha", "masks", "mattes")
FOREGROUNDS, BACKGROUNDS = ("foreground", "foregrounds"), ("background", "backgrounds")


def matches(path: Path) -> bool:
    """Whether the folder looks like this layout."""
    return bool(_triple_folders(path)) or _picture_folders(path) is not None


def _triple_folders(path: Path) -> list[tuple[str, Path]]:
    candidates = [(path.resolve().name, path)]
    candidates += [(name, path / name) for name in folders_in(path)]
    return [
        (name, folder)
        for name, folder in candidates
        if video_named(folder, *FOREGROUNDS) and video_named(folder, *BACKGROUNDS)
    ]


def _picture_folders(path: Path) -> tuple[str, str, str] | None:
    there = set(folders_in(path))
    found = [
        next((name for name in names if name in there), None)
        for names in (FOREGROUNDS, BACKGROUNDS, MATTES)
    ]
    return None if None in found else tuple(found)


def scan(path: Path, masks: str | None = None) -> Scan:
    """Lists composites of foreground and background.

    Args:
        path: the folder.
        masks: stem of the matte, if not mask, matte or alpha.
    """
    clips, problems = [], []
    for name, folder in _triple_folders(path):
        front = video_named(folder, *FOREGROUNDS)
        matte = video_named(folder, *((masks,) if masks else MATTES))
        if matte is None:
            detail = f"{name}/{front.name} has no {masks or 'mask'} beside it"
            problems.append(Problem(name, "mask missing", detail))
            continue
        behind = video_named(folder, *BACKGROUNDS)
        clips.append(_clip(name, *(Video(str(file)) for file in (front, behind, matte))))
    folders = _picture_folders(path)
    if folders is not None:
        pictures, problems_there = _pictures(path, folders)
        clips += pictures
        problems += problems_there
    return Scan(tuple(clips), tuple(problems))


def scan_foregrounds(path: Path, masks: str | None = None) -> Scan:
    """Lists the same foregrounds as natural scenes with their mattes."""
    found = scan(path, masks)
    clips = [
        replace(clip, frames=clip.composites.foreground, composites=None) for clip in found.clips
    ]
    return replace(found, clips=tuple(clips))


def _clip(name: str, front, behind, matte) -> Clip:
    return Clip(name, None, matte, Overlay(front, behind, matte))


def _pictures(path: Path, folders: tuple[str, str, str]) -> tuple[list[Clip], list[Problem]]:
    front, behind, matte = (pictures_in(path / name) for name in folders)
    clips, problems = [], []
    for stem, file in front.items():
        partners = ((behind, folders[1], "background"), (matte, folders[2], "mask"))
        missing = [(where, kind) for files, where, kind in partners if stem not in files]
        for where, kind in missing:
            detail = f"{folders[0]}/{file} has none of its stem in {where}/"
            problems.append(Problem(stem, f"{kind} missing", detail))
        if not missing:
            files = (file, behind[stem], matte[stem])
            parts = [Stills(str(path / f), (n,)) for f, n in zip(folders, files, strict=True)]
            clips.append(_clip(stem, *parts))
    return clips, problems

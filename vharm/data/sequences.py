# SPDX-License-Identifier: Apache-2.0
"""Clips as folders of frames with folders of masks, or as videos.

    NAME/frames/00000.jpg  NAME/masks/00000.png
    NAME/frames.mp4        NAME/mask.mp4

Also below train/, val/ and test/; a single clip's own folder can be opened as well. Masks are
paired with frames by stem, or by position where no stem fits and both are equally many.
"""

from __future__ import annotations

from pathlib import Path

from ._sources import Stills, Video
from ._walk import SPLITS, folders_in, pictures_in, video_named
from .clips import Clip, Problem, Scan

NAME = "sequences"
LOOKED_FOR = "NAME/frames/ and NAME/masks/, or NAME/frames.mp4 and NAME/mask.mp4"

VIDEO_MASKS = ("masks", "mask", "matte")


def matches(path: Path) -> bool:
    """Whether the folder looks like this layout."""
    return bool(_found(path))


def _found(path: Path) -> list[tuple[str, str, Path]]:
    """(name, split, folder) of every clip."""
    if _is_clip(path):
        return [(path.resolve().name, "", path)]
    found = []
    for name in folders_in(path):
        if _is_clip(path / name):
            found.append((name, "", path / name))
        elif name in SPLITS:
            found += [
                (f"{name}/{clip}", name, path / name / clip)
                for clip in folders_in(path / name)
                if _is_clip(path / name / clip)
            ]
    return found


def _is_clip(path: Path) -> bool:
    return (path / "frames").is_dir() or video_named(path, "frames") is not None


def scan(path: Path, masks: str | None = None) -> Scan:
    """Lists clips.

    Args:
        path: the folder.
        masks: name of the folder of masks (or stem of the video), if not "masks".
    """
    clips, problems = [], []
    for name, split, folder in _found(path):
        clip, found = _clip(name, split, folder, masks)
        problems += found
        clips += [clip] if clip is not None else []
    return Scan(tuple(clips), tuple(problems))


def _clip(
    name: str, split: str, folder: Path, masks: str | None
) -> tuple[Clip | None, list[Problem]]:
    if not (folder / "frames").is_dir():
        frames = video_named(folder, "frames")
        mask = video_named(folder, *((masks,) if masks else VIDEO_MASKS))
        if mask is None:
            detail = f"{name}/{frames.name} has no {masks or 'mask'}.mp4 beside it"
            return None, [Problem(name, "mask missing", detail)]
        return Clip(name, Video(str(frames)), Video(str(mask)), split=split), []
    frames = pictures_in(folder / "frames")
    found, problems = matched(name, folder, "frames", frames, masks or "masks")
    if found is None:
        return None, problems
    stills = Stills(str(folder / "frames"), tuple(frames.values()))
    return Clip(name, stills, found, split=split), problems


def matched(
    name: str,
    folder: Path,
    picture_folder: str,
    pictures: dict[str, str],
    partner_folder: str,
    kind: str = "mask missing",
) -> tuple[Stills | None, list[Problem]]:
    """The files of partner_folder that go with the pictures, in order, and what is missing.

    Args:
        name: of the clip, for the problems.
        folder: that holds both folders.
        picture_folder, partner_folder: their names.
        pictures: stem to file name, in order.
        kind: of the problem where a picture has no partner.
    """
    if not pictures:
        return None, [Problem(name, "no frames", f"{name}/{picture_folder}/ holds no pictures")]
    partners = pictures_in(folder / partner_folder)
    if not partners:
        detail = f"{name}/{partner_folder}/ is not there or holds no pictures"
        return None, [Problem(name, kind, detail)]
    if not pictures.keys() & partners.keys() and len(pictures) == len(partners):
        return Stills(str(folder / partner_folder), tuple(partners.values())), []
    problems = [
        Problem(f"{name}/{stem}", kind, f"{name}/{picture_folder}/{file} has none of its stem in "
                f"{name}/{partner_folder}/")
        for stem, file in pictures.items() if stem not in partners
    ]  # fmt: skip
    if problems:
        return None, problems
    spare = [
        Problem(f"{name}/{stem}", "picture missing",
                f"{name}/{partner_folder}/{partners[stem]} has none of its stem in "
                f"{name}/{picture_folder}/", False)
        for stem in sorted(partners.keys() - pictures.keys())
    ]  # fmt: skip
    files = tuple(partners[stem] for stem in pictures)
    return Stills(str(folder / partner_folder), files), spare

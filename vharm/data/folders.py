# SPDX-License-Identifier: Apache-2.0
"""Folders of photographs and masks.

    images/X.jpg         masks/X.png
    images/train/X.jpg   masks/train/X.png      with splits: train, val, test
    images/unmasked/     photographs without masks, for borrowed or drawn ones

Endings do not matter, the stem and the folders between do.
"""

from __future__ import annotations

from pathlib import Path

from ._sources import Stills
from ._walk import SPLITS, pictures_below
from .clips import Clip, Problem, Scan

NAME = "folders"
LOOKED_FOR = "images/ and masks/ with files of the same stem (also in train/, val/, test/)"

UNMASKED = "unmasked"


def matches(path: Path) -> bool:
    """Whether the folder looks like this layout; composites/ or a name that says so is another."""
    both = (path / "images").is_dir() and (path / "masks").is_dir()
    return both and "composite" not in path.resolve().name.lower()


def scan(path: Path, masks: str | None = None) -> Scan:
    """Lists photographs with their masks.

    Args:
        path: the folder.
        masks: name of the folder of masks, if not "masks".
    """
    return scan_pair(path, "images", masks or "masks")


def scan_pair(path: Path, picture_folder: str, mask_folder: str) -> Scan:
    """Lists pictures of one folder with masks of the same stem in another, both below path."""
    pictures, twice = pictures_below(path / picture_folder)
    masks, masks_twice = pictures_below(path / mask_folder)
    clips, photos, problems = [], [], []
    for folder, stems in ((picture_folder, twice), (mask_folder, masks_twice)):
        problems += [
            Problem(stem, "name used twice", f"{folder}/{stem}.* stands for two files", False)
            for stem in stems
        ]
    for stem, file in pictures.items():
        frames = Stills(str(path / picture_folder), (file,))
        split, subset = _place(stem)
        if split == UNMASKED:
            photos.append(Clip(stem, frames, None, subset=subset))
        elif stem not in masks:
            detail = f"{picture_folder}/{file} has no {mask_folder}/{stem}.png"
            problems.append(Problem(stem, "mask missing", detail))
        else:
            mask = Stills(str(path / mask_folder), (masks[stem],))
            clips.append(Clip(stem, frames, mask, subset=subset, split=split))
    for stem in sorted(masks.keys() - pictures.keys()):
        detail = f"{mask_folder}/{masks[stem]} has no picture in {picture_folder}/"
        problems.append(Problem(stem, "picture missing", detail, False))
    return Scan(tuple(clips), tuple(problems), tuple(photos))


def _place(stem: str) -> tuple[str, str]:
    """(split, subset) of train/a/X: the first folder that is no split is the subset."""
    parts = stem.split("/")[:-1]
    split = parts.pop(0) if parts and parts[0] in (*SPLITS, UNMASKED) else ""
    return split, parts[0] if parts else ""

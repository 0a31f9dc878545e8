# SPDX-License-Identifier: Apache-2.0
"""iHarmony4 (Cong et al., CVPR 2020): HCOCO, HFlickr, HAdobe5k, Hday2night.

    SUBSET/composite_images/NAME_i_j.jpg  SUBSET/masks/NAME_i.png  SUBSET/real_images/NAME.jpg
    SUBSET/SUBSET_train.txt  SUBSET/SUBSET_test.txt     one composite's file name a line

The folder of all subsets, or one subset's own folder, can be opened. Names are
SUBSET/NAME_i_j; the subset's name is taken from its list, else from its folder.
"""

from __future__ import annotations

from pathlib import Path

from ._sources import Stills
from ._walk import folders_in, pictures_in
from .clips import Clip, Problem, Scan

NAME = "iharmony4"
LOOKED_FOR = "composite_images/, masks/ and real_images/, in the folder or in its subsets' folders"

PARTS = ("composite_images", "masks", "real_images")


def matches(path: Path) -> bool:
    """Whether the folder looks like this layout."""
    return bool(_subset_folders(path))


def _subset_folders(path: Path) -> list[Path]:
    candidates = [path, *(path / name for name in folders_in(path))]
    return [c for c in candidates if all((c / part).is_dir() for part in PARTS)]


def scan(path: Path, masks: str | None = None) -> Scan:
    """Lists composites with their masks and real photographs.

    Args:
        path: the folder.
        masks: name of the folder of masks, if not "masks".
    """
    clips, problems = [], []
    for folder in _subset_folders(path):
        found = _scan_subset(folder, masks or "masks")
        clips += found.clips
        problems += found.problems
    return Scan(tuple(clips), tuple(problems))


def _scan_subset(folder: Path, mask_folder: str) -> Scan:
    lists = _lists(folder)
    subset = next(iter(lists.values()))[0] if lists else folder.resolve().name
    shown, masks, real = (pictures_in(folder / part) for part in (PARTS[0], mask_folder, PARTS[2]))
    clips, problems = [], []
    wanted = {
        Path(line).stem: (split, f"{file.name}")
        for split, (_, file) in lists.items()
        for line in _lines(file)
    } or dict.fromkeys(shown, ("", ""))
    for stem, (split, listed_in) in wanted.items():
        name = f"{subset}/{stem}"
        if stem not in shown:
            detail = f"{listed_in} lists {stem}, which is not in {subset}/{PARTS[0]}/"
            problems.append(Problem(name, "picture missing", detail))
            continue
        pieces = stem.rsplit("_", 2)
        if len(pieces) != 3:
            detail = f"{subset}/{PARTS[0]}/{shown[stem]} is not called NAME_i_j"
            problems.append(Problem(name, "odd name", detail))
            continue
        mask, answer = f"{pieces[0]}_{pieces[1]}", pieces[0]
        absent = [
            Problem(name, kind, f"{subset}/{PARTS[0]}/{shown[stem]} has no {subset}/{part}/{key}")
            for key, files, part, kind in (
                (mask, masks, mask_folder, "mask missing"),
                (answer, real, PARTS[2], "target missing"),
            )
            if key not in files
        ]
        problems += absent
        if not absent:
            clips.append(
                Clip(
                    name,
                    Stills(str(folder / PARTS[2]), (real[answer],)),
                    Stills(str(folder / mask_folder), (masks[mask],)),
                    Stills(str(folder / PARTS[0]), (shown[stem],)),
                    subset,
                    split,
                )
            )
    return Scan(tuple(clips), tuple(problems))


def _lists(folder: Path) -> dict[str, tuple[str, Path]]:
    """Split to (subset's name, list file)."""
    found = {}
    for split in ("train", "val", "test"):
        for file in sorted(folder.glob(f"*_{split}.txt")):
            found.setdefault(split, (file.name[: -len(f"_{split}.txt")], file))
    return found


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text().splitlines() if line.strip()]

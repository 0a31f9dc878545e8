# SPDX-License-Identifier: Apache-2.0
"""One page on which people rank the results of several methods without knowing whose they are."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from .ranking_page import PAGE, SCRIPT, STYLE

PICTURES = (".png", ".jpg", ".jpeg")
VIDEOS = {".mp4": "video/mp4", ".webm": "video/webm"}
COMPOSITES = "composites"
"""A clip's folder of this name stands for the clip, as `vharm data compose` writes it."""

MOST_VIDEO_BYTES = 16 << 20
QUESTION = "In which picture does the pasted object fit best into its surroundings?"


@dataclass(frozen=True)
class Sheet:
    """What was written.

    Attributes:
        path: the page.
        items: what there is to rank, in the page's order.
        left_out: results that some method lacks.
    """

    path: Path
    items: tuple[str, ...]
    left_out: tuple[str, ...]


def write_ranking_sheet(
    results: Mapping[str, str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    side: int = 640,
    limit: int | None = None,
    seed: int = 0,
    title: str = "Which fits best?",
    question: str = QUESTION,
) -> Sheet:
    """Writes a self-contained HTML page of shuffled, unnamed results side by side.

    Who opens it ranks them by clicks and saves a CSV file with the columns "participant" and
    "winner,loser" (two methods) or "rank1,rank2,..." (more), which `vharm rank` reads. The page
    asks nothing of any server; method names are in it, but not in the open.

    Args:
        results: a folder for each method's name. A result is a picture, a video, or a folder of
            numbered pictures, of which the middle one is shown; it has the same place in every
            folder, whatever the file's ending.
        path: the page, written whole or not at all.
        side: pictures are shrunk until their longer side is at most this many pixels; videos are
            taken as they are.
        limit: at most so many results, chosen by chance.
        seed: of the order of results and of the methods in each.
        title, question: what the page says.

    Raises:
        FileNotFoundError: a folder is not there.
        ValueError: fewer than two methods, nothing that all methods have, pictures of one result
            that differ in size, or a video that is too large.
        ImportError: Pillow is missing.
    """
    names = list(results)
    if len(names) < 2 or not all(names):
        raise ValueError(f"results: expected two methods or more, with names, got {names}")
    if side < 1 or (limit is not None and limit < 1):
        raise ValueError(f"side, limit: expected 1 or more, got {side} and {limit}")
    found = {name: find_results(folder) for name, folder in results.items()}
    every = sorted({key for files in found.values() for key in files})
    common = [key for key in every if all(key in files for files in found.values())]
    if not common:
        counts = ", ".join(f"{name} has {len(files)}" for name, files in found.items())
        raise ValueError(f"results: no picture or video of one name is in all folders: {counts}")
    chance = random.Random(seed)
    chance.shuffle(common)
    items = []
    for key in common[:limit]:
        order = list(range(len(names)))
        chance.shuffle(order)
        shown = _shown(key, [found[names[i]][key] for i in order], side)
        items.append({"order": order, "cells": shown})
    target = Path(path)
    _write(target, _page(names, items, title, question))
    return Sheet(target, tuple(common[:limit]), tuple(k for k in every if k not in common))


def find_results(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Results in a folder by their place in it: the picture or video to be shown of each.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"results: {root} is not a folder")
    found: dict[str, Path] = {}
    for here, folders, files in os.walk(root):
        if COMPOSITES in folders:
            folders[:] = [COMPOSITES]  # beside them lie masks, and perhaps the answers
        place = Path(here).relative_to(root)
        known = (*PICTURES, *VIDEOS)
        kept = sorted(Path(here, file) for file in files if Path(file).suffix.lower() in known)
        numbered = [file for file in kept if file.stem.isdigit()]
        if numbered and len(numbered) == len(kept) and place != Path():
            clip = place.parent if place.name == COMPOSITES and len(place.parts) > 1 else place
            found[clip.as_posix()] = numbered[len(numbered) // 2]
            continue
        for file in kept:
            found[(place / file.stem).as_posix()] = file
    return found


def _shown(key: str, files: Sequence[Path], side: int) -> list[str]:
    """Data URIs of one result, of one size."""
    if any(file.suffix.lower() in VIDEOS for file in files):
        return [_video(file) for file in files]
    pictures = [_picture(file) for file in files]
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        told = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise ValueError(f"results: the pictures of {key} differ in size: {told}")
    return [_picture_uri(picture, side) for picture in pictures]


def _picture(file: Path):
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('a ranking sheet needs Pillow: pip install "vharm[cli]"') from error
    with Image.open(file) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def _picture_uri(picture, side: int) -> str:
    picture.thumbnail((side, side))
    out = io.BytesIO()
    # Chroma at full size: colour is what is compared.
    picture.save(out, "JPEG", quality=92, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def _video(file: Path) -> str:
    kind = VIDEOS.get(file.suffix.lower())
    if kind is None:
        raise ValueError(f"results: {file.name} is a picture where another method has a video")
    size = file.stat().st_size
    if size > MOST_VIDEO_BYTES:
        raise ValueError(
            f"results: {file.name} has {size / 2**20:.0f} MiB; a page takes videos of at most "
            f"{MOST_VIDEO_BYTES >> 20} MiB"
        )
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def _page(names: list[str], items: list[dict], title: str, question: str) -> str:
    hidden = base64.b64encode(json.dumps(names).encode()).decode("ascii")
    # Choices kept by the browser belong to this very sheet.
    identity = hashlib.sha256(json.dumps([names, items]).encode()).hexdigest()[:16]
    data = json.dumps({"id": identity, "methods": hidden, "items": items})
    return Template(PAGE).substitute(
        title=html.escape(title), question=html.escape(question), style=STYLE, script=SCRIPT,
        data=data.replace("</", "<\\/"),
    )  # fmt: skip


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

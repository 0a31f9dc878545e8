# SPDX-License-Identifier: Apache-2.0
"""Packing data sets into one small archive, for moving to a training machine."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._pictures import encode_jpeg, encode_png, resize_picture
from ._sources import Stills, first_label
from ._walk import folders_in
from .archive import BLOCK, FORMAT, INDEX, VERSION
from .clips import Clip, spread
from .errors import DataError
from .folders import UNMASKED
from .layouts import find, fitting
from .open import find_photos

LOWEST_QUALITY, STEP, SAMPLE = 50, 1, 300
MIB, AHEAD = 2**20, 64


@dataclass(frozen=True)
class Part:
    """A data set that goes into an archive under a name."""

    name: str
    kind: str
    layout: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Packed:
    """What was written.

    Attributes:
        path: the archive.
        bytes: its length.
        quality: the JPEG quality in the end.
        parts: name to the number of clips.
        extras: names of the files kept besides.
        left_out: broken pairs that are not in it.
    """

    path: Path
    bytes: int
    quality: int
    parts: dict[str, int]
    extras: tuple[str, ...]
    left_out: int


def parts_of(path: str | os.PathLike, masks: str | None = None) -> tuple[list[Part], int]:
    """The data sets in a folder and in the folders in it, and how many pairs are broken.

    A set of the folder itself is called images (or by its layout), photographs without masks
    photos, a set of a folder in it by that folder's name; with its layout where one folder has
    several.
    """
    place = Path(path)
    if not place.is_dir():
        raise FileNotFoundError(f"path: {place} is not a folder")
    parts, broken = _parts_in(place, masks, own=True)
    # A folder that a layout here has read, as one of its clips or subsets, holds no other set.
    taken = {clip_folder for part in parts for clip_folder in _folders_of(part, place)}
    for name in folders_in(place):
        if name not in {*taken, *_PIECES}:
            more, more_broken = _parts_in(place / name, masks, own=False)
            parts, broken = parts + more, broken + more_broken
    photos = find_photos(place) if (place / "images" / UNMASKED).is_dir() else []
    if photos:
        parts.append(Part("photos", "photos", "folders", tuple(photos)))
    if not parts:
        find(place)  # raises, naming what was looked for
    return parts, broken


# Folders that are pieces of a layout, with or without clips of their own.
_PIECES = ("images", "masks", "targets", "composites", "frames")


def _parts_in(folder: Path, masks: str | None, *, own: bool) -> tuple[list[Part], int]:
    layouts, parts, broken = fitting(folder), [], 0
    for layout in layouts:
        _, found = find(folder, layout=layout, masks=masks)
        broken += sum(problem.blocks for problem in found.problems)
        if not found.clips:
            continue
        name = folder.name if not own else "images" if layout == "folders" else layout
        name = f"{name}-{layout}" if len(layouts) > 1 and not own else name
        kind = "scenes" if found.clips[0].composites is None else "samples"
        parts.append(Part(name, kind, layout, found.clips))
    return parts, broken


def _folders_of(part: Part, place: Path) -> set[str]:
    """Names of the folders in `place` that the part's files lie in."""
    sources = (clip.composites or clip.frames for clip in part.clips)
    labels = {os.path.dirname(first_label(source)) for source in sources}
    return {name for label in labels for name in Path(label).relative_to(place).parts[:1]}


def pack(
    path: str | os.PathLike | Sequence[Part],
    target: str | os.PathLike,
    *,
    size: int = 256,
    quality: int = 90,
    max_mib: float | None = None,
    extras: Sequence[str | os.PathLike] | None = None,
    masks: str | None = None,
    only: Sequence[str] | None = None,
    broken: str = "error",
    frames: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Packed:
    """Writes data sets into one tar archive of small JPEGs and PNG masks, which `open_data` reads.

    The same input gives the same bytes. The archive appears whole or not at all.

    Args:
        path: a folder: the sets in it and in its folders; or parts chosen by hand.
        target: the archive, ending in .tar.
        size: longer side of the pictures in pixels; smaller ones stay as they are.
        quality: of the JPEGs, 50 to 100. Masks of black and white stay so, one bit a pixel.
        max_mib: the archive's largest size; the quality is lowered step by step until it fits.
        extras: further files, such as look-up tables; None: luts.npz where the folder has one.
            Arrays of float32 in .npz files are stored in half precision, compressed.
        masks: name of the folders of masks, if not the layouts' own.
        only: names of the parts to take; None takes all.
        broken: "error" refuses broken pairs, "skip" leaves them out.
        frames: at most so many of each clip, from its beginning; None: all.
        progress: called with what is done, how far, and of how many.

    Raises:
        ValueError: an argument out of range, or max_mib cannot be kept.
        DataError: a broken pair or file.
    """
    where = Path(target)
    _check(where, size, quality, broken)
    if isinstance(path, str | os.PathLike):
        parts, left_out = parts_of(path, masks)
        beside = Path(path) / "luts.npz"
        extras = ([beside] if beside.is_file() else []) if extras is None else extras
    else:
        parts, left_out = list(path), 0
    parts = _only(parts, only)
    if left_out and broken == "error":
        raise DataError(
            f"{left_out} broken pairs; `vharm data inspect` names them, "
            'broken="skip" leaves them out'
        )
    others = {Path(file).name: _extra(Path(file)) for file in extras or ()}
    encoder = _Encoder(size, quality, frames, progress)
    budget = None if max_mib is None else max_mib * MIB
    if budget is not None:
        encoder.quality = _quality_for(parts, encoder, budget - sum(map(len, others.values())))
    while True:
        partial = where.with_name(f".{where.name}.partial-{secrets.token_hex(4)}")
        try:
            _write(partial, parts, others, encoder)
            length = partial.stat().st_size
            if budget is None or length <= budget:
                partial.replace(where)
                break
        finally:
            partial.unlink(missing_ok=True)
        _lower(encoder, length, budget)
    counts = {part.name: len(part.clips) for part in parts}
    return Packed(where, length, encoder.quality, counts, tuple(others), left_out)


def _only(parts: list[Part], names: Sequence[str] | None) -> list[Part]:
    there = [part.name for part in parts]
    unknown = [name for name in names or () if name not in there]
    if unknown:
        raise ValueError(f"part: no part {unknown[0]!r} to pack; there: {', '.join(there)}")
    return parts if names is None else [part for part in parts if part.name in names]


def _check(where: Path, size: int, quality: int, broken: str) -> None:
    if where.suffix.lower() != ".tar":
        raise ValueError(f"target: expected a name that ends in .tar, got {where.name}")
    if not where.parent.is_dir():
        raise FileNotFoundError(f"target: the folder {where.parent} does not exist")
    if size < 16:
        raise ValueError(f"size: expected 16 pixels or more, got {size}")
    if not LOWEST_QUALITY <= quality <= 100:
        raise ValueError(f"quality: expected {LOWEST_QUALITY} to 100, got {quality}")
    if broken not in ("error", "skip"):
        raise ValueError(f'broken: expected "error" or "skip", got {broken!r}')


def _lower(encoder: _Encoder, length: int, budget: float) -> None:
    if encoder.quality - STEP < LOWEST_QUALITY:
        raise ValueError(
            f"max_mib: at quality {encoder.quality} it is still {length / MIB:.1f} MiB, more than "
            f"{budget / MIB:.1f}; choose a smaller size, or fewer frames or parts"
        )
    encoder.quality -= STEP


class _Encoder:
    """Turns clips into encoded members at the archive's size and quality."""

    def __init__(self, size: int, quality: int, frames: int | None, progress) -> None:
        self.size, self.quality, self.frames, self.progress = size, quality, frames, progress

    def members(self, clip: Clip) -> Iterator[tuple[str, str, bytes]]:
        """(kind, suffix, bytes) of every frame of a clip."""
        total = (clip.composites or clip.frames).count()
        stop = total if self.frames is None else min(self.frames, total)
        for kind in ("frames", "composites"):
            source = getattr(clip, kind)
            if source is not None:
                for picture in source.colours(0, stop):
                    small = resize_picture(picture, self.size_of(picture))
                    yield kind, ".jpg", encode_jpeg(small, self.quality)
        if clip.masks is not None:
            for mask in clip.masks.masks(0, stop):
                yield "masks", ".png", self.mask(mask)

    def mask(self, mask: np.ndarray) -> bytes:
        """A mask's PNG: black and white stay black and white."""
        small = resize_picture(mask, self.size_of(mask))
        if bool(((mask == 0) | (mask == 255)).all()):
            small = (small > 127).astype(np.uint8) * 255
        return encode_png(small)

    def size_of(self, picture: np.ndarray) -> tuple[int, int]:
        """(height, width) in the archive."""
        height, width = picture.shape[:2]
        factor = min(1.0, self.size / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))


def _quality_for(parts: Sequence[Part], encoder: _Encoder, budget: float) -> int:
    """The quality that should fit, judged by pictures evenly spread over all parts."""
    everything = [
        (clip, number)
        for part in parts
        for clip in part.clips
        for number in range(_length(clip, encoder.frames))
    ]
    chosen = [everything[place] for place in spread(len(everything), SAMPLE)]
    small, fixed = [], 0
    for clip, place in chosen:
        # A video is decoded from its beginning: its first frame must do.
        number = place if isinstance(clip.composites or clip.frames, Stills) else 0
        for source in (clip.frames, clip.composites):
            if source is not None:
                (picture,) = source.colours(number, number + 1)
                small.append(resize_picture(picture, encoder.size_of(picture)))
        if clip.masks is not None:
            (mask,) = clip.masks.masks(number, number + 1)
            fixed += len(encoder.mask(mask)) + BLOCK + BLOCK // 2
    fixed += len(small) * (BLOCK + BLOCK // 2)
    share = len(everything) / len(chosen)
    low, high = LOWEST_QUALITY, encoder.quality
    while low < high:
        middle = (low + high + 1) // 2
        size = sum(len(encode_jpeg(picture, middle)) for picture in small)
        low, high = (middle, high) if (size + fixed) * share <= budget else (low, middle - 1)
    return low


def _length(clip: Clip, frames: int | None) -> int:
    total = (clip.composites or clip.frames).count()
    return total if frames is None else min(frames, total)


def _extra(file: Path) -> bytes:
    """A file's bytes; float32 arrays of .npz files in half precision."""
    if file.suffix.lower() != ".npz":
        return file.read_bytes()
    with np.load(file, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    half = {
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in arrays.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **half)
    return buffer.getvalue()


def _write(path: Path, parts: Sequence[Part], extras: dict[str, bytes], encoder: _Encoder) -> None:
    """The index, which must come first, knows all places: so the members are written beside it."""
    with tempfile.TemporaryFile(dir=path.parent) as body:
        index: dict[str, Any] = {
            "format": FORMAT, "version": VERSION, "size": encoder.size,
            "quality": encoder.quality, "length": 0, "parts": {}, "extras": {},
        }  # fmt: skip
        for part in parts:
            rows = []
            for clip, members in _encoded(part.clips, encoder):
                rows.append(_write_clip(body, part.name, clip, members))
                if encoder.progress is not None:
                    encoder.progress(part.name, len(rows), len(part.clips))
            index["parts"][part.name] = {"kind": part.kind, "layout": part.layout, "clips": rows}
        for name, data in sorted(extras.items()):
            index["extras"][name] = _append(body, name, data)
        body.write(b"\0" * (2 * BLOCK))
        index["length"] = body.tell()
        body.seek(0)
        with open(path, "wb") as file:
            _append(file, INDEX, json.dumps(index, separators=(",", ":")).encode())
            shutil.copyfileobj(body, file, MIB)


def _encoded(clips: Sequence[Clip], encoder: _Encoder) -> Iterator[tuple[Clip, list]]:
    """Clips with their members, in order, encoded by some threads, a few clips ahead."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(clips), AHEAD):
            group = clips[start : start + AHEAD]
            yield from zip(group, pool.map(lambda c: list(encoder.members(c)), group), strict=True)


def _write_clip(body, part: str, clip: Clip, members: list) -> dict[str, Any]:
    row: dict[str, Any] = {"name": clip.name}
    row.update({key: value for key, value in (("subset", clip.subset), ("split", clip.split))
                if value})  # fmt: skip
    for kind, suffix, data in members:
        spans = row.setdefault(kind, [])
        name = f"{part}/{kind}/{clip.name}"
        single = (clip.composites or clip.frames).count() == 1
        name += suffix if single else f"/{len(spans):05d}{suffix}"
        spans.append(_append(body, name, data))
    return row


def _append(file, name: str, data: bytes) -> list[int]:
    """Writes a member; gives its place and length. No time, no owner: bytes depend on data only."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    file.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))
    start = file.tell()
    file.write(data)
    file.write(b"\0" * (-len(data) % BLOCK))
    return [start, len(data)]

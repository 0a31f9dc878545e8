# SPDX-License-Identifier: Apache-2.0
"""Pictures and image sequences: PNG, JPEG, TIFF, OpenEXR and what else FFmpeg decodes."""

from __future__ import annotations

import glob
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .array_reader import cut_indices
from .errors import MediaError, require_av
from .exif import exif_orientation, upright
from .formats import convert, frame_from_av
from .frame import ColorSpec, Frame
from .reader import Reader, Template

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".exr", ".bmp", ".webp", ".dpx", ".tga"}
    | {".ppm", ".pgm", ".pnm", ".jp2", ".hdr"}
)
_PATTERN = re.compile(r"%0?\d*d")


def find_images(source: Any) -> list[Path] | None:
    """List the picture files a source means, in order; None where it is not about pictures.

    A folder gives all its pictures (of one kind) by name, numbers compared as numbers; a pattern
    the files of that name by number; a glob its matches. Raises FileNotFoundError, ValueError.
    """
    if isinstance(source, list | tuple):
        files = [Path(item) for item in source]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"no such file: {file}")
        return files
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return [path] if path.suffix.lower() in IMAGE_SUFFIXES else None
    if _PATTERN.search(path.name):
        return _numbered(path)
    if any(mark in str(path) for mark in "*?["):
        files = sorted((Path(name) for name in glob.glob(str(path))), key=_natural)
        if not files:
            raise FileNotFoundError(f"no file matches {path}")
        return files
    return None


def _folder(folder: Path) -> list[Path]:
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file()]
    files = [f for f in files if not f.name.startswith(".")]
    if not files:
        raise FileNotFoundError(f"no pictures in the folder {folder}")
    kinds = sorted({f.suffix.lower() for f in files})
    if len(kinds) > 1:
        raise ValueError(
            f"source: the folder {folder} mixes {', '.join(kinds)}; name one kind with a glob, "
            f"such as {folder / ('*' + kinds[0])}"
        )
    return sorted(files, key=_natural)


def _numbered(path: Path) -> list[Path]:
    head, tail = _PATTERN.split(path.name, maxsplit=1)
    numbers = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail) + "$")
    found = {}
    if path.parent.is_dir():
        for file in path.parent.iterdir():
            match = numbers.match(file.name)
            if match and path.name % int(match[1]) == file.name:
                found[int(match[1])] = file
    if not found:
        raise FileNotFoundError(f"no file matches {path}")
    order = sorted(found)
    steps = {after - before for before, after in itertools.pairwise(order)}
    if len(steps) > 1:
        step = min(steps)
        gap = next(a for a, b in itertools.pairwise(order) if b - a != step)
        raise ValueError(
            f"source: the sequence {path} has a gap after number {gap}; name the files with a "
            "glob if that is meant"
        )
    return [found[number] for number in order]


def _natural(path: Path) -> list[tuple[int, Any]]:
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts] + [(0, path.name)]


class ImageReader(Reader):
    """Frames of picture files; the first one sets size, layout, depth and alpha for all."""

    def __init__(
        self,
        files: Sequence[Path],
        source: Any,
        frame_rate: Fraction | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        files = list(files)
        single = len(files) == 1
        if start is not None or end is not None:
            if frame_rate is None:
                raise ValueError(
                    "start, end: an image sequence needs frame_rate to be cut by seconds"
                )
            first, stop = cut_indices(start, end, frame_rate)
            files = files[first:stop]
            if not files:
                raise ValueError(f"start: no picture at or after {start} s")
        self._files = files
        frame = read_image(files[0])
        path = None if isinstance(source, list | tuple) else Path(source)
        template = Template(
            path=path,
            codec=files[0].suffix.lower().lstrip("."),
            frame_rate=frame_rate,
            names=[file.name for file in files],
        )
        super().__init__(frame.width, frame.height, frame.color, template)
        self._first: Frame | None = frame
        self.has_alpha = frame.alpha is not None
        self.inputs = [*self.inputs, *files]
        self.frame_count = len(files)
        self.frame_count_exact = True
        self.still = single and path is not None and path.is_file()
        if frame_rate:
            self.duration = float(len(files) / frame_rate)

    def __iter__(self) -> Iterator[Frame]:
        rate = self.frame_rate
        for index, file in enumerate(self._files):
            frame, self._first = (self._first, None) if index == 0 else (None, self._first)
            frame = self._fit(read_image(file) if frame is None else frame, file)
            frame.index = index
            frame.pts = index if rate else None
            frame.time_base = 1 / rate if rate else None
            frame.duration = 1 if rate else None
            frame.time = float(index / rate) if rate else float(index)
            yield frame

    def _fit(self, frame: Frame, file: Path) -> Frame:
        """Bring a picture to the first one's layout where that loses nothing."""
        want, have = self.color, frame.color
        if (frame.width, frame.height) != (self.width, self.height):
            raise MediaError(
                f"{file}: is {frame.width}x{frame.height}, the first picture of the sequence "
                f"{self.width}x{self.height}"
            )
        keys = ("layout", "depth", "subsampling", "full_range")
        if any(getattr(want, key) != getattr(have, key) for key in keys):
            if (have.layout, want.layout) == ("rgb", "gray") or have.depth > want.depth:
                raise MediaError(
                    f"{file}: is {have.describe()}, the first picture of the sequence "
                    f"{want.describe()}"
                )
            frame = convert(frame, want)
        if self.has_alpha and frame.alpha is None:
            full = 1 if want.depth == 32 else np.iinfo(want.dtype).max
            frame.alpha = np.full((self.height, self.width), full, want.dtype)
            frame.source = None
        elif frame.alpha is not None and not self.has_alpha:
            if frame.alpha.min() < (1 if want.depth == 32 else np.iinfo(frame.alpha.dtype).max):
                raise MediaError(f"{file}: has transparency, the first picture had none")
            frame.alpha, frame.source = None, None
        return frame


def read_image(path: str | os.PathLike) -> Frame:
    """Read one picture: RGB or grey at its own depth, turned upright where EXIF says so.

    YUV pictures (JPEG, WebP) become 8-bit RGB; EXR stays linear float32, values above 1 kept.
    Raises FileNotFoundError, MediaError.
    """
    av = require_av()
    data = Path(path).read_bytes()
    try:
        # From memory: FFmpeg would take a % in a file name for a pattern.
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.video:
                raise MediaError(f"{path}: no picture in it")
            picture = next(container.decode(video=0), None)
    except av.FFmpegError as error:
        raise MediaError(f"{path}: not a readable picture: {error.strerror}", frames=0) from error
    if picture is None or picture.is_corrupt:
        raise MediaError(f"{path}: the picture is damaged or cut off", frames=0)
    frame = frame_from_av(picture, image=True)
    if frame.color.layout == "yuv":
        tags = {
            "transfer_tag": frame.color.transfer_tag,
            "primaries_tag": frame.color.primaries_tag,
        }
        depth = 8 if frame.color.depth == 8 else 16
        rgb = ColorSpec("rgb", depth, matrix=frame.color.matrix, matrix_tag=0, range_tag=2, **tags)
        frame = convert(frame, rgb)
    if frame.color.depth == 32 and frame.color.transfer_tag == 2 and _is_exr(data):
        frame.color = replace(frame.color, transfer_tag=8)
    orientation = exif_orientation(data)
    if orientation > 1:
        alpha = None if frame.alpha is None else upright(frame.alpha, orientation)
        planes = tuple(upright(plane, orientation) for plane in frame.planes)
        frame = replace(frame, planes=planes, alpha=alpha, source=None)
    frame.pts = frame.duration = frame.time_base = None
    return frame


def _is_exr(data: bytes) -> bool:
    return data[:4] == b"\x76\x2f\x31\x01"

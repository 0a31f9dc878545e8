# SPDX-License-Identifier: Apache-2.0
"""Opening whatever a path or an object names, for reading and for writing."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .array_reader import ArrayReader
from .frame import ColorSpec
from .image_reader import IMAGE_SUFFIXES, ImageReader, find_images
from .image_writer import ImageWriter
from .reader import Reader, Template, rate_of
from .video_reader import VideoReader
from .video_writer import VideoWriter
from .writer import Writer, refuse_inputs


def open_reader(
    source: Any,
    *,
    start: float | None = None,
    end: float | None = None,
    frame_rate: Any = None,
    threads: int | None = None,
) -> Reader:
    """Open any source of frames.

    source: a video file; a picture; a sequence as a folder, a pattern ("frame_%05d.png"), a glob
    or a list of paths; arrays ([T,H,W,3], [H,W,3]) or tensors ([T,3,H,W], [3,H,W]), RGB, a 4th
    channel being alpha; a list, generator or iterator of single frames; a Reader (returned).
    start, end: seconds from the beginning; frames with start <= time < end are read and their
    time stamps then begin at 0. frame_rate: frames per second of a source that has none of its
    own; refused for video files. threads: of a video's decoder, each of which holds frames of its
    own; None means one a core, at most 8.

    Raises FileNotFoundError, MediaError (not readable, no video stream), ValueError, TypeError.
    """
    rate = rate_of(frame_rate)
    if start is not None and start < 0:
        raise ValueError(f"start: expected seconds >= 0, got {start}")
    if end is not None and end <= (start or 0):
        raise ValueError(f"end: expected more than start ({start or 0} s), got {end}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}")
    if isinstance(source, Reader):
        if any(given is not None for given in (start, end, rate, threads)):
            raise ValueError(
                "source: a Reader is already open; give start, end, frame_rate and threads there"
            )
        return source
    paths = (
        isinstance(source, list | tuple)
        and bool(source)
        and all(isinstance(item, str | os.PathLike) for item in source)
    )
    if isinstance(source, str | os.PathLike) or paths:
        files = find_images(source)
        if files is not None:
            return ImageReader(files, source, rate, start, end)
        if rate is not None:
            raise ValueError(
                "frame_rate: a video file carries its own; it is meant for pictures and arrays"
            )
        return VideoReader(Path(source), start, end, threads)
    return ArrayReader(source, rate, start, end)


def open_writer(
    path: str | os.PathLike,
    like: Reader | None = None,
    *,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pixel_format: str | None = None,
    options: dict[str, Any] | None = None,
    frame_rate: Any = None,
    width: int | None = None,
    height: int | None = None,
    color: ColorSpec | None = None,
    audio: bool = True,
    overwrite: bool = True,
    inputs: Iterable[Any] = (),
) -> Writer:
    """Open a file for writing frames.

    path: a video file (container by suffix), a picture (one frame), a pattern
    ("frame_%05d.png"), or a folder (with a trailing slash, or existing), which gets pictures
    named like ``like``'s or frame_00000.png. like: the source whose time stamps, tags, rotation,
    sound, subtitles, chapters and metadata are carried over. codec, crf, preset, pixel_format:
    encoder settings; by default H.264 with crf 18, preset medium, in the frames' own pixel
    format (H.265, ProRes, VP9 or FFV1 where that needs it). options: further options of the
    encoder. frame_rate: needed for frames without time stamps; for others it makes the rate
    constant. width, height, color: the frames to come, where there is no ``like``; if not given,
    the first frame tells. audio: copy sound. inputs: paths that must not be overwritten.

    Raises ValueError (path is an input, unknown codec, options not accepted),
    FileExistsError, FileNotFoundError, PermissionError.
    """
    text, rate = os.fspath(path), rate_of(frame_rate)
    template = like.template if like is not None else Template()
    taken = [Path(entry) for entry in inputs if isinstance(entry, str | os.PathLike)]
    taken += like.inputs if like is not None else []
    refuse_inputs(Path(text), taken)
    settings = {
        "codec": codec,
        "crf": crf,
        "preset": preset,
        "pixel_format": pixel_format,
        "options": dict(options or {}),
    }
    kind, suffix = _kind_of(text, template)
    if kind != "video":
        return _open_image_writer(Path(text), kind, suffix, template, settings, overwrite, taken)
    target = Path(text)
    if not overwrite and target.exists():
        raise FileExistsError(f"path: {target} exists already")
    partial = _make_partial(target, folder=False)
    writer = VideoWriter(target, partial, template, rate, settings, audio)
    if like is not None:
        width, height, color = width or like.width, height or like.height, color or like.color
    if width and height and color is not None:
        with writer._guard():
            writer.configure(width, height, color, bool(like and like.has_alpha))
    return writer


def _open_image_writer(
    target: Path,
    kind: str,
    suffix: str,
    template: Template,
    settings: dict[str, Any],
    overwrite: bool,
    taken: list[Path],
) -> Writer:
    given = [name for name in ("codec", "crf", "preset") if settings[name] is not None]
    if given:
        raise ValueError(f"{given[0]}: pictures take pixel_format and options only")
    pixel_format, options = settings["pixel_format"], settings["options"]
    partial = _make_partial(target, folder=True)
    return ImageWriter(
        target, partial, kind, suffix, template, pixel_format, options, overwrite, taken
    )


def _kind_of(text: str, template: Template) -> tuple[str, str]:
    """Tell "video", "image", "pattern" or "folder", and the suffix of the files to write."""
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        own = Path(template.names[0]).suffix.lower() if template.names else ".png"
        return "folder", own
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return ("pattern" if re.search(r"%0?\d*d", path.name) else "image"), suffix
    if not suffix:
        raise ValueError(f"path: {text!r} has no suffix to tell the format by, such as .mp4")
    return "video", suffix


def _make_partial(path: Path, folder: bool) -> Path:
    """Make the temporary file or folder beside the target, which proves that it can be written."""
    parent = path.parent
    if not parent.is_dir():
        raise FileNotFoundError(f"path: the folder {parent} does not exist")
    stem = path.stem.replace("%", "") or "clip"
    name = f".{stem}.partial-{secrets.token_hex(4)}"
    partial = parent / (name if folder else f"{name}{path.suffix}")
    try:
        if folder:
            partial.mkdir()
        else:
            partial.touch(exist_ok=False)
    except OSError as error:
        kind = PermissionError if isinstance(error, PermissionError) else OSError
        raise kind(f"path: cannot write in the folder {parent}: {error.strerror}") from error
    return partial

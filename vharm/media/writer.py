# SPDX-License-Identifier: Apache-2.0
"""Writers: a file appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import MediaError, require_av
from .frame import ColorSpec, Frame
from .image_reader import IMAGE_SUFFIXES
from .reader import Reader, Template, rate_of

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Writer:
    """Takes frames and makes a file (or files) of them; see ``open_writer``.

    Used in ``with``, it is closed at the end and aborted by any exception, Ctrl-C included.
    warnings: what could not be kept, one sentence each. frame_count: frames written so far.
    """

    def __init__(self, path: Path, partial: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.frame_count = 0
        self._partial = partial
        self._open = True
        # Also at interpreter exit: nothing half-written stays behind.
        self._cleanup = weakref.finalize(self, _remove, partial)

    def write(self, frame: Frame) -> None:
        """Encode one frame. Raises MediaError when it cannot be written; then all is removed."""
        if not self._open:
            raise ValueError(f"{self.path}: the writer is closed")
        with self._guard():
            self._write(frame)
        self.frame_count += 1

    def close(self) -> None:
        """Finish the file and give it its name. Raises MediaError if no frame was written."""
        if not self._open:
            return
        if self.frame_count == 0:
            self.abort()
            raise MediaError(f"{self.path}: no frame was written", frames=0)
        with self._guard():
            self._finish()
        self._open = False
        self._cleanup.detach()

    def abort(self) -> None:
        """Give up: remove what was written so far. What stood under the name before stays."""
        if self._open:
            self._open = False
            with contextlib.suppress(Exception):
                self._discard()
            self._cleanup()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Abort on any error; say what a full disk or a failing encoder means."""
        av = require_av()
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            self.abort()
            number = getattr(error, "errno", None)
            number = abs(number) if isinstance(number, int) else None
            why = "the disk is full" if number in _FULL_DISK else (error.strerror or str(error))
            raise MediaError(
                f"{self.path}: could not be written after {self.frame_count} frames: {why}",
                frames=self.frame_count,
            ) from error
        except BaseException:
            self.abort()
            raise

    def _write(self, frame: Frame) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def _discard(self) -> None:
        raise NotImplementedError


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
    from .video_writer import VideoWriter

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
    from .image_writer import ImageWriter

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


def refuse_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Raise ValueError where ``path`` is one of the inputs, under whatever name."""
    for other in inputs:
        same = os.path.realpath(path) == os.path.realpath(other)
        if same or (path.exists() and other.exists() and os.path.samefile(path, other)):
            raise ValueError(f"path: {path} is an input; it would be overwritten while it is read")


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


def _remove(partial: Path) -> None:
    with contextlib.suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)

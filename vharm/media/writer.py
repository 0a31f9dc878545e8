# SPDX-License-Identifier: Apache-2.0
"""Writers: a file appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import MediaError, require_av
from .frame import Frame

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Writer:
    """Takes frames and makes a file (or files) of them; see ``open_writer``.

    Used in ``with``, it is closed at the end and aborted by any exception, Ctrl-C included.
    warnings: what could not be kept, one sentence each. frame_count: frames written so far.
    copied_count: those of them that were copied as they came and not encoded again.
    """

    def __init__(self, path: Path, partial: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.frame_count = 0
        self.copied_count = 0
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


def refuse_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Raise ValueError where ``path`` is one of the inputs, under whatever name."""
    for other in inputs:
        same = os.path.realpath(path) == os.path.realpath(other)
        if same or (path.exists() and other.exists() and os.path.samefile(path, other)):
            raise ValueError(f"path: {path} is an input; it would be overwritten while it is read")


def _remove(partial: Path) -> None:
    with contextlib.suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)

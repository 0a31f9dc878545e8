# SPDX-License-Identifier: Apache-2.0
"""Errors of vharm.media and the lazy import of PyAV."""

from __future__ import annotations

import re
from functools import cache
from types import ModuleType

from .forks import leave_decoders_to_the_parent


class MediaError(RuntimeError):
    """A clip could not be read or written to its end.

    ``frames`` is how many frames were decoded or written before the fault, ``time`` how far into
    the clip (seconds) that was; both are None where they mean nothing.
    """

    def __init__(
        self, message: str, *, frames: int | None = None, time: float | None = None
    ) -> None:
        super().__init__(message)
        self.frames = frames
        self.time = time


_OLDEST_AV = (17, 1)


@cache
def require_av() -> ModuleType:
    """Return the ``av`` module, or raise an ImportError that says how to install it."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            'reading and writing media files needs PyAV: pip install "vharm[video]"'
        ) from error
    if av_version(av) < _OLDEST_AV:
        oldest = ".".join(map(str, _OLDEST_AV))
        raise ImportError(
            f'PyAV {oldest} or newer is needed, found {av.__version__}: pip install "vharm[video]"'
        )
    leave_decoders_to_the_parent()
    return av


def av_version(av: ModuleType) -> tuple[int, int]:
    """Return (major, minor) of PyAV."""
    major, minor = av.__version__.split(".")[:2]
    return int(major), int(re.match(r"\d+", minor)[0])

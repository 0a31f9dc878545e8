# SPDX-License-Identifier: Apache-2.0
"""How many threads of FFmpeg's decode and encode, beside each other and the rest of vharm."""

from __future__ import annotations

import os

MOST_DECODING = 8
"""Threads of a decoder, unless it was told otherwise: in 4K each one holds 50 MB of frames."""


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoder_threads() -> int:
    """How many threads a decoder gets: one a core, at most `MOST_DECODING`."""
    return min(cores(), MOST_DECODING)


def matte_threads() -> int:
    """How many threads decode a matte: a quarter of what its composite gets.

    Mattes are flat and soon decoded. Threads that wait for each other over them take time from
    those that have more to do.
    """
    return max(1, decoder_threads() // 4)


def x264_threads(height: int) -> int:
    """How many threads x264 gets: one a core, and as in its own choice for 32 rows at least.

    That choice is half as many again as there are cores, for machines that do nothing else. Beside
    decoding and harmonizing they made nothing faster on two cores (more were not at hand), and each
    holds frames: 75 MB of them in 4K.
    """
    return max(1, min(cores(), height // 32))

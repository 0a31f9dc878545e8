# SPDX-License-Identifier: Apache-2.0
"""How much of a machine's memory and cores a clip's way from file to file may take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from ..ops import _native

if TYPE_CHECKING:
    from ..methods import Method

HELD_BYTES = 256 << 20
"""How many bytes of frames may wait for what is estimated at once on a GPU."""

QUEUE_BYTES = 16 << 20
"""The same on the CPU, and for frames that a thread has ready before they are asked for."""

CPU_BATCH = 4
"""Frames in a batch on the CPU, which gains little by more: the memory between a network's layers
grows with it, and is fetched anew from the system for each batch once it is large."""

LARGE_FRAME = 8 << 20
"""From how many bytes on frames are worth giving back to the system; 4K has 12 MB."""


def frame_bytes(reader: Any) -> int:
    """The size of a frame, as far as the reader knows; else that of 1080p in 8 bits."""
    width, height = getattr(reader, "width", 0), getattr(reader, "height", 0)
    if not (width and height):
        return 1920 * 1080 * 3
    shapes = reader.color.plane_shapes(width, height)
    return sum(math.prod(shape) for shape in shapes) * reader.color.dtype.itemsize


def ahead(frame_bytes: int) -> int:
    """How many frames a thread may be ahead: 4, and fewer of large ones."""
    return max(1, min(4, QUEUE_BYTES // frame_bytes))


def batch_room(frame_bytes: int, device: torch.device) -> int:
    """How many frames may be estimated at once."""
    if device.type == "cpu":
        return max(1, min(CPU_BATCH, QUEUE_BYTES // frame_bytes))
    return max(1, HELD_BYTES // frame_bytes)


def kernel_threads(beside_others: bool) -> int:
    """How many threads a kernel may use.

    Where decoder and encoder work at the same time it leaves them half: one that waits for
    helpers, which wait for a core, is slower than one that goes alone.
    """
    threads = torch.get_num_threads()
    return max(1, threads // 2) if beside_others else threads


def rest_openmp() -> None:
    """Keeps torch's idle helpers from burning the cores that decoder and encoder need.

    GNU's OpenMP lets them wait for the next operation in a loop, for 10 ms and more after each
    one, as long as there are no more of them than cores, and next to none where there are more
    (`GOMP_SPINCOUNT` in its manual). So the caller's thread, which needs none, gets some too.
    """
    torch.zeros(1 << 17).add_(1)


def return_freed_frames(reader: Any, method: Method | None) -> bool:
    """Has the memory of large frames go back to the system as soon as they are freed.

    GNU's C library keeps what is freed for whoever asks next, apart for each thread; frames are
    made by one thread and freed by another, and of 4K ones it keeps 350 MiB. This is a setting of
    the whole process: for programs that do nothing else than to bring clips from file to file.

    Args:
        reader: of the composite.
        method: that is to estimate; None where Looks are given.

    Returns:
        Whether it was done: not for smaller frames, nor with methods that would take up to twice
        as long (`Method.runs_in_torch`), nor with another C library.
    """
    if frame_bytes(reader) < LARGE_FRAME or (method is not None and method.runs_in_torch):
        return False
    return _native.return_large_blocks(1 << 20)

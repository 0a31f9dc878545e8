# SPDX-License-Identifier: Apache-2.0
"""Fixed positions in space and time, for patches of frames of any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST_WAVE = 10000.0


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of places at wavelengths from 2 pi to `LONGEST_WAVE` times that.

    Args:
        places: [K] float, in patches (or frames); they need not be whole.
        width: channels, even.

    Returns:
        [K,width] float32.
    """
    half = width // 2
    steps = torch.arange(half, device=places.device, dtype=torch.float32)
    angles = places.float()[:, None] * torch.exp(steps * (-math.log(LONGEST_WAVE) / max(half, 1)))
    return torch.cat((angles.sin(), angles.cos()), 1)


def space_time(
    index: Tensor, size: tuple[int, int], width: int, *, frames_per_clip: int = 1, grid: int = 16
) -> Tensor:
    """What tells a token its place: a quarter of the channels for time, the others for the place.

    The longer side of any frame spans the grid the network was trained on, centred, and both sides
    have the same scale: frames of other sizes and shapes are read off the same waves in between,
    nothing is squashed. Time counts from the window's current frame, number (T - 1) // 2, so that
    a single frame is at 0 whatever the window's length.

    Args:
        index: [K] int64, frame * P + patch, as `ops.pack_patches` gives it.
        size: (rows, columns) of patches in a frame.
        width: channels, a multiple of 4, at least 8.
        frames_per_clip: T; frames are numbered through all clips.
        grid: patches along the side of the square trained on.

    Returns:
        [K,width] float32; channels that cannot be shared evenly are 0.

    Raises:
        ValueError: a width that is not such a multiple.
    """
    if width % 4 or width < 8:
        raise ValueError(f"width: expected a multiple of 4, at least 8, got {width}")
    rows, columns = size
    for_time = width // 4 // 2 * 2
    for_place = (width - for_time) // 4 * 2
    scale = grid / max(rows, columns)
    patch = index % (rows * columns)
    frame = index.div(rows * columns, rounding_mode="floor") % frames_per_clip
    # Centres: the middle patch of any frame is in the middle of the grid.
    row = (patch.div(columns, rounding_mode="floor") + 0.5 - rows / 2) * scale + (grid - 1) / 2
    column = (patch % columns + 0.5 - columns / 2) * scale + (grid - 1) / 2
    time = (frame - (frames_per_clip - 1) // 2).float()
    parts = [sinusoids(time, for_time), sinusoids(row, for_place), sinusoids(column, for_place)]
    left = width - for_time - 2 * for_place
    if left:
        parts.append(parts[0].new_zeros(len(index), left))
    return torch.cat(parts, 1)

# SPDX-License-Identifier: Apache-2.0
"""What results differ by: ours from the eager peer's, and interpolated Looks from estimates."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .cases import EAGER_METHOD, Clip

if TYPE_CHECKING:
    from ..media import Frame, Mask


@dataclass
class Agreement:
    """How near two results are, over the foreground of some frames, before encoding.

    Attributes:
        frames: how many were compared.
        colour: largest difference of the foreground's mean colour in any frame and channel, on
            a 0-255 scale.
        psnr: of all foreground samples, dB.
        moved: what the eager peer's result differs from the composite by, measured as `colour`:
            an agreement means little where nothing was changed.
    """

    frames: int
    colour: float
    psnr: float
    moved: float


def agreement(clip: Clip, frames: int = 8) -> Agreement:
    """Compares vharm's pictures with the eager peer's, in 8-bit RGB.

    They are not equal: the peer's go through 8-bit RGB with chroma interpolated, vharm's stay in
    their planes with chroma repeated; and the peer's thumbnails average whole pixels only.
    """
    from ..session import Session
    from .eager import EagerPeer

    given = _beginning(clip, frames)
    results = Session(EAGER_METHOD).frames(*map(list, zip(*given, strict=True)))
    peers = (picture for picture, _ in EagerPeer().pictures(clip, exact=True))
    colour = moved = squares = 0.0
    count = number = 0
    # The peer may have more frames than are compared.
    for result, (before, mask), peer in zip(results, given, peers, strict=False):
        inside = mask.unit() > 0.99
        if not inside.any():
            continue
        ours, theirs = _rgb(result)[inside], peer[inside].astype(np.float32)
        colour = max(colour, _shift(ours, theirs))
        moved = max(moved, _shift(_rgb(before)[inside], theirs))
        squares += float(((ours - theirs) ** 2).sum())
        count, number = count + ours.size, number + 1
    if not count:
        raise ValueError(f"mask: none of the first {frames} frames has a foreground to compare")
    psnr = 10 * np.log10(255**2 * count / squares) if squares else float("inf")
    return Agreement(number, colour, float(psnr), moved)


def _beginning(clip: Clip, frames: int) -> list[tuple[Frame, Mask]]:
    from ..session.pairs import pair_up

    reader, masks = clip.open()
    with reader, contextlib.closing(pair_up(reader, masks)) as pairs:
        return list(itertools.islice(pairs, frames))


def _shift(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.mean(0, dtype=np.float64) - other.mean(0, dtype=np.float64)).max())


def _rgb(frame: Any) -> np.ndarray:
    """[H,W,3] float32, 0 to 255."""
    from ..media import ColorSpec, convert

    return convert(frame, ColorSpec("rgb")).planes[0].astype(np.float32)


@dataclass
class Interpolation:
    """What interpolating Looks costs: samples of the planes inside the mask, in levels of 0-255.

    Attributes:
        every: a Look was estimated on every n-th frame.
        frames: how many were compared.
        mean: mean absolute difference from Looks estimated on every frame.
        largest: largest difference of any sample.
    """

    every: int
    frames: int
    mean: float
    largest: float


def interpolation(clip: Clip, method: str, every: int, frames: int = 25) -> Interpolation:
    """Compares Looks estimated on every frame with Looks estimated on every n-th."""
    from ..session import Session

    given = _beginning(clip, frames)
    pictures, masks = map(list, zip(*given, strict=True))
    fresh = Session(method).frames(pictures, masks)
    sparse = Session(method, estimate_every=every).frames(pictures, masks)
    total, count, largest = 0.0, 0, 0.0
    for one, other, mask in zip(fresh, sparse, masks, strict=True):
        inside = mask.unit() > 0
        scale = 255.0 / (1 if one.color.depth == 32 else (1 << one.color.depth) - 1)
        for a, b in zip(one.planes, other.planes, strict=True):
            difference = np.abs(a.astype(np.float32) - b) * scale
            rows, columns = (round(n / m) for n, m in zip(inside.shape, a.shape, strict=False))
            chosen = difference[inside[::rows, ::columns][: a.shape[0], : a.shape[1]]]
            total, count = total + float(chosen.sum(dtype=np.float64)), count + chosen.size
            largest = max(largest, float(difference.max()))
    return Interpolation(every, len(given), total / count if count else 0.0, largest)

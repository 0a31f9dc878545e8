# SPDX-License-Identifier: Apache-2.0
"""Filling holes smoothly: push-pull over a pyramid of weighted means."""

from __future__ import annotations

import numpy as np

from ._pictures import require_cv2


def fill_hole(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The picture with its hole filled by what surrounds it.

    Push-pull (Gortler et al., "The Lumigraph", SIGGRAPH 1996): the known pixels are averaged down
    a pyramid until every cell knows something; on the way back up, what is unknown at a level
    takes the coarser level's value. Linear in the number of pixels, smooth, without texture.

    Args:
        picture: uint8 [H,W,3].
        hole: bool [H,W], the pixels to fill.

    Returns:
        uint8 [H,W,3]; known pixels are unchanged. Where all is hole, mid grey.
    """
    cv2 = require_cv2()
    if not hole.any():
        return picture.copy()
    known = (~hole).astype(np.float32)
    levels = [(picture.astype(np.float32) * known[..., None], known)]
    while min(levels[-1][1].shape) > 1:
        values, weight = levels[-1]
        size = (-(-weight.shape[1] // 2), -(-weight.shape[0] // 2))
        levels.append((
            cv2.resize(values, size, interpolation=cv2.INTER_AREA),
            cv2.resize(weight, size, interpolation=cv2.INTER_AREA),
        ))  # fmt: skip
    values, weight = levels.pop()
    total = weight.sum()
    mean = values.sum(axis=(0, 1)) / total if total > 0 else np.float32([128, 128, 128])
    filled = np.broadcast_to(mean, values.shape).astype(np.float32)
    for values, weight in reversed(levels):
        size = (weight.shape[1], weight.shape[0])
        coarse = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR)
        # A cell that knows a part of itself trusts that part; the rest comes from above.
        trust = np.minimum(weight * 4, 1)[..., None]
        own = values / np.maximum(weight, 1e-6)[..., None]
        filled = coarse + trust * (own - coarse)
    return np.where(hole[..., None], np.clip(np.rint(filled), 0, 255), picture).astype(np.uint8)

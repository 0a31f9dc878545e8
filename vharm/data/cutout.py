# SPDX-License-Identifier: Apache-2.0
"""A picture taken apart: what lies behind its object, where that is, and what counts as pure."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ._pictures import require_cv2
from .inpaint import fill_hole

# A flow leads from one thing to the same thing where masks are this close to 0 or 1 on both sides.
PURE = 4 / 255
# The filled hole reaches this share of the longer side beyond the mask, so that no rim of the
# foreground stays behind.
GROW = 0.012


def centre(mask: Tensor) -> tuple[float, float]:
    """The centre of mass (x, y) of a mask uint8 [1,H,W]; the picture's middle where it is empty."""
    weight = mask[0].numpy().astype(np.float64)
    total = weight.sum()
    if total == 0:
        return (weight.shape[1] - 1) / 2, (weight.shape[0] - 1) / 2
    x = (weight.sum(axis=0) * np.arange(weight.shape[1])).sum() / total
    y = (weight.sum(axis=1) * np.arange(weight.shape[0])).sum() / total
    return float(x), float(y)


def plate(image: Tensor, mask: Tensor, grow: float = GROW) -> Tensor:
    """The picture without its object, the hole filled from around it.

    Args:
        image: uint8 [3,H,W].
        mask: uint8 [1,H,W]; whatever is above 0 is filled.
        grow: how far the hole reaches beyond the mask, as a share of the longer side.

    Returns:
        uint8 [3,H,W].
    """
    cv2 = require_cv2()
    hole = (mask[0].numpy() > 0).astype(np.uint8)
    reach = round(grow * max(hole.shape))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    hole = cv2.dilate(hole, disc).astype(bool)
    picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(fill_hole(picture, hole)).permute(2, 0, 1).contiguous()

# SPDX-License-Identifier: Apache-2.0
"""The foreground-normalised loss of networks that repaint a composite."""

from __future__ import annotations

from torch import Tensor

from .losses import compressed

LEAST_AREA = 1000 / 256**2
"""Share of the frame that a foreground counts as at least: the paper's 1000 pixels at 256x256."""


def foreground_normalised(
    output: Tensor, target: Tensor, mask: Tensor, compress: float = 0.0
) -> Tensor:
    """Squared error summed over the whole frame, by the foreground's size: one number.

    `sum((O - X)^2) / (3 max(sum M, 1000))` at 256x256, in the mean over the pictures; at other
    sizes the least area keeps its share of the frame.

    Args:
        output: [N,3,H,W], not composited.
        target: [N,3,H,W], in the same scale.
        mask: [N,1,H,W] in [0,1].
        compress: of each picture's error, see `compressed`.

    Source: Sofiiuk et al., Foreground-aware Semantic Representations for Image Harmonization,
    WACV 2021, section 3.3.
    """
    square = (output - target).square().sum((1, 2, 3))
    area = mask.sum((1, 2, 3)).clamp(min=LEAST_AREA * mask[0].numel())
    return compressed(square / (output.shape[1] * area), compress).mean()

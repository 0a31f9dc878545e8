# SPDX-License-Identifier: Apache-2.0
"""The masked nonlocal block of multi-scale harmonization.

Source: X. Chen, L. Fang, L. Ye, Q. Zhang, "Deep Video Harmonization by Improving Spatial-temporal
Consistency" (MIR 2024), section 3.2; the block after Liu et al., Non-Local Recurrent Network for
Image Restoration (NeurIPS 2018).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vharm.ops.attention import neighborhood_attention

WINDOW = 4


class NonlocalBlock(nn.Module):
    """Adds to each foreground position what its neighbourhood says about it.

    `out_i = x_i + sum_j softmax_j(theta(x)_i . phi(x)_j) g(x)_j` over the window around i, where
    any of the foreground falls into position i; other positions pass through. `g` starts at zero,
    and the block as the identity.

    Args:
        channels: m of the paper; the embeddings have half as many.
        window: q of the paper.
    """

    def __init__(self, channels: int, window: int = WINDOW) -> None:
        super().__init__()
        self.window = window
        self.theta = nn.Conv2d(channels, channels // 2, 1)
        self.phi = nn.Conv2d(channels, channels // 2, 1)
        self.g = nn.Conv2d(channels, channels, 1)
        self.start_as_identity()

    def start_as_identity(self) -> None:
        """Sets `g` to zero."""
        nn.init.zeros_(self.g.weight)
        nn.init.zeros_(self.g.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """The features [B,C,h,w] after the block.

        Args:
            features: of any resolution.
            mask: [B,1,H,W] in [0,1], averaged to the features' resolution.
        """
        inside = F.adaptive_avg_pool2d(mask.detach(), features.shape[-2:])
        added = neighborhood_attention(
            self.theta(features), self.phi(features), self.g(features), inside.to(features.dtype),
            window=self.window, scale=1.0,
        )  # fmt: skip
        return features + added

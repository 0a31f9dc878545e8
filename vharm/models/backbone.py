# SPDX-License-Identifier: Apache-2.0
"""A trained encoder that other networks look at, and leave as it is.

Source: K. Sofiiuk, P. Popenova, A. Konushin, "Foreground-aware Semantic Representations for Image
Harmonization" (WACV 2021), where the encoder is a segmentation network's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vharm.models.efficientnet import Encoder, EncoderConfig


class Backbone(Encoder):
    """An encoder that is only looked at: it has no gradient, and its normalisation stands still.

    Raises:
        ValueError: `config` has a head.
    """

    def __init__(self, config: EncoderConfig) -> None:
        if config.head:
            raise ValueError(f"backbone: expected an encoder without a head, got {config.head}")
        super().__init__(config)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Its levels, 1/2 of the resolution first."""
        return self.levels(image, mask)

    def lent(self, depth: int) -> list[int]:
        """Channels that join each of `depth` levels, the first being of full resolution."""
        found = [0, *self.level_channels]
        return [*found[: depth - 1], sum(found[depth - 1 :])]

    def of_patches(self, image: Tensor, mask: Tensor, patch: int) -> Tensor:
        """The levels' means over each patch of the image, [B,P,C], patches row by row."""
        height, width = image.shape[2:]
        grid = height // patch, width // patch
        found = [F.adaptive_avg_pool2d(level, grid) for level in self(image, mask)]
        return torch.cat(found, 1).flatten(2).transpose(1, 2)

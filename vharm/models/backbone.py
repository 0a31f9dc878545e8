# SPDX-License-Identifier: Apache-2.0
"""A trained encoder that other networks look at, and leave as it is; what it says of regions.

Source: K. Sofiiuk, P. Popenova, A. Konushin, "Foreground-aware Semantic Representations for Image
Harmonization" (WACV 2021), where the encoder is a segmentation network's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.efficientnet import Encoder, EncoderConfig
from vharm.models.regions import RegionColours, pool_regions


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


class RegionContext(nn.Module):
    """What a backbone's features and the colours of both regions say, to be added to every pixel.

    Convolutions see the background of a large foreground only from far away, if at all.

    Args:
        inputs: channels of the backbone's coarsest level.
        outputs: channels of the features it is added to.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.colours = RegionColours()
        said = 3 * inputs + self.colours.width
        self.layers = nn.Sequential(
            nn.LayerNorm(said), nn.Linear(said, outputs), nn.ReLU(), nn.Linear(outputs, outputs)
        )

    def start_silent(self) -> None:
        """Adds nothing until it has learned something."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """[B,inputs,h,w], image [B,3,H,W] and mask [B,1,H,W] in [0,1] to [B,outputs,1,1]."""
        pooled = pool_regions(features, mask)
        said = torch.cat((pooled, self.colours(image, mask).to(pooled.dtype)), 1)
        return self.layers(said)[:, :, None, None]

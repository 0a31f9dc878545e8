# SPDX-License-Identifier: Apache-2.0
"""The adversarial network of Huang et al. as a method; it can find the foreground itself."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from . import shipped
from .pixel import PixelMethod


class HuangMethod(PixelMethod):
    """A generator trained against a pixel-wise discriminator, with a regional temporal loss.

    Where the weights hold the discriminator too, its map can take the place of a missing mask.

    Args:
        weights: a vharm `.safetensors` file; None takes the weights that come with vharm.
        device: where the networks run.
        look: "lut" or "residual", see `PixelMethod`.

    Attributes:
        predicts_masks: whether the weights hold the discriminator.

    Raises:
        ValueError: another `look`.
        vharm.models.weights.WeightsError: no weights, or a file that cannot be used.
    """

    name = "huang"
    summary = "an adversarial network, steady over time, that can do without a mask"
    when_to_use = "when there is no mask: it finds what was pasted in, and harmonizes that."
    source = (
        "Huang et al., Temporally Coherent Video Harmonization Using Adversarial Networks, IEEE "
        "TIP 29, 2020"
    )
    weights_licence = "CC BY-NC 4.0"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "cpu",
        look: str = "lut",
    ) -> None:
        from vharm.models.huang import Huang

        super().__init__(look=look)
        weights = shipped.chosen(self.name, weights)
        networks = Huang.from_weights(weights).to(device).eval()
        self.networks = networks.to(memory_format=torch.channels_last)
        self.device = torch.device(device)
        self.predicts_masks = networks.discriminator is not None

    @classmethod
    def why_not(cls) -> str | None:
        return shipped.why_missing(cls.name)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The square the networks were trained at, whatever the aspect."""
        super().working_size(height, width)
        return (self.networks.input_size,) * 2

    def render(self, frames: Tensor, masks: Tensor) -> Tensor:
        painted = self.networks.generator((frames * 2 - 1).to(self.device), masks.to(self.device))
        return (painted + 1) / 2

    @torch.no_grad()
    def predict_masks(self, frames: Tensor) -> Tensor:
        discriminator = self.networks.discriminator
        if discriminator is None:
            return super().predict_masks(frames)
        return discriminator((frames.float() * 2 - 1).to(self.device)).float().clamp(0, 1)

# SPDX-License-Identifier: Apache-2.0
"""iS2AM as a method: each frame is repainted by itself, and its change becomes a Look."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from . import shipped
from .pixel import PixelMethod


def square_or_multiple(side: int | None, multiple: int, own: tuple[int, int]) -> tuple[int, int]:
    """The size a network works at.

    Args:
        side: of the square it was trained at, or None.
        multiple: of what sides must be.
        own: the size to come close to where there is no square.
    """
    if side is not None:
        return side, side
    height, width = (max(multiple, length // multiple * multiple) for length in own)
    return height, width


class IssamMethod(PixelMethod):
    """iS2AM, frame by frame: the base of Chen et al. and of CO2Net.

    Args:
        weights: a vharm `.safetensors` file; None takes the weights that come with vharm.
        device: where the network runs.
        look: "lut" or "residual", see `PixelMethod`.

    Raises:
        vharm.models.weights.WeightsError: no weights, or a file that cannot be used.
        ValueError: another `look`.
    """

    name = "issam"
    summary = "a U-Net that repaints each frame's foreground by itself"
    when_to_use = (
        "for changes that differ from place to place (look=residual): it works frame by frame, so "
        "smooth its Looks over time; its weights are for non-commercial use."
    )
    source = (
        "Sofiiuk et al., Foreground-aware Semantic Representations for Image Harmonization, "
        "WACV 2021"
    )
    weights_licence = "CC BY-NC 4.0"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "cpu",
        look: str = "lut",
    ) -> None:
        from vharm.models.issam import Issam

        super().__init__(look=look)
        self.network = Issam.from_weights(shipped.chosen(self.name, weights)).to(device)
        self.device = torch.device(device)

    @classmethod
    def why_not(cls) -> str | None:
        return shipped.why_missing(cls.name)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The network's own square whatever the aspect, as it was trained."""
        network = self.network
        own = super().working_size(height, width)
        return square_or_multiple(network.input_size, network.multiple, own)

    def render(self, frames: Tensor, masks: Tensor) -> Tensor:
        painted = self.network.paint_each(frames.to(self.device), masks.to(self.device))
        return self.network.denormalise(painted.normalised).clamp(0, 1)

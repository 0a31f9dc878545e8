# SPDX-License-Identifier: Apache-2.0
"""iS2AM as a method: each frame is repainted by itself, and its change becomes a Look."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from .pixel import PixelMethod

SHIPPED = Path(__file__).parent.parent / "weights" / "issam.safetensors"


def no_weights(name: str) -> str:
    """What to say where a network's weights are not there."""
    return (
        f"{name}: this installation comes without trained weights; give a file with `--weights "
        f"FILE` or `weights=` (`vharm train {name}` makes one), or use a method that needs none: "
        "mkl, reinhard or histogram"
    )


def found_weights(name: str, given: str | os.PathLike[str] | None, shipped: Path) -> Path:
    """The file given, or the one that comes with vharm.

    Raises:
        vharm.models.weights.WeightsError: neither is there.
    """
    from vharm.models.weights import WeightsError

    if given is not None:
        return Path(given)
    if not shipped.is_file():
        raise WeightsError(no_weights(name))
    return shipped


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
        "when you have trained weights and want what no set of filters can do; it works frame by "
        "frame, so smooth its Looks over time."
    )
    source = (
        "Sofiiuk et al., Foreground-aware Semantic Representations for Image Harmonization, "
        "WACV 2021"
    )

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "cpu",
        look: str = "lut",
    ) -> None:
        from vharm.models.issam import Issam

        super().__init__(look=look)
        self.network = Issam.from_weights(found_weights(self.name, weights, SHIPPED)).to(device)
        self.device = torch.device(device)

    @classmethod
    def why_not(cls) -> str | None:
        return None if SHIPPED.is_file() else no_weights(cls.name)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The network's own square whatever the aspect, as it was trained."""
        network = self.network
        own = super().working_size(height, width)
        return square_or_multiple(network.input_size, network.multiple, own)

    @torch.no_grad()
    def render(self, frames: Tensor, masks: Tensor) -> Tensor:
        return self.network(frames.to(self.device), masks.to(self.device)).clamp(0, 1)

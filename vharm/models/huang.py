# SPDX-License-Identifier: Apache-2.0
"""Generator and pixel-wise disharmony discriminator of Huang et al.

Source: H.-Z. Huang, S.-Z. Xu, J.-X. Cai, W. Liu, S.-M. Hu, "Temporally Coherent Video
Harmonization Using Adversarial Networks" (IEEE TIP 29, 2020), section III.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vharm.models.efficientnet import EncoderConfig
from vharm.models.encoded_unet import EncodedUNet
from vharm.models.network import Network
from vharm.models.unet import UNet

INPUT_SIZE = 256
# Colours this close to black or white are taken inwards before tanh is undone.
REACH = 0.995


class Generator(nn.Module):
    """Paints the harmonized frame: a U-Net of composite and mask, ended by tanh.

    Args:
        residual: whether the U-Net's output is added to the composite (before tanh), so that
            training starts at "unchanged". False in the paper: there the network learns to copy.
        sizes: of the `UNet`: width, widest, depth, input_skip, norm; or encoder, the settings of
            an `EncodedUNet`'s.
    """

    def __init__(self, *, residual: bool = False, **sizes: Any) -> None:
        super().__init__()
        self.residual = bool(residual)
        self.unet = _network(True, 3, sizes)
        if self.residual:
            # A small start, not zero: the gradient then reaches every layer.
            self.unet.last.weight.data.mul_(0.1)

    def forward(self, composite: Tensor, mask: Tensor) -> Tensor:
        """[B,3,H,W] in [-1,1] and [B,1,H,W] in [0,1] to [B,3,H,W] in [-1,1], not composited."""
        expected = [composite.shape[0], 1, *composite.shape[2:]]
        if list(mask.shape) != expected:
            raise ValueError(f"mask: expected {expected} to match composite, got "
                             f"{list(mask.shape)}")  # fmt: skip
        painted = self.unet(torch.cat((composite, mask.to(composite.dtype)), 1))
        if self.residual:
            painted = painted + torch.atanh(composite.clamp(-1, 1) * REACH)
        return torch.tanh(painted)

    def settings(self) -> dict[str, Any]:
        """What rebuilds it."""
        return {"residual": self.residual, **self.unet.settings()}


class Discriminator(nn.Module):
    """Tells disharmonious pixels: a U-Net of the picture alone, linear at its end.

    Args:
        sizes: as of the `Generator`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.unet = _network(False, 1, sizes)

    def forward(self, image: Tensor) -> Tensor:
        """[B,3,H,W] in [-1,1] to [B,1,H,W]: towards 0 harmonious, towards 1 disharmonious."""
        return self.unet(image)

    def settings(self) -> dict[str, Any]:
        """What rebuilds it."""
        return self.unet.settings()


class Huang(Network):
    """Both networks, as a weight file holds them.

    Args:
        generator: settings of a `Generator`.
        discriminator: settings of a `Discriminator`; None for a generator trained without one,
            which cannot predict masks.
        input_size: side of the square both were trained at.
    """

    architecture = "huang"

    def __init__(
        self, generator: dict[str, Any] | None = None,
        discriminator: dict[str, Any] | None = None, *, input_size: int = INPUT_SIZE,
    ) -> None:  # fmt: skip
        super().__init__()
        if input_size < 1:
            raise ValueError(f"input_size: expected a positive size, got {input_size}")
        self.input_size = input_size
        self.generator = Generator(**(generator or {}))
        self.discriminator = None if discriminator is None else Discriminator(**discriminator)

    @classmethod
    def of(
        cls, generator: Generator, discriminator: Discriminator | None, input_size: int
    ) -> Huang:
        """Networks that exist already, put together."""
        whole = cls.__new__(cls)
        nn.Module.__init__(whole)
        whole.input_size = input_size
        whole.generator, whole.discriminator = generator, discriminator
        return whole

    def settings(self) -> dict[str, Any]:
        """What a weight file must say about the networks to rebuild them."""
        discriminator = self.discriminator
        return {
            "generator": self.generator.settings(),
            "discriminator": None if discriminator is None else discriminator.settings(),
            "input_size": self.input_size,
        }


def _network(masked: bool, outputs: int, sizes: dict[str, Any]) -> UNet | EncodedUNet:
    encoder = sizes.get("encoder")
    if encoder is None:
        return UNet(3 + masked, outputs, **sizes)
    if len(sizes) > 1:
        extra = ", ".join(name for name in sizes if name != "encoder")
        raise TypeError(f"{extra}: not with an encoder, which has sizes of its own")
    return EncodedUNet(masked, outputs, EncoderConfig.from_dict(encoder))

# SPDX-License-Identifier: Apache-2.0
"""A U-Net around a classifier's encoder, for trainings too short to learn to see.

Not in any of the papers: a `UNet` that starts from nothing needs far more steps than a laptop does
to learn what belongs together. This one has the same shape (concatenating skips, a picture in, one
of the same size out), and its way down is an `Encoder` that can start from trained weights.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.efficientnet import Encoder, EncoderConfig, load_imagenet_backbone
from vharm.models.harmonizer import Harmonizer
from vharm.models.regions import RegionColours, pool_regions
from vharm.models.unet import check_input
from vharm.models.weights import CHECKPOINT_SUFFIXES, WeightsError, load_weights, stored_state

DECODER = (96, 48, 32, 24)
"""Channels of the way up, from the innermost level outwards."""
PIXEL_WIDTH = 32


def shallow_encoder(**changes: Any) -> EncoderConfig:
    """EfficientNet-Lite0 down to 1/16 of the resolution, without its wide last stages."""
    stages = EncoderConfig().stages[:5]
    return EncoderConfig.lite(**{"stages": stages, "head": 0, "drop_connect": 0.0, **changes})


class Rise(nn.Module):
    """To the size of a skip: bilinear, joined with it, a 3x3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs + skip, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=False)
        return F.relu(self.norm(self.conv(torch.cat((x, skip), 1))))


class EncodedUNet(nn.Module):
    """Picture, with or without a mask, to a picture of the same size, linear at its end.

    What the whole picture says (features pooled over it and, with a mask, over both regions, and
    then the regions' colours too) is added to every pixel of the innermost level. The last two
    layers work on single pixels and see the input itself.

    Args:
        masked: whether the input has a fourth channel, the mask.
        outputs: channels out.
        config: of the encoder, which must have no head.

    Raises:
        ValueError: `config` has a head.
    """

    def __init__(self, masked: bool, outputs: int, config: EncoderConfig | None = None) -> None:
        super().__init__()
        config = shallow_encoder() if config is None else config
        if config.head:
            raise ValueError(f"config: expected an encoder without a head, got {config.head}")
        self.inputs, self.outputs, self.masked = 3 + masked, outputs, masked
        self.encoder = Encoder(config)
        levels = self.encoder.level_channels
        inner = levels[-1]
        self.colours = RegionColours() if masked else None
        said = 3 * inner + self.colours.width if self.colours is not None else inner
        self.context = nn.Sequential(nn.Linear(said, inner), nn.ReLU(), nn.Linear(inner, inner))
        widths = DECODER[: len(levels)]
        before = (inner, *widths)
        skips = (*reversed(levels[:-1]), self.inputs)
        self.up = nn.ModuleList(
            Rise(below, skip, width)
            for below, skip, width in zip(before, skips, widths, strict=False)
        )
        self.pixel = nn.Conv2d(widths[len(skips) - 1] + self.inputs, PIXEL_WIDTH, 1)
        self.last = nn.Conv2d(PIXEL_WIDTH, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B,3 or 4,H,W], the picture in [-1,1] and the mask in [0,1], to [B,outputs,H,W].

        Raises:
            TypeError, ValueError: another dtype or shape.
        """
        check_input(x, self.inputs)
        image = (x[:, :3] + 1) / 2
        mask = x[:, 3:] if self.masked else torch.zeros_like(image[:, :1])
        *skips, y = self.encoder.levels(image, mask)
        if self.colours is None:
            said = y.mean((2, 3))
        else:
            said = torch.cat((pool_regions(y, mask), self.colours(image, mask).to(y.dtype)), 1)
        y = y + self.context(said)[:, :, None, None]
        for up, skip in zip(self.up, (*reversed(skips), x), strict=True):
            y = up(y, skip)
        return self.last(F.relu(self.pixel(torch.cat((y, x), 1))))

    def settings(self) -> dict[str, Any]:
        """What a weight file must say to rebuild the network, as plain JSON values."""
        return {"encoder": self.encoder.config.to_dict()}


def start_encoder(path: str | PathLike[str], encoder: Encoder) -> None:
    """Fills an encoder from a Harmonizer's, or from an ImageNet classifier of the same kind.

    Blocks and a head that `encoder` does not have are left out.

    Args:
        path: a vharm weight file of a Harmonizer, or an EfficientNet-PyTorch checkpoint.

    Raises:
        WeightsError: the file cannot be used, or its network is another one.
    """
    if str(path).lower().endswith(CHECKPOINT_SUFFIXES):
        whole = Encoder(EncoderConfig() if encoder.config.squeeze else EncoderConfig.lite())
        load_imagenet_backbone(path, whole)
        theirs = whole.state_dict()
    else:
        weights = load_weights(path, architecture=Harmonizer.architecture)
        wanted = encoder.config
        found = EncoderConfig.from_dict(weights.config.get("encoder", {}))
        if (found.squeeze, found.activation) != (wanted.squeeze, wanted.activation):
            raise WeightsError(
                f"{path}: its encoder is of another kind: expected squeeze {wanted.squeeze} and "
                f"{wanted.activation}, found {found.squeeze} and {found.activation}"
            )
        theirs = {name.removeprefix("encoder."): tensor for name, tensor in weights.tensors.items()
                  if name.startswith("encoder.")}  # fmt: skip
    own = stored_state(encoder)
    for name, tensor in own.items():
        if name not in theirs or theirs[name].shape != tensor.shape:
            raise WeightsError(f"{path}: its encoder is of another size, see {name}")
    encoder.load_state_dict({name: theirs[name] for name in own}, strict=False)

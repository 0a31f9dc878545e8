# SPDX-License-Identifier: Apache-2.0
"""iS2AM: a small U-Net with spatial-separated attention that repaints a composite.

Source: K. Sofiiuk, P. Popenova, A. Konushin, "Foreground-aware Semantic Representations for Image
Harmonization" (WACV 2021); the attention after X. Cun, C.-M. Pun, "Improving the Harmony of the
Composite Image by Spatial-Separated Attention Module" (TIP 2020). With nonlocal blocks it is the
multi-scale harmonization of Chen et al. (MIR 2024), section 3.2.

Shapes use B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.backbone import Backbone, RegionContext
from vharm.models.efficientnet import EncoderConfig
from vharm.models.network import Network
from vharm.models.nonlocal_block import WINDOW, NonlocalBlock

INPUT_SIZE = 256
WIDTH, DEPTH = 32, 4
NORM_FROM = 2
"""Levels of the encoder, counted from 0, that are normalised begin here."""

BLUR_SIZE, BLUR_SIGMA = 7, 1.0
HEAD_GAIN = 3.0

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Painted:
    """What the network makes of composites.

    Attributes:
        normalised: [B,3,H,W], the picture in ImageNet's normalisation, not composited, not clamped.
        features: [B,width,H,W], what it was read from.
    """

    normalised: Tensor
    features: Tensor


class Issam(Network):
    """Paints a composite's foreground anew, to fit its background.

    The default configuration is the published one, with 2,185,340 parameters.

    Args:
        width: channels of the finest level; each coarser level has twice as many.
        depth: levels.
        nonlocal_levels: decoder levels, 0 the coarsest, that have a nonlocal block after their
            up-sampling; none in iS2AM itself.
        window: of the nonlocal blocks.
        backbone: settings of an `EncoderConfig` without a head, None for no backbone. Its features
            join those of the encoder's levels of the same resolution, the coarser ones the last
            level's. It stays as it was trained elsewhere (the WACV paper's use of a backbone).
            With it, what it says of both regions, and their colours, is added to every pixel of
            the coarsest level (not the paper's, see `vharm.models.backbone.RegionContext`).
        input_size: side of the square the network is trained at and used at, or None for any
            size; kept for whoever prepares its input.

    Raises:
        ValueError: a setting out of its range.
    """

    architecture = "issam"

    def __init__(
        self, width: int = WIDTH, depth: int = DEPTH, *, nonlocal_levels: Sequence[int] = (),
        window: int = WINDOW, backbone: dict[str, Any] | None = None,
        input_size: int | None = INPUT_SIZE,
    ) -> None:  # fmt: skip
        super().__init__()
        levels = tuple(nonlocal_levels)
        _positive("width", width)
        _positive("window", window)
        if not isinstance(depth, int) or not 2 <= depth <= 8:
            raise ValueError(f"depth: expected 2 to 8 levels, got {depth!r}")
        if any(level not in range(depth - 1) for level in levels):
            raise ValueError(
                f"nonlocal_levels: expected numbers from 0 to {depth - 2}, got {list(levels)}"
            )
        self.width, self.depth, self.window = width, depth, window
        self.nonlocal_levels = tuple(sorted(set(levels)))
        self.input_size = input_size
        if input_size is not None and (input_size < 1 or input_size % self.multiple):
            raise ValueError(
                f"input_size: expected a multiple of {self.multiple} or None, got {input_size}"
            )
        channels = [width << level for level in range(depth)]
        self.backbone = None if backbone is None else Backbone(EncoderConfig.from_dict(backbone))
        self.context = None
        if self.backbone is not None:
            self.context = RegionContext(self.backbone.channels, channels[-1])
        lent = [0] * depth if self.backbone is None else self.backbone.lent(depth)
        inputs = [i + more for i, more in zip((4, *channels[:-1]), lent, strict=True)]
        self.encoder = nn.ModuleList(
            double_conv(i, o, norm=level >= NORM_FROM)
            for level, (i, o) in enumerate(zip(inputs, channels, strict=True))
        )
        self.decoder = nn.ModuleList(
            UpBlock(
                channels[-1 - level], channels[-2 - level], attention=level == depth - 2,
                window=window if level in self.nonlocal_levels else None,
            )
            for level in range(depth - 1)
        )  # fmt: skip
        self.blend = nn.Conv2d(width, 1, 1)
        self.colour = nn.Conv2d(width, 3, 1)
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        initialise(self)
        if self.context is not None:
            self.context.start_silent()

    @property
    def multiple(self) -> int:
        """What height and width must be multiples of."""
        return 1 << (self.depth - 1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Repaint, [B,3,H,W] in the scale of `image`, neither composited nor clamped.

        Args:
            image: [B,3,H,W] composite, RGB in [0,1], floating point.
            mask: [B,1,H,W] foreground in [0,1], floating point.

        Raises:
            TypeError: `image` or `mask` is not a floating-point tensor.
            ValueError: their shapes are not those above, or a side is no multiple of `multiple`.
        """
        return self.denormalise(self.paint(image, mask).normalised)

    def paint(self, image: Tensor, mask: Tensor) -> Painted:
        """As `forward`, with the features and before the normalisation is taken back."""
        check_pair(image, mask, self.multiple)
        mask = mask.to(image.dtype)
        normalised = self.normalise(image)
        features = torch.cat((normalised, mask), 1)
        lent = () if self.backbone is None else self.backbone(image, mask)
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            features = F.max_pool2d(features, 2) if level else features
            if lent and level:
                features = torch.cat((features, *_lent(lent, level, self.depth, features)), 1)
            features = block(features)
            skips.append(features)
        skips.pop()
        if self.context is not None:
            features = features + self.context(lent[-1], image, mask)
        for block in self.decoder:
            features = block(features, skips.pop(), mask)
        keep = torch.sigmoid(HEAD_GAIN * self.blend(features))
        return Painted(keep * normalised + (1 - keep) * self.colour(features), features)

    @torch.no_grad()
    def paint_each(self, image: Tensor, mask: Tensor) -> Painted:
        """As `paint`, where nothing is to be learned: on the CPU one picture after the other.

        There a batch gains nothing, and what lies between its layers outgrows the caches and what
        the C library keeps: at 256 pixels eight at a time took 1.7 times as long on two cores.
        """
        if image.device.type != "cpu":
            return self.paint(image, mask)
        made = [self.paint(*one) for one in zip(image.split(1), mask.split(1), strict=True)]
        parts = zip(*((one.normalised, one.features) for one in made), strict=True)
        return Painted(*(torch.cat(part) for part in parts))

    def normalise(self, image: Tensor) -> Tensor:
        """RGB in [0,1] to ImageNet's normalisation."""
        return (image - self.mean) / self.deviation

    def denormalise(self, normalised: Tensor) -> Tensor:
        """The way back."""
        return normalised * self.deviation + self.mean

    def settings(self) -> dict[str, Any]:
        return {
            "width": self.width,
            "depth": self.depth,
            "nonlocal_levels": list(self.nonlocal_levels),
            "window": self.window,
            "backbone": None if self.backbone is None else self.backbone.config.to_dict(),
            "input_size": self.input_size,
        }


def _lent(lent: list[Tensor], level: int, depth: int, features: Tensor) -> list[Tensor]:
    """Those of a backbone's features that join a level, at its size."""
    found = lent[level - 1 : level] if level < depth - 1 else lent[level - 1 :]
    size = features.shape[2:]
    return [
        one if one.shape[2:] == size
        else F.interpolate(one, size, mode="bilinear", align_corners=False)
        for one in found
    ]  # fmt: skip


class UpBlock(nn.Module):
    """One scale level of the decoder: up-sampling, a nonlocal block, three 3x3 convolutions.

    Args:
        inputs: channels that come from the coarser level.
        outputs: channels of the encoder's features at this level, and of the result.
        attention: whether the joined features pass spatial-separated attention.
        window: of the nonlocal block, None for no block.
    """

    def __init__(self, inputs: int, outputs: int, *, attention: bool, window: int | None) -> None:
        super().__init__()
        self.similar = None if window is None else NonlocalBlock(inputs, window)
        self.reduce = conv(inputs, outputs, norm=False)
        self.attention = SpatialAttention(2 * outputs) if attention else None
        self.convs = double_conv(2 * outputs, outputs, norm=True)

    def forward(self, features: Tensor, skip: Tensor, mask: Tensor) -> Tensor:
        """[B,inputs,h,w] and [B,outputs,2h,2w] to [B,outputs,2h,2w]."""
        features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
        if self.similar is not None:
            features = self.similar(features, mask)
        features = torch.cat((skip, self.reduce(features)), 1)
        if self.attention is not None:
            features = self.attention(features, mask)
        return self.convs(features)


class ChannelGate(nn.Module):
    """Scales channels by what their means and maxima over the frame say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(channels // 16, 8)
        self.gate = nn.Sequential(
            nn.Linear(2 * channels, middle), nn.ReLU(), nn.Linear(middle, channels), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        pooled = torch.cat((features.mean((2, 3)), features.amax((2, 3))), 1)
        return features * self.gate(pooled)[..., None, None]


class SpatialAttention(nn.Module):
    """Spatial-separated attention: foreground and background are treated apart, then joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.background = ChannelGate(channels)
        self.foreground = ChannelGate(channels)
        self.mix = ChannelGate(channels)
        middle = channels // 2
        self.learning = nn.Sequential(
            conv(channels, middle, norm=True, bias=False),
            conv(middle, channels, norm=True, bias=False),
        )
        axis = torch.arange(BLUR_SIZE) - BLUR_SIZE // 2
        line = torch.exp(-(axis**2) / (2 * BLUR_SIGMA**2))
        kernel = (line[:, None] * line)[None, None]
        self.register_buffer("blur", kernel / kernel.sum(), persistent=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[B,C,h,w], by the mask [B,1,H,W] brought to that size and blurred (zero outside)."""
        size = features.shape[-2:]
        if mask.shape[-2:] != size:
            mask = F.interpolate(mask, size, mode="bilinear", align_corners=True)
        soft = F.conv2d(mask, self.blur, padding=BLUR_SIZE // 2)
        front = self.learning(self.foreground(features)) + self.mix(features)
        return soft * front + (1 - soft) * self.background(features)


def conv(inputs: int, outputs: int, *, norm: bool, bias: bool = True) -> nn.Sequential:
    """A 3x3 convolution, batch normalisation where wanted, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def double_conv(inputs: int, outputs: int, *, norm: bool) -> nn.Sequential:
    """Two of them."""
    return nn.Sequential(conv(inputs, outputs, norm=norm), conv(outputs, outputs, norm=norm))


def initialise(module: nn.Module) -> None:
    """Gaussian Xavier weights of magnitude 1, zero biases; nonlocal blocks as the identity."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, NonlocalBlock):
            part.start_as_identity()


def check_pair(image: object, mask: object, multiple: int = 1) -> None:
    """Raises TypeError or ValueError unless both are what `Issam.forward` takes."""
    for name, value, channels in (("image", image, 3), ("mask", mask, 1)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point tensor, got {value.dtype}")
        if value.ndim != 4 or value.shape[1] != channels:
            raise ValueError(f"{name}: expected [B,{channels},H,W], got {list(value.shape)}")
    assert isinstance(image, Tensor)
    assert isinstance(mask, Tensor)
    expected = [image.shape[0], 1, *image.shape[2:]]
    if list(mask.shape) != expected:
        raise ValueError(f"mask: expected {expected} to match image, got {list(mask.shape)}")
    height, width = image.shape[2:]
    if height % multiple or width % multiple or not height or not width:
        raise ValueError(
            f"image: expected height and width in multiples of {multiple}, got {height}x{width}"
        )


def _positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected 1 or more, got {value}")

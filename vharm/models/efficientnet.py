# SPDX-License-Identifier: Apache-2.0
"""EfficientNet encoder with a two-branch stem for a composite and its mask.

Source: M. Tan, Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(ICML 2019), table 1 and section 3.3. The stem, one half looking at the foreground and one at the
background, is that of Z. Ke et al., "Harmonizer" (ECCV 2022).

Shapes use B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.weights import WeightsError, load_weights

# As in the network the published weights were trained with; torch's own defaults differ.
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

# EfficientNet-Lite removes these instead, at full scale 127 and 128.
LITE_MEAN = (127 / 255,) * 3
LITE_DEVIATION = (128 / 255,) * 3

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu6": nn.ReLU6}
SQUEEZE_RATIO = 4
CHANNEL_MULTIPLE = 8


@dataclass(frozen=True)
class Stage:
    """A run of equal MBConv blocks; only the first one changes the resolution.

    Attributes:
        expansion: width inside a block as a multiple of its input, 1 for no expanding convolution.
        kernel: size of the depthwise kernel, odd.
        stride: stride of the first block, 1 or 2.
        channels: output channels before `EncoderConfig.width`.
        repeats: number of blocks before `EncoderConfig.depth`.
    """

    expansion: int
    kernel: int
    stride: int
    channels: int
    repeats: int

    def __post_init__(self) -> None:
        for name in ("expansion", "kernel", "stride", "channels", "repeats"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}: expected int, got {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd size, got {self.kernel}")
        if self.stride > 2:
            raise ValueError(f"stride: expected 1 or 2, got {self.stride}")


B0_STAGES = (
    Stage(expansion=1, kernel=3, stride=1, channels=16, repeats=1),
    Stage(expansion=6, kernel=3, stride=2, channels=24, repeats=2),
    Stage(expansion=6, kernel=5, stride=2, channels=40, repeats=2),
    Stage(expansion=6, kernel=3, stride=2, channels=80, repeats=3),
    Stage(expansion=6, kernel=5, stride=1, channels=112, repeats=3),
    Stage(expansion=6, kernel=5, stride=2, channels=192, repeats=4),
    Stage(expansion=6, kernel=3, stride=1, channels=320, repeats=1),
)


@dataclass(frozen=True)
class EncoderConfig:
    """Size of an encoder; the defaults are EfficientNet-B0.

    Attributes:
        stages: the table of block stages.
        width: multiplier of every channel count, rounded to multiples of 8.
        depth: multiplier of every stage's repeats, rounded up.
        stem: channels after the stem, half of them from each branch.
        head: channels of the encoder's output; 0 for no head, the output is the last block's.
        drop_connect: rate at which the last block's branch is dropped in training; it grows
            linearly from 0 at the first block, in [0, 1).
        squeeze: whether blocks have a squeeze-and-excitation gate; the Lite networks have none.
        activation: "silu" (swish), or "relu6" as in the Lite networks.
    """

    stages: tuple[Stage, ...] = B0_STAGES
    width: float = 1.0
    depth: float = 1.0
    stem: int = 32
    head: int = 1280
    drop_connect: float = 0.2
    squeeze: bool = True
    activation: str = "silu"

    def __post_init__(self) -> None:
        if not isinstance(self.stages, tuple) or not all(
            isinstance(stage, Stage) for stage in self.stages
        ):
            raise TypeError(f"stages: expected a tuple of Stage, got {self.stages!r}")
        if not self.stages:
            raise ValueError("stages: expected at least one Stage, got none")
        for name in ("width", "depth", "stem"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not self.head >= 0:
            raise ValueError(f"head: expected 0 or more, got {self.head}")
        if not 0 <= self.drop_connect < 1:
            raise ValueError(f"drop_connect: expected a rate in [0, 1), got {self.drop_connect}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation: expected {' or '.join(ACTIVATIONS)}, got {self.activation!r}"
            )

    @classmethod
    def lite(cls, **changes: Any) -> EncoderConfig:
        """EfficientNet-Lite0: B0 without gates and with ReLU6, about half its time on a CPU."""
        return cls(**{"squeeze": False, "activation": "relu6", **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncoderConfig:
        """Rebuild from `to_dict`; an absent key keeps its default, an unknown one raises."""
        fields = dict(values)
        if "stages" in fields:
            fields["stages"] = tuple(Stage(**stage) for stage in fields["stages"])
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {**asdict(self), "stages": [asdict(stage) for stage in self.stages]}

    def channels(self, count: int) -> int:
        """`count` channels after the width multiplier: a multiple of 8, never 10 % below."""
        if self.width == 1:
            return count
        scaled = count * self.width
        nearest = max(int(scaled / CHANNEL_MULTIPLE + 0.5), 1) * CHANNEL_MULTIPLE
        return nearest if nearest >= 0.9 * scaled else nearest + CHANNEL_MULTIPLE

    def repeats(self, count: int) -> int:
        """`count` repeats after the depth multiplier."""
        return math.ceil(count * self.depth)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size` so that a convolution gives ceil(size / stride).

    TensorFlow's rule: the odd zero goes after. At stride 2 an even size gets (0, 1) for a kernel
    of 3 and (1, 2) for 5, an odd size the symmetric (1, 1) and (2, 2).
    """
    outputs = (size + stride - 1) // stride
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution [B,C,H,W] -> [B,C',ceil(H/stride),ceil(W/stride)] by `same_padding`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        # At stride 1 the rule is symmetric whatever the size, and the convolution pads by itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        if self.stride[0] > 1:
            height, width = features.shape[-2:]
            rows = same_padding(height, self.kernel_size[0], self.stride[0])
            columns = same_padding(width, self.kernel_size[1], self.stride[1])
            features = F.pad(features, (*columns, *rows))
        return super().forward(features)


class ConvNorm(nn.Module):
    """`SameConv2d` without bias, then batch normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = SameConv2d(inputs, outputs, kernel, stride, groups)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPS, momentum=NORM_MOMENTUM)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(self.conv(features))


class SqueezeExcite(nn.Module):
    """Gate each channel by a sigmoid computed from all channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.restore = nn.Conv2d(squeezed, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        means = features.mean((2, 3), keepdim=True)
        return features * torch.sigmoid(self.restore(F.silu(self.reduce(means))))


def drop_connect(branch: Tensor, rate: float) -> Tensor:
    """Zero a residual `branch` [B,C,H,W] for a random `rate` of the batch, keeping its mean."""
    if rate == 0:
        return branch
    keep = 1 - rate
    kept = torch.rand(branch.shape[0], 1, 1, 1, device=branch.device) < keep
    return branch * (kept.to(branch.dtype) / keep)


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise, squeeze and excite, project, residual."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        expansion: int,
        kernel: int,
        stride: int,
        drop_rate: float = 0.0,
        squeeze: bool = True,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvNorm(inputs, hidden) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride, groups=hidden)
        self.gate = SqueezeExcite(hidden, max(inputs // SQUEEZE_RATIO, 1)) if squeeze else None
        self.project = ConvNorm(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs
        self.drop_rate = drop_rate
        self.activation = ACTIVATIONS[activation](inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        hidden = features if self.expand is None else self.activation(self.expand(features))
        hidden = self.activation(self.depthwise(hidden))
        hidden = self.project(hidden if self.gate is None else self.gate(hidden))
        if not self.residual:
            return hidden
        if self.training:
            hidden = drop_connect(hidden, self.drop_rate)
        return features + hidden


class Encoder(nn.Module):
    """Image and mask to features at 1/32 of the resolution (for the stages of B0).

    Attributes:
        channels: number of output channels.
        level_channels: those of `levels`.
    """

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        config = EncoderConfig() if config is None else config
        self.config = config
        stem = config.channels(config.stem)
        if stem % 2:
            raise ValueError(f"stem: expected an even channel count for two branches, got {stem}")
        self.stem_foreground = ConvNorm(4, stem // 2, kernel=3, stride=2)
        self.stem_background = ConvNorm(4, stem // 2, kernel=3, stride=2)
        self.blocks, inputs = _build_blocks(config, stem)
        self.channels = config.channels(config.head) if config.head else inputs
        self.head = ConvNorm(inputs, self.channels) if config.head else None
        # A level ends where the next block halves the resolution.
        strides = [block.depthwise.conv.stride[0] for block in self.blocks]
        self._ends = [n for n in range(len(strides)) if strides[n + 1 :][:1] != [1]]
        self.level_channels = [self.blocks[n].project.conv.out_channels for n in self._ends]
        self.activation = ACTIVATIONS[config.activation](inplace=True)
        self.apply(_initialise)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Encode.

        Args:
            image: [B,3,H,W] RGB in [0,1], any H and W.
            mask: [B,1,H,W] in [0,1], the image's dtype.

        Returns:
            [B,channels,ceil(H/32),ceil(W/32)].
        """
        features = self._stem(image, mask)
        for block in self.blocks:
            features = block(features)
        return features if self.head is None else self.activation(self.head(features))

    def levels(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """What the last block of each resolution gives, the largest first; the head is left out.

        Arguments as those of `forward`.
        """
        features, found = self._stem(image, mask), []
        for number, block in enumerate(self.blocks):
            features = block(features)
            if number in self._ends:
                found.append(features)
        return found

    def _stem(self, image: Tensor, mask: Tensor) -> Tensor:
        foreground = self.stem_foreground(torch.cat((image, mask), 1))
        background = self.stem_background(torch.cat((image, 1 - mask), 1))
        return self.activation(torch.cat((foreground, background), 1))


def load_imagenet_backbone(path: str | PathLike[str], encoder: Encoder) -> tuple[str, ...]:
    """Initialise an encoder from an ImageNet classifier, EfficientNet-PyTorch names.

    The first half of the classifier's stem filters becomes the foreground branch, the second the
    background branch, and neither looks at the mask yet. The classifier expects ImageNet's mean
    and deviation removed (the Lite networks: 127 and 128 levels) and the encoder does not, so
    both are folded into the stem: away from the borders the encoder computes what the classifier
    did.

    Args:
        path: `.pth`, `.pt` or `.ckpt` checkpoint of a network of the encoder's size and kind.
        encoder: filled in place, left as it was on an error.

    Returns:
        Notes on what was left out (the classifier's last layer).

    Raises:
        WeightsError: as `load_weights`.
    """
    weights = load_weights(path, architecture="efficientnet")
    tensors = dict(weights.tensors)
    stem = {name: tensors.pop(name) for name in weights.tensors if name.startswith("stem.")}
    kernel = stem.get("stem.conv.weight")
    shift = stem.get("stem.norm.running_mean")
    if kernel is None or shift is None:
        raise WeightsError(f"{path}: expected an EfficientNet-PyTorch stem, found none")
    if kernel.ndim != 4 or kernel.shape[0] % 2 or kernel.shape[1] != 3:
        raise WeightsError(
            f"{path}: _conv_stem.weight: expected [an even number,3,3,3], "
            f"found {list(kernel.shape)}"
        )
    lite = not encoder.config.squeeze
    mean = torch.tensor(LITE_MEAN if lite else IMAGENET_MEAN).view(1, 3, 1, 1)
    deviation = torch.tensor(LITE_DEVIATION if lite else IMAGENET_DEVIATION).view(1, 3, 1, 1)
    kernel = kernel / deviation
    stem["stem.norm.running_mean"] = shift + (kernel * mean).sum((1, 2, 3))
    stem["stem.conv.weight"] = torch.cat((kernel, torch.zeros_like(kernel[:, :1])), 1)
    for name, tensor in stem.items():
        for branch, half in zip(("foreground", "background"), tensor.chunk(2), strict=True):
            tensors[name.replace("stem", f"stem_{branch}", 1)] = half
    replace(weights, tensors=tensors).load_into(encoder)
    return weights.notes


def _build_blocks(config: EncoderConfig, inputs: int) -> tuple[nn.ModuleList, int]:
    """All blocks in order, and the channel count of the last one's output."""
    total = sum(config.repeats(stage.repeats) for stage in config.stages)
    blocks = nn.ModuleList()
    for stage in config.stages:
        outputs = config.channels(stage.channels)
        for repeat in range(config.repeats(stage.repeats)):
            blocks.append(
                MBConv(
                    inputs,
                    outputs,
                    expansion=stage.expansion,
                    kernel=stage.kernel,
                    stride=stage.stride if repeat == 0 else 1,
                    drop_rate=config.drop_connect * len(blocks) / total,
                    squeeze=config.squeeze,
                    activation=config.activation,
                )
            )
            inputs = outputs
    return blocks, inputs


def _initialise(module: nn.Module) -> None:
    """Convolutions: truncated normal of variance 2 / fan-out, zero bias."""
    if not isinstance(module, nn.Conv2d):
        return
    fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
    std = math.sqrt(2 / fan_out)
    nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
    if module.bias is not None:
        nn.init.zeros_(module.bias)

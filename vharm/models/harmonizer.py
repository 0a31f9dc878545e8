# SPDX-License-Identifier: Apache-2.0
"""Harmonizer: from a composite and its mask to the arguments of white-box filters.

Source: Z. Ke, C. Sun, L. Zhu, K. Xu, R. Lau, "Harmonizer: Learning to Perform White-Box Image and
Video Harmonization" (ECCV 2022), sections 3.1 and 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.efficientnet import Encoder, EncoderConfig
from vharm.models.network import Network
from vharm.models.regions import RegionColours, pool_regions
from vharm.ops.filters import DEFAULT_FILTERS

INPUT_SIZE = 256
REGRESSOR_WIDTH = 160

# Untrained arguments of about 0.01: the filters start close to doing nothing, while the
# gradient still reaches every layer, which exact zeros would prevent.
ARGUMENT_SCALE = 0.01


class ArgumentHead(nn.Module):
    """One filter's argument [B,1], and the feature [B,width] it was read from."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.feature = nn.Linear(inputs, width)
        self.argument = nn.Linear(width, 1)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.feature(condition)
        return self.argument(feature), feature


class Regressor(nn.Module):
    """Pooled features [B,inputs] to arguments [B,count].

    With `cascade` each head sees the shared feature and the preceding head's (eq. 7 of the
    paper), else the shared feature alone (eq. 6). There is no nonlinearity between the layers:
    the whole is an affine map, and the cascade shapes how it is learned.
    """

    def __init__(
        self, inputs: int, count: int, *, width: int = REGRESSOR_WIDTH, cascade: bool = True
    ) -> None:
        super().__init__()
        self.shared = nn.Linear(inputs, width)
        self.first = nn.Linear(inputs, width) if cascade else None
        condition = 2 * width if cascade else width
        self.heads = nn.ModuleList(ArgumentHead(condition, width) for _ in range(count))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                nn.init.zeros_(module.bias)
        for head in self.heads:
            nn.init.normal_(head.argument.weight, std=ARGUMENT_SCALE / math.sqrt(width))

    def forward(self, features: Tensor) -> Tensor:
        shared = self.shared(features)
        if self.first is None:
            return torch.cat([head(shared)[0] for head in self.heads], 1)
        arguments = []
        previous = self.first(features)
        for head in self.heads:
            argument, previous = head(torch.cat((shared, previous), 1))
            arguments.append(argument)
        return torch.cat(arguments, 1)


class Harmonizer(Network):
    """Network that reads filter arguments off a composite.

    The default configuration has 4,726,882 parameters and the published network's layout.

    Args:
        filters: names of the filters, in the order they are applied; one argument each.
        config: size of the encoder, EfficientNet-B0 by default.
        cascade: whether each argument is read given the preceding ones (False: ablation).
        regions: whether the regressor also sees the features pooled over foreground and
            background apart, and both regions' colour statistics. Not in the paper; False there.
        input_size: side of the square the input is resized to, or None to take it as it is.

    Attributes:
        input_size: as above; may be changed at any time.

    Raises:
        TypeError: `filters` is not a sequence of names.
        ValueError: `filters` is empty, or `input_size` is not positive.
    """

    architecture = "harmonizer"

    def __init__(
        self,
        filters: Sequence[str] = DEFAULT_FILTERS,
        config: EncoderConfig | None = None,
        *,
        cascade: bool = True,
        regions: bool = False,
        input_size: int | None = INPUT_SIZE,
    ) -> None:
        super().__init__()
        if isinstance(filters, str) or not all(isinstance(name, str) for name in filters):
            raise TypeError(f"filters: expected a sequence of filter names, got {filters!r}")
        if not filters:
            raise ValueError("filters: expected at least one filter name, got none")
        if input_size is not None and input_size < 1:
            raise ValueError(f"input_size: expected a positive size or None, got {input_size}")
        self.filters = tuple(filters)
        self.cascade = cascade
        self.input_size = input_size
        self.encoder = Encoder(config)
        self.colours = RegionColours() if regions else None
        pooled = self.encoder.channels
        if self.colours is not None:
            pooled = 3 * pooled + self.colours.width
        self.regressor = Regressor(pooled, len(self.filters), cascade=cascade)

    def forward(self, image: Tensor, mask: Tensor, *, resize: bool = True) -> Tensor:
        """Estimate the arguments.

        Args:
            image: [B,3,H,W] composite, RGB in [0,1], floating point, not normalised further.
            mask: [B,1,H,W] foreground in [0,1], floating point.
            resize: whether to bring both to `input_size` (bilinear, corners not aligned, no
                antialiasing, as the published weights expect). False if they already are of the
                working size.

        Returns:
            [B,K], one argument per filter, in the order of `filters`, unclamped; the filters take
            [-1,1].

        Raises:
            TypeError: `image` or `mask` is not a floating-point tensor.
            ValueError: their shapes are not those above.
        """
        image, mask = self.prepare(image, mask, resize=resize)
        features = self.encoder(image, mask)
        if self.colours is None:
            return self.regressor(features.mean((2, 3)))
        seen = (pool_regions(features, mask), self.colours(image, mask))
        return self.regressor(torch.cat(seen, 1))

    def prepare(self, image: Tensor, mask: Tensor, *, resize: bool = True) -> tuple[Tensor, Tensor]:
        """What the network is given: the arguments of `forward`, checked, of one dtype and size."""
        _check_inputs(image, mask)
        mask = mask.to(image.dtype)
        if resize and self.input_size is not None:
            image = _resize(image, self.input_size)
            mask = _resize(mask, self.input_size)
        return image, mask

    def settings(self) -> dict[str, Any]:
        return {
            "filters": list(self.filters),
            "cascade": self.cascade,
            "regions": self.colours is not None,
            "input_size": self.input_size,
            "encoder": self.encoder.config.to_dict(),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Harmonizer:
        others = dict(settings)
        return cls(config=EncoderConfig.from_dict(others.pop("encoder", {})), **others)


def _resize(image: Tensor, size: int) -> Tensor:
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False)


def _check_inputs(image: Tensor, mask: Tensor) -> None:
    for name, value, channels in (("image", image, 3), ("mask", mask, 1)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point tensor, got {value.dtype}")
        if value.ndim != 4 or value.shape[1] != channels:
            raise ValueError(f"{name}: expected [B,{channels},H,W], got {list(value.shape)}")
        if 0 in value.shape[-2:]:
            raise ValueError(f"{name}: expected at least one pixel, got {list(value.shape)}")
    expected = [image.shape[0], 1, *image.shape[2:]]
    if list(mask.shape) != expected:
        raise ValueError(f"mask: expected {expected} to match image, got {list(mask.shape)}")

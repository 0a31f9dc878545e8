# SPDX-License-Identifier: Apache-2.0
"""A U-Net with concatenating skips, for pictures of any size.

Source of the shape: Ronneberger et al., U-Net (MICCAI 2015), in the strided form that Huang et al.
(IEEE TIP 29, 2020) train; they state no sizes, so those are settings.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, WIDEST, DEPTH = 32, 256, 6
SLOPE = 0.2
NORMS = ("instance", "batch", "none")


class Down(nn.Module):
    """Half the size: 4x4 convolution of stride 2, a norm where wanted, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=norm == "none")
        self.norm = _norm(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), SLOPE)


class Up(nn.Module):
    """Twice the size: bilinear, then a 3x3 convolution, a norm where wanted, ReLU."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none")
        self.norm = _norm(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(_doubled(x))))


class UNet(nn.Module):
    """Picture in, picture of the same size out, linear at its end.

    The norm follows every convolution but the first (instance norm would take the colours away),
    the innermost (which sees too few pixels) and the last. Weights start as Glorot and Bengio's.

    Args:
        inputs: channels in.
        outputs: channels out.
        width: channels of the first level; they double from level to level.
        widest: most channels of a level.
        depth: levels; the innermost is 1/2^depth of the picture.
        input_skip: whether the input itself is concatenated before the last convolution, so that
            detail finer than the first level's need not pass through it.
        norm: "instance", "batch" or "none". Instance norm takes each picture's mean colours and
            contrasts out of every level, which a change of colours depends on.

    Raises:
        ValueError: a size that is not positive, `widest` below `width`, or another `norm`.
    """

    def __init__(
        self, inputs: int, outputs: int, *, width: int = WIDTH, widest: int = WIDEST,
        depth: int = DEPTH, input_skip: bool = True, norm: str = "instance",
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = {"inputs": inputs, "outputs": outputs, "width": width, "depth": depth}
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number of 1 or more, got {value!r}")
        if widest < width:
            raise ValueError(f"widest: expected at least width, {width}, got {widest}")
        if norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
        self.inputs, self.outputs = inputs, outputs
        self.width, self.widest, self.depth = width, widest, depth
        self.input_skip, self.norm = bool(input_skip), norm
        levels = [min(width << level, widest) for level in range(depth)]
        self.down = nn.ModuleList(
            Down(before, after, norm if 0 < level < depth - 1 else "none")
            for level, (before, after) in enumerate(
                zip([inputs, *levels[:-1]], levels, strict=True)
            )
        )
        # From the innermost level outwards; what comes in has the skip beside it but the first.
        self.up = nn.ModuleList(
            Up(levels[level + 1] * (1 if level == depth - 2 else 2), levels[level], norm)
            for level in reversed(range(depth - 1))
        )
        last = levels[0] * (1 if depth == 1 else 2)
        if self.input_skip:
            fine = max(width // 2, outputs)
            self.fine = Up(last, fine, "none")
            self.last = nn.Conv2d(fine + inputs, outputs, 3, padding=1)
        else:
            self.last = nn.Conv2d(last, outputs, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs,H,W] floating point, any H and W above 0, to [B,outputs,H,W].

        Raises:
            TypeError, ValueError: another dtype or shape.
        """
        check_input(x, self.inputs)
        height, width = x.shape[2:]
        x = self._padded(x)
        skips, y = [], x
        for down in self.down:
            y = down(y)
            skips.append(y)
        skips.pop()
        for up in self.up:
            y = torch.cat((up(y), skips.pop()), 1)
        y = self.last(torch.cat((self.fine(y), x), 1) if self.input_skip else _doubled(y))
        return y[..., :height, :width]

    def _padded(self, x: Tensor) -> Tensor:
        """Continued to the right and below, to a multiple of the innermost level's pixel."""
        step = 1 << self.depth
        height, width = x.shape[2:]
        right, below = -width % step, -height % step
        return F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x

    def settings(self) -> dict[str, Any]:
        """What a weight file must say to rebuild the network, as plain JSON values."""
        return {
            "width": self.width, "widest": self.widest, "depth": self.depth,
            "input_skip": self.input_skip, "norm": self.norm,
        }  # fmt: skip


def check_input(x: object, channels: int) -> None:
    """Raises TypeError or ValueError unless `x` is [B,channels,H,W], floating point."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x: expected a floating-point tensor, got {found}")
    if x.ndim != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
        raise ValueError(f"x: expected [B,{channels},H,W], got {list(x.shape)}")


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

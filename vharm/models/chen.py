# SPDX-License-Identifier: Apache-2.0
"""Video harmonization from a window of frames: flow-guided propagation and aggregation.

Source: X. Chen, L. Fang, L. Ye, Q. Zhang, "Deep Video Harmonization by Improving Spatial-temporal
Consistency" (MIR 2024).

Shapes use B batch, T frames of a window, K neighbours (the window without its current frame),
C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.issam import Issam, Painted, initialise
from vharm.models.network import Network
from vharm.ops.attention import gated_mean
from vharm.ops.warp import flow_warp

FRAMES = 5
BLOCKS = 5
DIRECTIONS = ("both", "past")


class Aggregator(nn.Module):
    """Means of neighbours, their foregrounds let through as far as they resemble the current frame.

    `A = sigmoid(theta(warped) . phi(current))` per pixel, `M*warped*A + (1 - M)*warped`: section
    3.4, equations 2 and 3; then the mean over each list of neighbours. `theta` is without a bias,
    so that it need not be computed for every neighbour: `(T w) . (P c + p) = w . (T'P c + T'p)`,
    one convolution of the current frame.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, channels, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels, 1)

    def forward(self, warped: Tensor, current: Tensor, mask: Tensor, lists: int = 1) -> Tensor:
        """The mean of each list of neighbours after the gate, [B,lists,C,H,W].

        Args:
            warped: [B,K,C,H,W], features of neighbours.
            current: [B,C,H,W], those of the current frame.
            mask: [B,1,H,W] in [0,1], its foreground.
            lists: K is cut into this many equal runs, such as the past and the future.
        """
        across = self.theta.weight.flatten(1).t()
        weight, bias = across @ self.phi.weight.flatten(1), across @ self.phi.bias
        own = F.conv2d(current, weight[..., None, None], bias)
        return gated_mean(warped, own, mask, lists=lists)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.convs(features)


class Chen(Network):
    """Harmonizes the current frame of a window.

    Args:
        base: settings of the `Issam` that paints each frame; "nonlocal_levels" among them says
            where its nonlocal blocks are (levels 0 and 1 where it says nothing: 64x64 and 128x128
            of a 256x256 input).
        frames: of the window: 3, 5, 7 or any odd number above 1.
        directions: "both" warps neighbours from before and after the current frame to it, "past"
            only those from before (half as many, and nothing has to be known of the future).
        aggregator: whether neighbours pass an `Aggregator`.
        residual: whether what the decoder gives is added to the base's output (and starts at
            zero), or is the output itself.
        blocks: residual blocks of the decoder.
        channels: of the decoder.

    Attributes:
        frozen_base: while True, `forward` leaves the base as it is, in training too.

    Raises:
        ValueError: a setting out of its range. TypeError: a setting `Issam` does not have.
    """

    architecture = "chen"

    def __init__(
        self, base: dict[str, Any] | None = None, *, frames: int = FRAMES,
        directions: str = "both", aggregator: bool = True, residual: bool = True,
        blocks: int = BLOCKS, channels: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        if not isinstance(frames, int) or frames < 3 or frames % 2 == 0:
            raise ValueError(f"frames: expected an odd number of 3 or more, got {frames!r}")
        if directions not in DIRECTIONS:
            raise ValueError(
                f"directions: expected one of {', '.join(DIRECTIONS)}, got {directions!r}"
            )
        if blocks < 0 or channels < 1:
            raise ValueError(f"blocks, channels: expected positive, got {blocks} and {channels}")
        self.base = Issam(**{"nonlocal_levels": (0, 1), **(base or {})})
        self.frames, self.directions, self.residual = frames, directions, residual
        self.blocks, self.channels = blocks, channels
        self.frozen_base = False
        width = self.base.width
        self.aggregator = Aggregator(width) if aggregator else None
        sides = 2 if directions == "both" else 1
        self.decoder = nn.Sequential(
            nn.Conv2d((1 + sides) * width, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            *(ResidualBlock(channels) for _ in range(blocks)),
        )
        self.output = nn.Conv2d(channels, 3, 3, padding=1)
        for part in (self.aggregator, self.decoder, self.output):
            if part is not None:
                initialise(part)
        if residual:
            nn.init.zeros_(self.output.weight)

    @property
    def reach(self) -> int:
        """How many frames before the current one, and after it where both directions are used."""
        return self.frames // 2

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where the K neighbours are, counted from the current frame, in the order of flows."""
        past = tuple(range(-self.reach, 0))
        return past + tuple(range(1, self.reach + 1)) if self.directions == "both" else past

    def forward(self, frames: Tensor, masks: Tensor, flows: Tensor) -> Tensor:
        """The current frame, [B,3,H,W] in the scale of `frames`, neither composited nor clamped.

        Args:
            frames: [B,T,3,H,W] composites, RGB in [0,1]; T is 1 + K: `reach` frames, the current
                one, and `reach` more for both directions.
            masks: [B,T,1,H,W] in [0,1].
            flows: [B,K,2,H,W] in pixels, from the current frame to each neighbour, in the order
                of `offsets`.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        self._check(frames, masks, flows)
        count = frames.shape[:2]
        painted = self._painted(frames.flatten(0, 1), masks.flatten(0, 1))
        features = painted.features.unflatten(0, count)
        at = self.reach
        others = [i for i in range(count[1]) if i != at]
        current = Painted(painted.normalised.unflatten(0, count)[:, at], features[:, at])
        return self.fuse(current, masks[:, at], features[:, others], flows)

    def _painted(self, frames: Tensor, masks: Tensor) -> Painted:
        if not self.frozen_base:
            return self.base.paint(frames, masks)
        self.base.eval()  # its normalisation stands still too
        with torch.no_grad():
            return self.base.paint(frames, masks)

    def fuse(self, current: Painted, mask: Tensor, neighbours: Tensor, flows: Tensor) -> Tensor:
        """The second half of `forward`, from what the base makes of each frame.

        Args:
            current: what it makes of the current frame.
            mask: [B,1,H,W] of the current frame.
            neighbours: [B,K,C,H,W], features.
            flows: [B,K,2,H,W].
        """
        count = neighbours.shape[:2]
        # Planar, because the gate reads one channel after the other.
        planar = neighbours.flatten(0, 1).contiguous()
        warped = flow_warp(planar, flows.flatten(0, 1), padding="border").unflatten(0, count)
        lists = len(self.offsets) // self.reach
        if self.aggregator is None:
            means = warped.unflatten(1, (lists, self.reach)).mean(2)
        else:
            means = self.aggregator(warped, current.features.contiguous(), mask, lists)
        joined = torch.cat((current.features, means.flatten(1, 2)), 1)
        made = self.output(self.decoder(joined))
        return self.base.denormalise(current.normalised + made if self.residual else made)

    def settings(self) -> dict[str, Any]:
        return {
            "base": self.base.settings(),
            "frames": self.frames,
            "directions": self.directions,
            "aggregator": self.aggregator is not None,
            "residual": self.residual,
            "blocks": self.blocks,
            "channels": self.channels,
        }

    def _check(self, frames: Tensor, masks: Tensor, flows: Tensor) -> None:
        for name, value in (("frames", frames), ("masks", masks), ("flows", flows)):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name}: expected a floating-point tensor, got {got}")
            if value.ndim != 5:
                raise ValueError(f"{name}: expected 5 axes, got {list(value.shape)}")
        batch, _, _, height, width = frames.shape
        count = len(self.offsets)
        expected = {
            "frames": (frames, [batch, 1 + count, 3, height, width]),
            "masks": (masks, [batch, 1 + count, 1, height, width]),
            "flows": (flows, [batch, count, 2, height, width]),
        }
        for name, (value, shape) in expected.items():
            if list(value.shape) != shape:
                raise ValueError(f"{name}: expected {shape}, got {list(value.shape)}")

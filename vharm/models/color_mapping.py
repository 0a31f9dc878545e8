# SPDX-License-Identifier: Apache-2.0
"""Colour mapping of CO2Net: what a base network did to the colours of neighbouring frames.

Source: X. Lu, S. Huang, L. Niu, W. Cong, L. Zhang, "Deep Video Harmonization with Color Mapping
Consistency" (IJCAI 2022), section 4.

Shapes use B batch, S nodes of a table, H height, W width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vharm.models.issam import HEAD_GAIN, initialise
from vharm.models.network import Network
from vharm.ops.lut import apply_lut, splat_lut

SIZE = 33
NEIGHBOURS = 8

# Sums are kept in whole numbers of this: what is added and taken away again leaves exact zeros.
STEP = 2.0**-32
# Of the interpolation's weight; below it a colour has no node with data around it.
LEAST_WEIGHT = 1e-6


def frame_sums(composite: Tensor, harmonized: Tensor, mask: Tensor, size: int = SIZE) -> Tensor:
    """What one frame adds to a table: int64 [B,S,S,S,4], in units of 2^-32.

    Args:
        composite: [B,3,H,W] in [0,1], where colours come from.
        harmonized: [B,3,H,W], where the base network takes them.
        mask: [B,1,H,W]; pixels above one half count, all alike.
        size: S.
    """
    inside = (mask > 0.5).to(composite.dtype)
    sums = splat_lut(composite, harmonized.to(composite.dtype), inside, size, offset=True)
    return (sums.double() / STEP).round().long()


class WindowTable:
    """A table over a window of frames that moves along a clip.

    Only the frames that come into the window or leave it are added or taken away, and the sums
    are whole numbers: the table is the same as if it had been made anew.

    Args:
        size: nodes along each axis.
    """

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self._frames: Counter[int] = Counter()
        self._kept: dict[int, Tensor] = {}
        self._sums: Tensor | None = None

    def move(self, frames: Mapping[int, tuple[int, Tensor]]) -> None:
        """Makes the window hold other frames.

        Args:
            frames: number of a frame to how often it counts and its `frame_sums` [S,S,S,4].
        """
        wanted = Counter({number: times for number, (times, _) in frames.items()})
        kept = {**self._kept, **{number: sums for number, (_, sums) in frames.items()}}
        for number in wanted.keys() | self._frames.keys():
            change = wanted[number] - self._frames[number]
            if not change:
                continue
            part = kept[number]
            if self._sums is None:
                self._sums = torch.zeros_like(part)
            self._sums.add_(part, alpha=change)
        self._frames = wanted
        self._kept = {number: kept[number] for number in wanted}

    def read(self, composite: Tensor, fallback: Tensor) -> Tensor:
        """Maps colours; [1,3,H,W], not clamped.

        Trilinear, by the nodes that have data; a colour without any around it takes `fallback`.

        Args:
            composite: [1,3,H,W] in [0,1].
            fallback: [1,3,H,W].
        """
        if self._sums is None:
            return fallback
        sums = self._sums.to(composite.device).double()
        weight = sums[..., 3:]
        there = weight > 0
        change = torch.where(there, sums[..., :3] / torch.where(there, weight, 1.0), 0.0)
        tables = (change, there.expand(-1, -1, -1, 3))
        moved, seen = (
            apply_lut(composite, table.float().contiguous(), interpolation="trilinear")
            for table in tables
        )
        mapped = composite + moved / seen.clamp(min=LEAST_WEIGHT)
        return torch.where(seen > LEAST_WEIGHT, mapped, fallback)


class Refinement(Network):
    """Joins the base network's picture with the one the table gives.

    Args:
        features: channels of the base's features.
        channels: of the two 3x3 convolutions.
    """

    architecture = "co2net"

    def __init__(self, features: int = 32, channels: int = 64) -> None:
        super().__init__()
        self.features, self.channels = features, channels
        layers: list[nn.Module] = []
        for inputs in (6 + features, channels):
            layers += [
                nn.Conv2d(inputs, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ELU(),
            ]  # fmt: skip
        self.convs = nn.Sequential(*layers)
        self.blend = nn.Conv2d(channels, 1, 1)
        self.colour = nn.Conv2d(channels, 3, 1)
        initialise(self)

    def forward(self, composite: Tensor, base: Tensor, features: Tensor, mapped: Tensor) -> Tensor:
        """The refined picture [B,3,H,W], like the others in ImageNet's normalisation.

        Args:
            composite: [B,3,H,W].
            base: [B,3,H,W], the base network's output.
            features: [B,features,H,W], what it was read from.
            mapped: [B,3,H,W], the table's output.
        """
        joined = self.convs(torch.cat((base, features, mapped), 1))
        keep = torch.sigmoid(HEAD_GAIN * self.blend(joined))
        return keep * composite + (1 - keep) * self.colour(joined)

    def settings(self) -> dict[str, Any]:
        return {"features": self.features, "channels": self.channels}

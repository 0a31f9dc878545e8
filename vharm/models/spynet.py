# SPDX-License-Identifier: Apache-2.0
"""SPyNet: optical flow refined from the coarsest level of a pyramid to the finest.

Source: A. Ranjan, M. J. Black, "Optical Flow Estimation using a Spatial Pyramid Network"
(CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.issam import DEVIATION, MEAN
from vharm.models.network import Network
from vharm.models.weights import KEY_MAPS, KeyMap
from vharm.ops.warp import flow_warp

LEVELS = 6
CHANNELS = (32, 64, 32, 16)
COARSEST = 32
"""The pyramid is halved while the longer side exceeds this."""

MULTIPLE = 32

# Two spellings are in circulation; layers are counted with the ReLUs between them.
KEY_MAPS["spynet"] = KeyMap(
    tuple(
        (rf"{basic}\.(\d+)\.{basic}\.(\d+)", r"nets.\1.\2") for basic in ("moduleBasic", "netBasic")
    )
)


class SpyNet(Network):
    """Estimates optical flow.

    The default configuration has 1,440,300 parameters and the published network's layout: five
    7x7 convolutions of 8-32-64-32-16-2 channels at each of six levels.

    Args:
        levels: networks, the coarsest first. A pair of frames uses as many as its pyramid has
            levels, at most all; a pyramid with fewer takes the first ones.
        channels: between the convolutions.

    Raises:
        ValueError: fewer than one level, or no channels.
    """

    architecture = "spynet"

    def __init__(self, levels: int = LEVELS, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        if not isinstance(levels, int) or levels < 1:
            raise ValueError(f"levels: expected 1 or more, got {levels!r}")
        if not channels or min(channels) < 1:
            raise ValueError(f"channels: expected positive numbers, got {list(channels)}")
        self.channels = tuple(channels)
        self.nets = nn.ModuleList(_level(self.channels) for _ in range(levels))
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, current: Tensor, other: Tensor, *, every_level: bool = False
    ) -> Tensor | list[Tensor]:
        """Where each pixel of `current` is in `other`: [N,2,H,W], (dx, dy) in pixels.

        Args:
            current: [N,3,H,W], RGB in [0,1], floating point. Sizes that are no multiples of 32
                are resized (bilinear), and the flow back.
            other: [N,3,H,W].
            every_level: give what `pyramid` does, for training; sides must be multiples of 32.

        Raises:
            TypeError: no floating-point tensors. ValueError: other shapes.
        """
        check_frames(current, other)
        height, width = current.shape[2:]
        size = tuple(-(-length // MULTIPLE) * MULTIPLE for length in (height, width))
        if every_level:
            if (height, width) != size:
                raise ValueError(
                    f"current: expected sides in multiples of {MULTIPLE}, got {height}x{width}"
                )
            return self.pyramid(current, other)
        flow = self.pyramid(_resized(current, size), _resized(other, size))[-1]
        if (height, width) == size:
            return flow
        scale = flow.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)
        return F.interpolate(flow, (height, width), mode="bilinear", align_corners=False) * scale

    def pyramid(self, current: Tensor, other: Tensor) -> list[Tensor]:
        """The flow at every level that is used, the coarsest first, each in pixels of its own.

        Args:
            current: [N,3,H,W], sides multiples of 32.
            other: likewise.
        """
        frames = [((f - self.mean) / self.deviation) for f in (current, other)]
        levels = [frames]
        while max(frames[0].shape[2:]) > COARSEST and len(levels) < len(self.nets):
            frames = [F.avg_pool2d(frame, 2) for frame in frames]
            levels.append(frames)
        flow = current.new_zeros(len(current), 2, *frames[0].shape[2:])
        found: list[Tensor] = []
        for net, (one, two) in zip(self.nets, reversed(levels), strict=False):
            if found:
                size = one.shape[2:]
                flow = 2 * F.interpolate(flow, size, mode="bilinear", align_corners=True)
            warped = flow_warp(two, flow, padding="border")
            flow = flow + net(torch.cat((one, warped, flow), 1))
            found.append(flow)
        return found

    def settings(self) -> dict[str, Any]:
        return {"levels": len(self.nets), "channels": list(self.channels)}


def check_frames(current: object, other: object) -> None:
    """Raises TypeError or ValueError unless both are float [N,3,H,W] of one shape."""
    for name, value in (("current", current), ("other", other)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point tensor, got {value.dtype}")
        if value.ndim != 4 or value.shape[1] != 3 or 0 in value.shape:
            raise ValueError(f"{name}: expected [N,3,H,W], got {list(value.shape)}")
    assert isinstance(current, Tensor)
    assert isinstance(other, Tensor)
    if current.shape != other.shape:
        raise ValueError(f"other: expected {list(current.shape)}, got {list(other.shape)}")


def _level(channels: Sequence[int]) -> nn.Sequential:
    """Frame, warped neighbour and flow so far (8 channels) to the flow's change (2)."""
    widths = (8, *channels, 2)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Conv2d(inputs, outputs, 7, padding=3), nn.ReLU()]
    layers.pop()
    last = layers[-1]
    assert isinstance(last, nn.Conv2d)
    # An untrained level changes the flow only a little.
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers)


def _resized(frame: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(frame.shape[2:]) == size:
        return frame
    return F.interpolate(frame, size, mode="bilinear", align_corners=False)

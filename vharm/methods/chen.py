# SPDX-License-Identifier: Apache-2.0
"""Chen et al. as a method: frames are painted from a window around each of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from . import shipped
from .issam import square_or_multiple
from .window import Entry, WindowMethod

if TYPE_CHECKING:
    from vharm.flow import FlowCache
    from vharm.models.issam import Painted


class ChenMethod(WindowMethod):
    """Spatial-temporal harmonization of Chen et al.

    Features of neighbouring frames are warped to the current one along estimated flow and joined
    where they resemble it. Each frame passes the frame-wise network once, and each flow is
    estimated once. At the ends of a shot the last frame stands for those that are missing.

    Args:
        weights: a vharm `.safetensors` file; None takes the weights that come with vharm.
        device: where the network runs.
        look: "lut" or "residual", see `PixelMethod`.
        flow: "dis", "spynet" or "none", see `vharm.flow`.
        flow_weights: for "spynet".

    Attributes:
        look_ahead: half the window the weights are for; 0 where they look back only.

    Raises:
        vharm.models.weights.WeightsError: no weights, or a file that cannot be used.
        ValueError: another `look` or `flow`. ImportError: "dis" without OpenCV.
    """

    name = "chen"
    summary = "a network that looks at neighbouring frames to repaint each foreground steadily"
    when_to_use = (
        "to paint with colours from a window of frames; slower than issam, and as trained here not "
        "better. Its weights are for non-commercial use."
    )
    source = (
        "Chen et al., Deep Video Harmonization by Improving Spatial-temporal Consistency, Machine "
        "Intelligence Research 2024"
    )
    weights_licence = "CC BY-NC 4.0"
    look_ahead: ClassVar[int] = 2

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "cpu",
        look: str = "lut",
        flow: str = "dis",
        flow_weights: str | os.PathLike[str] | None = None,
    ) -> None:
        from vharm.flow import open_estimator
        from vharm.models.chen import Chen

        super().__init__(look=look)
        self.network = Chen.from_weights(shipped.chosen(self.name, weights)).to(device)
        self.device = torch.device(device)
        self.flow = open_estimator(flow, weights=flow_weights, device=device)
        self.look_behind = self.network.reach
        # A method's own look-ahead follows from its weights.
        self.look_ahead = max((0, *self.network.offsets))  # type: ignore[misc]

    @classmethod
    def why_not(cls) -> str | None:
        return shipped.why_missing(cls.name)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The network's own square whatever the aspect, as it was trained."""
        base = self.network.base
        own = super().working_size(height, width)
        return square_or_multiple(base.input_size, base.multiple, own)

    def remember(self) -> FlowCache:
        from vharm.flow import FlowCache

        return FlowCache(self.flow, capacity=2 * len(self.network.offsets))

    def prepare(self, seen: Tensor, masks: Tensor) -> Sequence[Painted]:
        from vharm.models.issam import Painted

        made = self.network.base.paint_each(seen.to(self.device), masks.to(self.device))
        pairs = zip(made.normalised.split(1), made.features.split(1), strict=True)
        return [Painted(normalised, features) for normalised, features in pairs]

    def paint(
        self, current: Entry, before: Sequence[Entry], after: Sequence[Entry], memory: FlowCache
    ) -> Tensor:
        sides = {-1: (current, *before), 1: (current, *after)}
        neighbours, flows = [], []
        for offset in self.network.offsets:
            side = sides[1 if offset > 0 else -1]
            other = side[min(abs(offset), len(side) - 1)]
            neighbours.append(other.known.features)
            flows.append(memory.flow(current.number, current.seen, other.number, other.seen))
        return self.network.fuse(
            current.known, current.mask.to(self.device), torch.cat(neighbours)[None],
            torch.cat(flows)[None].to(self.device),
        )  # fmt: skip

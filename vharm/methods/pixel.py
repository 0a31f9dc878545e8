# SPDX-License-Identifier: Apache-2.0
"""Methods whose network paints a small picture: what it did to the colours becomes a Look."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from vharm.looks import Look, LutLook, ResidualLook
from vharm.looks.lut_look import identity_grid
from vharm.ops.lut import fit_lut

from .base import Method

LOOKS = ("lut", "residual")
FITTED_SIZE = 33


class PixelMethod(Method):
    """Base of the pixel networks.

    At the working size the network gives a picture. Full frames are not painted by it: its change
    of the foreground's colours is fitted by a LUT (detail stays, the `.cube` can be taken
    elsewhere, smoothing over time is that of colours), or taken as a residual that is up-sampled
    and added (for changes that depend on the place, such as shading).

    Args:
        look: "lut" or "residual".

    Raises:
        ValueError: another `look`.
    """

    needs_weights = True

    def __init__(self, *, look: str = "lut") -> None:
        if look not in LOOKS:
            raise ValueError(f"look: expected one of {', '.join(LOOKS)}, got {look!r}")
        self.look = look

    @abstractmethod
    def render(self, frames: Tensor, masks: Tensor) -> Tensor:
        """What the network paints, `[B,3,h,w]` in [0,1], not composited.

        Args:
            frames: `[B,3,h,w]` in [0,1], of `working_size`.
            masks: `[B,1,h,w]`; none is empty.
        """

    @torch.no_grad()
    def estimate(
        self,
        frames: Tensor,
        masks: Tensor,
        *,
        background: Tensor | None = None,
        background_weight: Tensor | None = None,
    ) -> list[Look]:
        given = self.request(frames, masks, background, background_weight)
        use = given.usable()
        looks: list[Look] = [self._unchanged() for _ in range(len(frames))]
        if not bool(use.any()):
            return looks
        source, inside = given.frames[use], given.masks[use]
        painted = self.render(given.seen()[use], inside).float().to(source.device)
        made = self._fitted(source, painted, inside)
        for look, i in zip(made, use.nonzero().flatten().tolist(), strict=True):
            looks[i] = look
        return looks

    def _fitted(self, source: Tensor, painted: Tensor, masks: Tensor) -> list[Look]:
        """Looks that do to the foregrounds of `source` what painting them did."""
        if self.look == "residual":
            return [ResidualLook(picture) for picture in (painted - source).cpu()]
        grids, _ = fit_lut(source, painted, masks, FITTED_SIZE, offset=True)
        return [LutLook(grid, title=f"vharm {self.name}") for grid in grids.cpu()]

    def _unchanged(self) -> Look:
        """A Look that changes nothing."""
        if self.look == "residual":
            return ResidualLook(torch.zeros(3, 1, 1))
        return LutLook(identity_grid(FITTED_SIZE))

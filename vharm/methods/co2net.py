# SPDX-License-Identifier: Apache-2.0
"""CO2Net's colour mapping as a method, over any frame-wise method."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from .base import Method
from .issam import IssamMethod
from .pixel import PixelMethod
from .window import Entry, WindowMethod

if TYPE_CHECKING:
    from vharm.models.color_mapping import WindowTable
    from vharm.models.issam import Painted

NEIGHBOURS = 8


@dataclass(frozen=True)
class Mapped:
    """What is known of a frame by itself.

    Attributes:
        output: [1,3,h,w] in [0,1], the base method's picture.
        sums: int64 [S,S,S,4], what its colours add to a table.
        painted: for the refinement, as the base network gave it.
    """

    output: Tensor
    sums: Tensor
    painted: Painted | None


class Co2NetMethod(WindowMethod):
    """Each frame takes the colour changes that the base method made in its neighbours.

    The pairs of composite and harmonized colours of the foregrounds of `neighbours` frames before
    and as many after make a table; the current frame is not among them. On a side with fewer
    frames the last of them counts more than once. Where the table knows no colour near a pixel's,
    the base's own output stands.

    Args:
        weights: of the base method; None takes those that come with vharm.
        device: where networks run.
        base: a frame-wise method's name, or a `Method`.
        base_options: further options of the base's constructor.
        refinement: weights of the refinement network (`vharm train co2net`); None goes without.
            It needs "issam" as the base.
        neighbours: frames on each side.
        look: "lut" or "residual", see `PixelMethod`.

    Raises:
        vharm.models.weights.WeightsError: no weights, or a file that cannot be used.
        ValueError: a base that is not frame-wise, a refinement that does not fit it, `neighbours`
            below 1.
    """

    name = "co2net"
    summary = "another method's colour changes, shared between neighbouring frames"
    when_to_use = "to steady a frame-wise network: colours that match get the same change."
    source = "Lu et al., Deep Video Harmonization with Color Mapping Consistency, IJCAI 2022"
    weights_licence = "CC BY-NC 4.0"  # the base's
    look_ahead: ClassVar[int] = NEIGHBOURS

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "cpu",
        base: str | Method = "issam",
        base_options: dict[str, Any] | None = None,
        refinement: str | os.PathLike[str] | None = None,
        neighbours: int = NEIGHBOURS,
        look: str = "lut",
    ) -> None:
        super().__init__(look=look)
        if not isinstance(neighbours, int) or neighbours < 1:
            raise ValueError(f"neighbours: expected 1 or more, got {neighbours!r}")
        self.device = torch.device(device)
        self.base = _base(base, weights, device, base_options or {})
        self.look_behind = neighbours
        self.look_ahead = neighbours  # type: ignore[misc]
        self.refinement = None
        if refinement is not None:
            self.refinement = self._refinement(refinement)

    def _refinement(self, path: str | os.PathLike[str]) -> torch.nn.Module:
        from vharm.models.color_mapping import Refinement

        if not isinstance(self.base, IssamMethod):
            raise ValueError(f'refinement: needs the base "issam", got {self.base.name!r}')
        network = Refinement.from_weights(path).to(self.device)
        width = self.base.network.width
        if network.features != width:
            raise ValueError(
                f"refinement: made for a base of width {network.features}, got one of {width}"
            )
        return network

    @classmethod
    def why_not(cls) -> str | None:
        return IssamMethod.why_not()

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The base's."""
        return self.base.working_size(height, width)

    def remember(self) -> WindowTable:
        from vharm.models.color_mapping import WindowTable

        return WindowTable()

    def prepare(self, seen: Tensor, masks: Tensor) -> Sequence[Mapped]:
        from vharm.models.color_mapping import frame_sums
        from vharm.models.issam import Painted

        made: list[Painted | None] = [None] * len(seen)
        if self.refinement is not None:
            assert isinstance(self.base, IssamMethod)
            network = self.base.network
            painted = network.paint_each(seen.to(self.device), masks.to(self.device))
            pairs = zip(painted.normalised.split(1), painted.features.split(1), strict=True)
            made = [Painted(*pair) for pair in pairs]
            output = network.denormalise(painted.normalised).clamp(0, 1).to(seen.device)
        elif isinstance(self.base, PixelMethod):
            output = self.base.render(seen, masks).to(seen.device)
        else:
            looks = self.base.estimate(seen, masks)
            parts = zip(looks, seen.split(1), strict=True)
            output = torch.cat([look.apply(frame) for look, frame in parts])
        sums = frame_sums(seen, output, masks)
        return [Mapped(*known) for known in zip(output.split(1), sums, made, strict=True)]

    def paint(
        self, current: Entry, before: Sequence[Entry], after: Sequence[Entry], memory: WindowTable
    ) -> Tensor:
        window: dict[int, tuple[int, Tensor]] = {}
        for side in (before, after):
            for place, entry in enumerate(side):
                missing = self.look_behind - len(side) if place == len(side) - 1 else 0
                window[entry.number] = (1 + missing, entry.known.sums)
        memory.move(window)
        known = current.known
        mapped = memory.read(current.seen, known.output)
        if self.refinement is None:
            return mapped
        network = self.base.network
        composite, table = (
            network.normalise(picture.to(self.device)) for picture in (current.seen, mapped)
        )
        refined = self.refinement(
            composite, known.painted.normalised, known.painted.features, table
        )
        return network.denormalise(refined)


def _base(base: object, weights: object, device: object, options: dict[str, Any]) -> Method:
    from . import registry

    if isinstance(base, Method):
        if weights is not None or options:
            raise ValueError(
                "base: is made already; give weights and base_options to its constructor"
            )
        found = base
    elif isinstance(base, str):
        if base == Co2NetMethod.name:
            raise ValueError(f"base: expected a frame-wise method, got {base!r}")
        info = {row.name: row for row in registry.describe()}.get(base)
        if info is not None and info.needs_weights:
            options = {"device": device, **options}
            if weights is not None:
                options["weights"] = weights
        elif weights is not None:
            raise ValueError(f"weights: the base {base!r} uses none, got {str(weights)!r}")
        found = registry.get(base, **options)
    else:
        raise TypeError(f"base: expected a name or a Method, got {type(base).__name__}")
    if found.look_ahead or found.shot() is not None:
        raise ValueError(f"base: expected a frame-wise method, got {found.name!r}")
    return found

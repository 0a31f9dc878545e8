# SPDX-License-Identifier: Apache-2.0
"""Batches of short composite clips, as trainings on several frames take them.

Shapes use N clips of T frames, s x s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .types import Sample


@dataclass(frozen=True)
class Clips:
    """Composite clips with their answers.

    Attributes:
        composite: float32 [N,T,3,s,s] in [0,1].
        masks: float32 [N,T,1,s,s] in [0,1].
        target: float32 [N,T,3,s,s], the true answer; equal to `composite` where the mask is 0.
        flow: float32 [N,T-1,2,s,s], exact backward flow in pixels from each frame to the one
            before it; None where that of any clip is not known.
        valid: bool [N,T-1,1,s,s], see `Sample.valid`; None with `flow`.
    """

    composite: Tensor
    masks: Tensor
    target: Tensor
    flow: Tensor | None = None
    valid: Tensor | None = None

    @staticmethod
    def of(samples: Sequence[Sample]) -> Clips:
        """Samples of one size as a batch.

        Raises:
            ValueError: a sample without a true answer.
        """
        for sample in samples:
            if sample.target is None:
                raise ValueError(f"samples: expected true answers, {sample.name} has none")
        known = all(sample.flow is not None and sample.valid is not None for sample in samples)

        def stacked(name: str) -> Tensor:
            return torch.stack([getattr(sample, name) for sample in samples])

        frames = (stacked(name).float() / 255 for name in ("composite", "masks", "target"))
        return Clips(*frames, *((stacked("flow"), stacked("valid")) if known else ()))

    @staticmethod
    def joined(parts: Sequence[Clips]) -> Clips:
        """Batches of one size as one, in their order; without flow if any has none."""
        known = all(part.flow is not None for part in parts)
        names = ("composite", "masks", "target", *(("flow", "valid") if known else ()))
        return Clips(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def to(self, device: torch.device) -> Clips:
        """The same on another device."""
        return Clips(*(None if t is None else t.to(device, non_blocking=True)
                       for t in self._tensors()))  # fmt: skip

    def pin_memory(self) -> Clips:
        """The same in memory that is copied to a GPU faster."""
        return Clips(*(None if t is None else t.pin_memory() for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.composite, self.masks, self.target, self.flow, self.valid

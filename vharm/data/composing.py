# SPDX-License-Identifier: Apache-2.0
"""Batches of composites for training, made where the batch is: on the GPU if it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vharm import ops
from vharm.ops.filters import DEFAULT_FILTERS

from . import seeding
from .luts import varied
from .recolour import (
    KINDS,
    RANGES,
    colour_statistics,
    draw_arguments,
    draw_strength,
    jittered,
    reverse_filters,
    transfer_colour,
)

GIVEN = "given"


@dataclass(frozen=True)
class Batch:
    """N composites with their answers; float in [0,1].

    Attributes:
        composite: [N,3,H,W].
        mask: [N,1,H,W].
        target: [N,3,H,W].
        stages: [N,K,3,H,W], what each filter of a chain should give; where the composite was not
            made by filters, `target` throughout.
        synthetic: bool [N], which ones were made by filters.
    """

    composite: Tensor
    mask: Tensor
    target: Tensor
    stages: Tensor
    synthetic: Tensor


@dataclass
class Composer:
    """Turns photographs and masks into a `Batch`.

    Every choice for a picture is drawn from its own key, so that neither the batch it is in nor
    the rank that makes it matters; only a transfer looks at another picture of the batch.

    Attributes:
        shares: how often each of `KINDS` is used, relative to each other.
        tables: [n,S,S,S,3] for "lut".
        filters: the chain to be run in reverse.
        jitter: how far brightness, contrast and saturation of the whole photograph are turned
            before anything else, as a share of the filters' own ranges.
        grade: how often a table colours the background instead, and the foreground is what is
            left as it was: a neutral object in a graded scene.
        mild: how often a change is made only in part, see `draw_strength`.
        seed: of everything drawn.
    """

    shares: Sequence[float] = (1.0, 0.7, 0.3)
    tables: Tensor | None = None
    filters: Sequence[str] = DEFAULT_FILTERS
    jitter: float = 0.2
    grade: float = 0.1
    mild: float = 0.0
    seed: int = 0
    _cumulative: Tensor = field(init=False)

    def __post_init__(self) -> None:
        shares = torch.tensor(self.shares, dtype=torch.float32)
        if shares.shape != (len(KINDS),) or (shares < 0).any() or shares.sum() <= 0:
            raise ValueError(
                f"shares: expected {len(KINDS)} numbers, not negative and not all 0, "
                f"got {tuple(self.shares)}"
            )
        if shares[KINDS.index("lut")] > 0 and self.tables is None:
            raise ValueError("tables: expected look-up tables for a share of 'lut', got none")
        # Divided by its own end, so that it ends in 1 exactly whatever the rounding.
        self._cumulative = shares.cumsum(0)
        self._cumulative /= self._cumulative[-1].clone()

    def __call__(
        self, frames: Tensor, masks: Tensor, keys: Sequence[tuple[int, ...]],
        composites: Tensor | None = None, given: Sequence[bool] = (),
    ) -> Batch:  # fmt: skip
        """Compose.

        Args:
            frames: uint8 [N,3,H,W].
            masks: uint8 [N,1,H,W].
            keys: N, each picture's own, such as (epoch, index).
            composites: uint8 [N,3,H,W] that a data set has of the frames.
            given: N, whether that composite is taken, and nothing about the picture changed.
        """
        # A training's autocast would compute colours to no more than a grey level.
        with torch.autocast(frames.device.type, enabled=False):
            return self._composed(frames, masks, keys, composites, given)

    def _composed(
        self, frames: Tensor, masks: Tensor, keys: Sequence[tuple[int, ...]],
        composites: Tensor | None, given: Sequence[bool],
    ) -> Batch:  # fmt: skip
        sources = [seeding.generator(self.seed, *key) for key in keys]
        kinds = [self._kind(source) for source in sources]
        whole = frames.float() / 255
        image, mask = jittered(whole[:, None], self.jitter, sources)[:, 0], masks.float() / 255
        for i in range(len(kinds)):
            if composites is not None and given[i]:
                kinds[i] = GIVEN
                image[i] = frames[i].float() / 255
        arguments = torch.stack([draw_arguments(s, self.filters, RANGES) for s in sources])
        strength = [draw_strength(source, self.mild) for source in sources]
        arguments *= torch.tensor(strength)[:, None]
        synthetic = torch.tensor([kind == "filters" for kind in kinds], device=image.device)
        arguments = arguments.to(image.device) * synthetic[:, None]
        composite, stages = reverse_filters(image, mask, arguments, self.filters)
        target = image
        for i, (kind, source) in enumerate(zip(kinds, sources, strict=True)):
            if kind == "filters":
                continue
            one = slice(i, i + 1)
            if kind == GIVEN:
                assert composites is not None
                composite[one] = composites[one].float() / 255
                stages[one] = target[one, None]
                continue
            changed = self._changed(kind, image, mask, i, source)
            changed = torch.lerp(image[one], changed, strength[i])
            if seeding.chance(source, self.grade):
                # The graded picture is the answer, and the object has not been graded yet.
                target = target.clone() if target is image else target
                target[one] = changed
                composite[one] = mask[one] * image[one] + (1 - mask[one]) * changed
            else:
                composite[one] = mask[one] * changed + (1 - mask[one]) * image[one]
            stages[one] = target[one, None]
        return Batch(composite, mask, target, stages, synthetic)

    def _kind(self, source: torch.Generator) -> str:
        drawn = torch.rand((), generator=source)
        # From the right, or a draw of 0 would choose a first kind whose share is 0.
        return KINDS[int(torch.searchsorted(self._cumulative, drawn, right=True))]

    def _changed(
        self, kind: str, image: Tensor, mask: Tensor, i: int, source: torch.Generator
    ) -> Tensor:
        one = image[i : i + 1]
        if kind == "lut":
            assert self.tables is not None
            return ops.apply_lut(one, varied(self.tables, source).to(one.device))
        other = (i + 1 + seeding.integer(source, max(len(image) - 1, 1))) % len(image)
        goal = colour_statistics(image[other], mask[other])
        return one if goal is None else transfer_colour(one, mask[i : i + 1], goal)

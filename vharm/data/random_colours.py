# SPDX-License-Identifier: Apache-2.0
"""Changing the colours of clips at random: all frames of a clip alike, every clip otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vharm import ops

from . import seeding
from .augment import Cached
from .luts import varied
from .recolour import (
    APPEARANCE_FILTERS,
    KINDS,
    colour_statistics,
    draw_arguments,
    draw_strength,
    filter_clips,
    transfer_colour,
)


class RandomColours:
    """Exposure, hue, saturation, temperature, contrast and tone curve; tables; colour transfer.

    Huang et al. (TIP 2020, section III-A) use the first and the last: appearance changed at
    random, and colours transferred from another foreground. Tables are an addition.

    Args:
        shares: how often each of `vharm.data.recolour.KINDS` is used ("filters" being the
            appearance), relative to each other.
        tables: [n,S,S,S,3] for "lut".
        others: scenes whose foregrounds lend their colours to "transfer".
        vary: whether tables are turned into others like them (see `vharm.data.luts.varied`), so
            that few of them go a longer way; False uses them as they are.
        mild: how often a change is made only in part, see `vharm.data.recolour.draw_strength`.

    Raises:
        ValueError: shares that are not three numbers of 0 or more, or for which tables or scenes
            are missing.
    """

    def __init__(
        self, shares: Sequence[float] = (1.0, 0.0, 0.3), tables: Tensor | None = None,
        others: Cached | None = None, *, vary: bool = True, mild: float = 0.0,
    ) -> None:  # fmt: skip
        weights = torch.tensor(shares, dtype=torch.float32)
        if weights.shape != (len(KINDS),) or (weights < 0).any() or weights.sum() <= 0:
            raise ValueError(
                f"shares: expected {len(KINDS)} numbers, not negative and not all 0, got "
                f"{tuple(shares)}"
            )
        for kind, needed, name in (("lut", tables, "tables"), ("transfer", others, "others")):
            if weights[KINDS.index(kind)] > 0 and needed is None:
                raise ValueError(f"{name}: needed for a share of {kind!r}, got None")
        self.tables, self.others, self.vary, self.mild = tables, others, vary, mild
        # Divided by its own end, so that it ends in 1 exactly whatever the rounding.
        self._cumulative = weights.cumsum(0)
        self._cumulative /= self._cumulative[-1].clone()

    def __call__(self, frames: Tensor, masks: Tensor, sources: Sequence[torch.Generator]) -> Tensor:
        """Frames float [N,T,3,H,W] in [0,1], masks [N,T,1,H,W]; N generators."""
        kinds = [self._kind(source) for source in sources]
        strength = [draw_strength(source, self.mild) for source in sources]
        out = torch.empty_like(frames)
        by_filters = [i for i, kind in enumerate(kinds) if kind == "filters"]
        if by_filters:
            drawn = torch.stack([draw_arguments(sources[i], APPEARANCE_FILTERS)
                                 for i in by_filters])  # fmt: skip
            drawn *= torch.tensor([strength[i] for i in by_filters])[:, None]
            out[by_filters] = filter_clips(frames[by_filters], drawn, APPEARANCE_FILTERS)
        for i, kind in enumerate(kinds):
            if kind == "lut":
                out[i] = ops.apply_lut(frames[i], self._table(sources[i]))
            elif kind == "transfer":
                out[i] = self._transferred(frames[i], masks[i], sources[i])
            if kind != "filters":
                out[i] = torch.lerp(frames[i], out[i], strength[i])
        return out

    def one(self, image: Tensor, mask: Tensor, source: torch.Generator) -> Tensor:
        """The same for one picture or clip of bytes: `recolour` of `Dancing`.

        Args:
            image: uint8 [3,H,W] or [T,3,H,W].
            mask: uint8 [1,H,W] or [T,1,H,W].
            source: what is drawn from.

        Returns:
            uint8, of the shape given.
        """
        height, width = image.shape[-2:]
        frames = image.reshape(1, -1, 3, height, width).float() / 255
        masks = mask.reshape(1, -1, 1, height, width).float() / 255
        changed = self(frames, masks, [source])[0]
        return (changed * 255).clamp(0, 255).round().to(torch.uint8).reshape(image.shape)

    def _kind(self, source: torch.Generator) -> str:
        drawn = torch.rand((), generator=source)
        # From the right, or a draw of 0 would choose a first kind whose share is 0.
        return KINDS[int(torch.searchsorted(self._cumulative, drawn, right=True))]

    def _table(self, source: torch.Generator) -> Tensor:
        if self.vary:
            return varied(self.tables, source)
        return self.tables[seeding.integer(source, len(self.tables))]

    def _transferred(self, frames: Tensor, masks: Tensor, source: torch.Generator) -> Tensor:
        lent = self.others.square(seeding.integer(source, len(self.others)))
        goal = colour_statistics(lent.frame.float() / 255, lent.mask.float() / 255)
        return frames if goal is None else transfer_colour(frames, masks, goal)

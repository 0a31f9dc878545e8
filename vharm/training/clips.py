# SPDX-License-Identifier: Apache-2.0
"""Real clips for training, recoloured, beside photographs set in motion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vharm.data import seeding
from vharm.data.augment import resized
from vharm.data.clip_batches import Clips
from vharm.data.dancing import Recolour
from vharm.data.dancing_batches import DancingBatches, Draw
from vharm.data.types import DataSet, Sample, Scene

from .order import Key


def collate(items: Sequence[Draw | Sample], render: Callable[[Sequence[Draw]], Clips]) -> Clips:
    """One batch of both kinds, first the draws; without flow if any of them has none.

    Args:
        items: of one size and number of frames.
        render: `DancingBatches.render` of the set the draws come from.
    """
    draws = [item for item in items if isinstance(item, Draw)]
    samples = [item for item in items if isinstance(item, Sample)]
    parts = [render(draws)] if draws else []
    if samples:
        parts.append(Clips.of(samples))
    return Clips.joined(parts)


class RecolouredClips:
    """Windows of clips with masks, recoloured, by (epoch, index).

    Args:
        clips: of T frames each, such as `vharm.data.Windows`. Composites that come with their
            true answers are taken as they are.
        size: side of the frames; the aspect is not kept.
        seed: of everything drawn.
        recolour: called with frames uint8 [T,3,H,W], masks [T,1,H,W] and a generator, makes one
            change of all frames, such as `RandomColours.one`.

    Raises:
        ValueError: when read, a composite without a true answer.
    """

    def __init__(
        self, clips: DataSet[Scene] | DataSet[Sample], size: int, *, seed: int,
        recolour: Recolour,
    ) -> None:  # fmt: skip
        self.clips, self.size, self.seed, self.recolour = clips, size, seed, recolour

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> Sample:
        clip = self.clips[key[1]]
        source = seeding.generator(self.seed, *key, 3)
        flip = seeding.chance(source, 0.5)
        masks = self._fitted(clip.masks, flip)
        if isinstance(clip, Sample):
            if clip.target is None:
                raise ValueError(f"clips: {clip.name} is a composite without a true answer")
            composite, frames = (self._fitted(t, flip) for t in (clip.composite, clip.target))
        else:
            frames = self._fitted(clip.frames, flip)
            inside = masks.float() / 255
            changed = self.recolour(frames, masks, source).float()
            mixed = (inside * changed + (1 - inside) * frames.float()).round().to(torch.uint8)
            composite = torch.where(masks > 0, mixed, frames)
        return Sample(clip.name, composite, masks, frames, clip.subset)

    def _fitted(self, frames: Tensor, flip: bool) -> Tensor:
        frames = resized(frames, self.size)
        return (frames.flip(3) if flip else frames).contiguous()


class Mixed:
    """Two sets as one: every n-th access goes to the second.

    Args:
        first: decides the length.
        second: asked in turns of its own.
        every: 2 takes one of each.
    """

    def __init__(self, first: DancingBatches, second: RecolouredClips, every: int) -> None:
        self.first, self.second, self.every = first, second, every

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, key: Key) -> Draw | Sample:
        epoch, index = key
        count = epoch * len(self) + index
        if count % self.every:
            return self.first[key]
        turn = count // self.every
        return self.second[(turn // len(self.second), turn % len(self.second))]

# SPDX-License-Identifier: Apache-2.0
"""Short composite clips for training: photographs set in motion, and clips recoloured.

Shapes use N clips of T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vharm import ops
from vharm.data import seeding
from vharm.data.augment import Cached, augmented, resized
from vharm.data.dancing import Dancing
from vharm.data.errors import DataError
from vharm.data.luts import Lut, resampled, varied
from vharm.data.motion import MotionRange
from vharm.data.recolour import random_colour
from vharm.data.types import DataSet, Sample, Scene

from .order import Key

# A foreground of less than this share has too few pixels to learn from.
LEAST_COVERAGE = 0.02


@dataclass(frozen=True)
class Clips:
    """Composite clips with their answers, uint8 as they were made.

    Attributes:
        composite: [N,T,3,H,W].
        masks: [N,T,1,H,W].
        target: [N,T,3,H,W].
        flow: float32 [N,T-1,2,H,W], from each frame to the one before it; None where not known.
        valid: bool [N,T-1,1,H,W].
    """

    composite: Tensor
    masks: Tensor
    target: Tensor
    flow: Tensor | None
    valid: Tensor | None

    def to(self, device: torch.device) -> Clips:
        """On a device, colours and masks as floats in [0,1]."""
        frames = (self.composite, self.masks, self.target)
        unit = (t.to(device, non_blocking=True).float() / 255 for t in frames)
        if self.flow is None or self.valid is None:
            return Clips(*unit, None, None)
        return Clips(*unit, self.flow.to(device), self.valid.to(device))

    def pin_memory(self) -> Clips:
        parts = (self.composite, self.masks, self.target, self.flow, self.valid)
        return Clips(*(None if part is None else part.pin_memory() for part in parts))


def collate(samples: Sequence[Sample]) -> Clips:
    """One batch; without flow if any of them has none."""
    known = all(sample.flow is not None and sample.valid is not None for sample in samples)
    return Clips(
        torch.stack([sample.composite for sample in samples]),
        torch.stack([sample.masks for sample in samples]),
        torch.stack([sample.target for sample in samples]),
        torch.stack([sample.flow for sample in samples]) if known else None,
        torch.stack([sample.valid for sample in samples]) if known else None,
    )


class Recolouring:
    """Random changes of a picture's or clip's colours: tables half the time, else filters.

    Args:
        luts: tables; none leaves filters alone.
    """

    def __init__(self, luts: Sequence[Lut] = ()) -> None:
        self.tables = resampled(luts) if luts else None

    def __call__(self, image: Tensor, mask: Tensor, source: torch.Generator) -> Tensor:
        """Uint8 [3,H,W] or [T,3,H,W] with other colours throughout."""
        if self.tables is None or seeding.chance(source, 0.5):
            return random_colour(image, mask, source)
        frames = image if image.ndim == 4 else image[None]
        return ops.apply_lut(frames, varied(self.tables, source)).reshape(image.shape)


class DanceSet:
    """Photographs set in motion, by (epoch, index): see `vharm.data.Dancing`.

    Args:
        scenes: photographs in memory.
        size: side of the frames.
        frames: T.
        seed: of everything drawn.
        recolour: of the foregrounds.
        limits: how far things move from the first frame to the last.
        least_crop: of random crops; see `vharm.data.augment.augmented`.
    """

    def __init__(
        self, scenes: Cached, size: int, frames: int, *, seed: int, recolour: Recolouring,
        limits: MotionRange | None = None, least_crop: float = 0.7,
    ) -> None:  # fmt: skip
        self._cropped = _Cropped(scenes, size, seed, least_crop)
        self._dancing = Dancing(
            self._cropped, frames=frames, seed=seed, min_coverage=0.0, max_coverage=1.0,
            recolour=recolour, limits=limits,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._dancing)

    def __getitem__(self, key: Key) -> Sample:
        self._cropped.epoch = key[0]
        self._dancing.set_epoch(key[0])
        return self._dancing[key[1]]


class _Cropped:
    """Scenes cropped at random, anew in each epoch; of composites their photographs."""

    def __init__(self, scenes: Cached, size: int, seed: int, least_crop: float) -> None:
        self._scenes = scenes
        shares = [float(self._mask(i).float().mean()) / 255 for i in range(len(scenes))]
        self._indices = [i for i, share in enumerate(shares) if share >= LEAST_COVERAGE]
        if not self._indices:
            raise DataError(f"data: no photograph has a mask of {LEAST_COVERAGE:.0%} or more")
        self._size, self._seed, self._least = size, seed, least_crop
        self.names = tuple(str(i) for i in self._indices)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._indices)

    def masks(self, index: int) -> Tensor:
        return self._mask(self._indices[index])[None]

    def __getitem__(self, index: int) -> Scene:
        at = self._indices[index]
        source = seeding.generator(self._seed, self.epoch, at, 2)
        frame, mask = augmented(
            self._scenes.square(at).frame, self._mask(at), self._size, source,
            least_side=self._least, rotate=False,
        )  # fmt: skip
        return Scene(self.names[index], frame[None], mask[None])

    def _mask(self, at: int) -> Tensor:
        mask = self._scenes.square(at).mask
        if mask is None:
            raise DataError("data: expected photographs with masks, got one without")
        return mask


class RecolouredClips:
    """Windows of clips with masks, recoloured, by (epoch, index).

    Args:
        clips: of T frames each, such as `vharm.data.Windows`. Composites that come with their
            true answers are taken as they are.
        size: side of the frames; the aspect is not kept.
        seed: of everything drawn.
        recolour: one change for all frames of a window.

    Raises:
        ValueError: when read, a composite without a true answer.
    """

    def __init__(
        self, clips: DataSet[Scene] | DataSet[Sample], size: int, *, seed: int,
        recolour: Recolouring,
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

    def __init__(self, first: DanceSet, second: RecolouredClips, every: int) -> None:
        self.first, self.second, self.every = first, second, every

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        count = epoch * len(self) + index
        if count % self.every:
            return self.first[key]
        turn = count // self.every
        return self.second[(turn // len(self.second), turn % len(self.second))]

# SPDX-License-Identifier: Apache-2.0
"""Photographs for training by single frames, and a validation on some that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vharm.data import seeding
from vharm.data.augment import Cached, augmented, resized
from vharm.data.luts import Lut
from vharm.data.recolour import Recoloured
from vharm.data.types import DataSet, Scene

from .config import ConfigError
from .order import Key

CACHE_SIDE = 256
VALIDATION_BATCH = 16
# Held-out photographs are recoloured always the same way, whatever the training's own seed.
VALIDATION_SEED = 1

Harmonize = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Item:
    """A training picture: uint8 [3,S,S] and [1,S,S], and its key."""

    frame: Tensor
    mask: Tensor
    key: Key


@dataclass(frozen=True)
class Items:
    """Several of them stacked."""

    frames: Tensor
    masks: Tensor
    keys: tuple[Key, ...]

    def to(self, device: torch.device) -> tuple[Tensor, Tensor, tuple[Key, ...]]:
        """Frames, masks and keys for a `Composer`."""
        frames = self.frames.to(device, non_blocking=True)
        return frames, self.masks.to(device, non_blocking=True), self.keys

    def pin_memory(self) -> Items:
        return Items(self.frames.pin_memory(), self.masks.pin_memory(), self.keys)


def collate(items: Sequence[Item]) -> Items:
    """One batch of them."""
    return Items(
        torch.stack([item.frame for item in items]),
        torch.stack([item.mask for item in items]),
        tuple(item.key for item in items),
    )


class PictureSet:
    """Random crops of scenes, by (epoch, index).

    Args:
        scenes: in memory.
        size: side of the pictures.
        seed: of crops and borrowed masks.
        unmasked: photographs without masks of their own, uint8 [n,3,S,S].
        borrowed: how often one of those takes the place of a scene's photograph, under the
            scene's mask.
        least_crop: see `vharm.data.augment.augmented`.
    """

    def __init__(
        self, scenes: Cached, size: int, *, seed: int, unmasked: Tensor | None = None,
        borrowed: float = 0.0, least_crop: float = 0.6,
    ) -> None:  # fmt: skip
        self.scenes, self.size, self.seed = scenes, size, seed
        self.unmasked, self.borrowed, self.least_crop = unmasked, borrowed, least_crop

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key: Key) -> Item:
        # A number of its own ends the key: what is done to the colours is drawn from (epoch,
        # index) by others.
        source = seeding.generator(self.seed, *key, 1)
        frame, mask = self.scenes.frames[key[1]], self.scenes.masks[key[1]]
        if self.unmasked is not None and seeding.chance(source, self.borrowed):
            frame = self.unmasked[seeding.integer(source, len(self.unmasked))]
        frame, mask = augmented(frame, mask, self.size, source, least_side=self.least_crop)
        return Item(frame, mask, key)


def open_pictures(
    data: str, size: int, *, seed: int, hold_out: float, borrowed: float, least_crop: float
) -> tuple[PictureSet, Cached]:
    """The training pictures of a data set, and the scenes held out of it for validation.

    Raises:
        ConfigError: no `data`, too few pictures, or none without masks where they are wanted.
    """
    from vharm.data import open_data, open_photos

    if not data:
        raise ConfigError("data: expected a folder or an archive, got none")
    scenes = open_data(data, split="train")
    count = len(scenes)
    held = round(count * hold_out)
    if count - held < 1 or (hold_out and held < 1):
        raise ConfigError(f"data: too few pictures to hold {hold_out:.0%} out: {count} in {data}")
    order = torch.randperm(count, generator=seeding.generator(seed)).tolist()
    unmasked = None
    if borrowed:
        photographs = open_photos(data)
        unmasked = torch.cat([resized(photographs[i], CACHE_SIDE) for i in range(len(photographs))])
    training = Cached(_Part(scenes, order[held:]), max(CACHE_SIDE, size))
    kept = Cached(_Part(scenes, order[:held]), CACHE_SIDE)
    pictures = PictureSet(
        training, size, seed=seed, unmasked=unmasked, borrowed=borrowed, least_crop=least_crop
    )
    return pictures, kept


class _Part:
    """Some of a set, in the order given."""

    def __init__(self, whole: DataSet[Scene], indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Scene:
        return self.whole[self.indices[index]]


class Validation:
    """Foreground error on held-out photographs, recoloured by filters and by training tables.

    Args:
        scenes: held out of the training.
        luts: tables that the training may use; those kept for the tables of results are not here.
        size: the network's working size.
        filters: of composites made by filters.
        pictures: how many are shown.
    """

    def __init__(
        self, scenes: Cached, luts: Sequence[Lut], size: int, filters: Sequence[str], pictures: int
    ) -> None:
        kinds = ("lut", "filters") if luts else ("filters",)
        made = Recoloured(scenes, kinds, luts=luts, seed=VALIDATION_SEED, filters=filters)
        samples = [made[i] for i in range(len(made))]
        self.size, self.pictures = size, pictures
        self.composite = torch.cat([s.composite for s in samples])
        self.mask = torch.cat([s.masks for s in samples])
        self.target = torch.cat([s.target for s in samples if s.target is not None])

    def __call__(
        self, harmonize: Harmonize, device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Figures on 0-255 as `vharm eval` has them, the composite's own beside; pictures.

        Args:
            harmonize: called with the small frame and mask, the frame and the mask, float [N,..].
            device: where.
        """
        errors: list[Tensor] = []
        untouched: list[Tensor] = []
        shown: dict[str, Tensor] = {}
        for start in range(0, len(self.composite), VALIDATION_BATCH):
            part = slice(start, start + VALIDATION_BATCH)
            composite, mask, target = (
                t[part].to(device) for t in (self.composite, self.mask, self.target)
            )
            frame, inside = composite.float() / 255, mask.float() / 255
            small = resized(composite, self.size).float() / 255
            small_mask = resized(mask, self.size).float() / 255
            result = harmonize(small, small_mask, frame, inside).clamp(0, 1) * 255
            errors.append(_errors(result, target, mask))
            untouched.append(_errors(composite.float(), target, mask))
            for i in range(len(composite)):
                if len(shown) < self.pictures:
                    row = (composite[i].float(), result[i], target[i].float())
                    shown[f"validation/{start + i}"] = torch.cat(row, 2).round().byte().cpu()
        mine, theirs = torch.cat(errors).mean(0).tolist(), torch.cat(untouched).mean(0).tolist()
        figures = {"fmse": mine[0], "mse": mine[1], "psnr": mine[2]}
        beside = {"composite_fmse": theirs[0], "composite_psnr": theirs[2]}
        return {**figures, **beside}, shown


def _errors(result: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """FMSE, MSE and PSNR of each picture, [N,3]."""
    square = (result - target.float()).square().sum(1, keepdim=True)
    inside = (mask > 127).float()
    pixels = inside.sum((1, 2, 3)).clamp(min=1)
    fmse = (square * inside).sum((1, 2, 3)) / (3 * pixels)
    mse = square.mean((1, 2, 3)) / 3
    psnr = 10 * torch.log10(255**2 / mse.clamp(min=1e-3))
    return torch.stack((fmse, mse, psnr), 1)

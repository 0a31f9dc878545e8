# SPDX-License-Identifier: Apache-2.0
"""Photographs for training by single frames, and a validation on some that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vharm.data import seeding
from vharm.data.augment import Cached, augmented, resized
from vharm.data.luts import Lut
from vharm.data.recolour import Recoloured
from vharm.data.types import Sample

from .config import ConfigError
from .order import Key

CACHE_SIDE = 256
# More would cost a large set's training more time than they tell.
MOST_HELD_OUT = 500
VALIDATION_BATCH = 16
# Held-out photographs are recoloured always the same way, whatever the training's own seed.
VALIDATION_SEED = 1

Harmonize = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Item:
    """A training picture: uint8 [3,S,S] and [1,S,S], its key, and a data set's own composite."""

    frame: Tensor
    mask: Tensor
    key: Key
    composite: Tensor | None = None


@dataclass(frozen=True)
class Items:
    """Several of them stacked; `given` says which ones come with a composite."""

    frames: Tensor
    masks: Tensor
    keys: tuple[Key, ...]
    composites: Tensor | None = None
    given: tuple[bool, ...] = ()

    def to(self, device: torch.device) -> tuple[Any, ...]:
        """The arguments of a `Composer`."""
        frames, masks, composites = (
            None if t is None else t.to(device, non_blocking=True)
            for t in (self.frames, self.masks, self.composites)
        )
        return frames, masks, self.keys, composites, self.given

    def pin_memory(self) -> Items:
        composites = None if self.composites is None else self.composites.pin_memory()
        return Items(
            self.frames.pin_memory(), self.masks.pin_memory(), self.keys, composites, self.given
        )


def collate(items: Sequence[Item]) -> Items:
    """One batch of them."""
    given = tuple(item.composite is not None for item in items)
    composites = None
    if any(given):
        shown = (item.frame if item.composite is None else item.composite for item in items)
        composites = torch.stack(list(shown))
    return Items(
        torch.stack([item.frame for item in items]),
        torch.stack([item.mask for item in items]),
        tuple(item.key for item in items),
        composites,
        given,
    )


class PictureSet:
    """Random crops of scenes or composites, by (epoch, index).

    Args:
        scenes: pictures with masks, perhaps with composites.
        size: side of the pictures.
        seed: of crops and borrowed masks.
        unmasked: photographs without masks of their own, as large as the scenes.
        borrowed: how often one of those takes the place of a scene's photograph, under the
            scene's mask.
        least_crop: see `vharm.data.augment.augmented`.
        own: how often a set's own composite is taken; otherwise only its photograph is.
    """

    def __init__(
        self, scenes: Cached, size: int, *, seed: int, unmasked: Cached | None = None,
        borrowed: float = 0.0, least_crop: float = 0.6, own: float = 0.5,
    ) -> None:  # fmt: skip
        self.scenes, self.size, self.seed, self.own = scenes, size, seed, own
        self.unmasked, self.borrowed, self.least_crop = unmasked, borrowed, least_crop

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key: Key) -> Item:
        # A number of its own ends the key: what is done to the colours is drawn from (epoch,
        # index) by others.
        source = seeding.generator(self.seed, *key, 1)
        square = self.scenes.square(key[1])
        frame, mask, composite = square.frame, square.mask, square.composite
        assert mask is not None
        if self.unmasked is not None and seeding.chance(source, self.borrowed):
            place = seeding.integer(source, len(self.unmasked))
            frame, composite = self.unmasked.square(place).frame, None
        if composite is not None:
            composite = composite if seeding.chance(source, self.own) else None
        both = frame if composite is None else torch.cat((frame, composite))
        both, mask = augmented(both, mask, self.size, source, least_side=self.least_crop)
        return Item(both[:3], mask, key, None if composite is None else both[3:])


def open_pictures(
    data: str, size: int, *, seed: int, hold_out: float, borrowed: float, least_crop: float,
    own: float = 0.5,
) -> tuple[PictureSet, Cached]:  # fmt: skip
    """The training pictures of a data set, and those held out of it for validation.

    Of a set without splits all pictures are taken, of one with splits those of "train".

    Raises:
        ConfigError: no `data`, too few pictures, or none without masks where they are wanted.
    """
    from vharm.data import open_data, open_photos
    from vharm.data.layouts import find

    if not data:
        raise ConfigError("data: expected a folder or an archive, got none")
    split = "train" if find(data, split="train")[1].splits else None
    pictures = open_data(data, split=split)
    count = len(pictures)
    held = min(round(count * hold_out), MOST_HELD_OUT)
    if held < 1 or count - held < 1:
        raise ConfigError(f"data: too few pictures to hold {hold_out:.0%} out: {count} in {data}")
    order = torch.randperm(count, generator=seeding.generator(seed)).tolist()
    side = max(CACHE_SIDE, size)
    unmasked = Cached(open_photos(data), side) if borrowed else None
    training = PictureSet(
        Cached(pictures, side, indices=order[held:]), size, seed=seed, unmasked=unmasked,
        borrowed=borrowed, least_crop=least_crop, own=own,
    )  # fmt: skip
    return training, Cached(pictures, CACHE_SIDE, indices=order[:held])


class Validation:
    """Foreground error on held-out photographs, recoloured by filters and by training tables.

    Of a set with composites of its own, those are taken as they are.

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
        made: Any = scenes
        if not scenes.has_composites:
            made = Recoloured(scenes, kinds, luts=luts, seed=VALIDATION_SEED, filters=filters)  # type: ignore[arg-type]
        samples: list[Sample] = [made[i] for i in range(len(made))]
        self.pictures = pictures
        self.composite = torch.cat([s.composite for s in samples])
        self.mask = torch.cat([s.masks for s in samples])
        self.target = torch.cat([s.target for s in samples if s.target is not None])
        # Resized here: the antialiased resize of bytes does not exist on every device.
        self.small = resized(self.composite, size)
        self.small_mask = resized(self.mask, size)

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
            composite, mask, target, small, small_mask = (
                t[part].to(device)
                for t in (self.composite, self.mask, self.target, self.small, self.small_mask)
            )
            frame, inside = composite.float() / 255, mask.float() / 255
            small, small_mask = small.float() / 255, small_mask.float() / 255
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

# SPDX-License-Identifier: Apache-2.0
"""The Dancing set: moving composites with exact flow, made of single photographs.

After Huang et al. (TIP 2020), section III-A: the foreground is cut out and the hole filled; the
background is cropped and resized back, the foreground recoloured and moved by a small affine
motion, the same for the recoloured and the original one, and pasted again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import motion
from ._pictures import require_cv2
from .errors import DataError
from .inpaint import fill_hole
from .joined import names_of
from .motion import MotionRange
from .seeding import generators
from .types import Sample

Recolour = Callable[[Tensor, Tensor, torch.Generator], Tensor]

# A flow leads from one thing to the same thing where masks are this close to 0 or 1 on both sides.
_PURE = 4 / 255


class Dancing:
    """Samples of T frames with composite, mask, target, flow and valid, one of each scene.

    The first frame (the last, by chance) has everything in its place; from there to the other end
    the foreground moves within `limits` along a smooth path, and the background is slowly cropped.
    The same (seed, epoch, index) gives the same bits in any process. Composite and target share
    every bit where the mask is 0.

    Args:
        scenes: a set of natural scenes of one size; of clips, one frame by chance is taken.
        frames: T, 2 or more.
        seed, epoch: of all choices; a new epoch moves and recolours differently.
        min_coverage, max_coverage: scenes whose mask (the first frame's) takes a share of the
            picture outside these are left out. They are found by reading all masks once.
        recolour: called with image uint8 [3,H,W], mask uint8 [1,H,W] and a torch.Generator, gives
            the recoloured image, uint8 [3,H,W]; it is used inside the mask. None: the random
            changes of `vharm.data.recolour.random_colour`.
        limits: how far things move.
        grow: the filled hole reaches this share of the longer side beyond the mask, so that no rim
            of the foreground stays behind.

    Raises:
        ValueError: frames below 2, coverage out of range, a seed below 0.
        DataError: no scene has a mask of such a size.
    """

    def __init__(
        self,
        scenes: Any,
        *,
        frames: int = 2,
        seed: int = 0,
        epoch: int = 0,
        min_coverage: float = 0.1,
        max_coverage: float = 0.75,
        recolour: Recolour | None = None,
        limits: MotionRange | None = None,
        grow: float = 0.012,
    ) -> None:
        if frames < 2:
            raise ValueError(f"frames: expected 2 or more, got {frames}")
        if not 0 <= min_coverage < max_coverage <= 1:
            raise ValueError(
                "min_coverage, max_coverage: expected 0 <= least < largest <= 1, got "
                f"{min_coverage} and {max_coverage}"
            )
        generators(seed, epoch)
        self.scenes, self.frames, self.seed, self.epoch = scenes, frames, seed, epoch
        self.recolour, self.limits, self.grow = recolour, limits or MotionRange(), grow
        shares = [_coverage(scenes, index) for index in range(len(scenes))]
        self.positions = tuple(
            index for index, share in enumerate(shares) if min_coverage <= share <= max_coverage
        )
        if not self.positions:
            raise DataError(
                f"none of {len(shares)} scenes has a mask of {min_coverage:.0%} to "
                f"{max_coverage:.0%} of the picture"
            )
        names = names_of(scenes)
        self.names = tuple(names[index] for index in self.positions)
        self.subsets = getattr(scenes, "subsets", ())
        self.description = (
            f"{len(self.positions)} dancing samples of {frames} frames, from those of "
            f"{getattr(scenes, 'description', '') or f'{len(scenes)} scenes'} that are masked by "
            f"{min_coverage:.0%} to {max_coverage:.0%}"
        )

    def __len__(self) -> int:
        return len(self.positions)

    def set_epoch(self, epoch: int) -> None:
        """Chooses another epoch. Workers that run already keep the one they were started with."""
        generators(self.seed, epoch)
        self.epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        position = self.positions[index]
        scene = self.scenes[position]
        random, generator = generators(self.seed, self.epoch, position)
        frame = int(random.integers(len(scene.frames)))
        image, mask = scene.frames[frame], scene.masks[frame]
        recoloured = self._recoloured(image, mask, generator)
        layers = _layers(image, recoloured, mask, self.grow)
        size = tuple(mask.shape[-2:])
        front = motion.foreground_poses(random, self.frames, size, _centre(mask), self.limits)
        behind = motion.background_poses(random, self.frames, size, self.limits)
        if random.random() < 0.5:
            front, behind = front[::-1], behind[::-1]
        rendered = [_render(layers, a, b) for a, b in zip(front, behind, strict=True)]
        flow, valid = flow_between(front, behind, [r.mask for r in rendered])
        return Sample(
            name=self.names[index],
            composite=torch.stack([_bytes(r.composite) for r in rendered]),
            masks=torch.stack([_bytes(r.mask * 255) for r in rendered]),
            target=torch.stack([_bytes(r.target) for r in rendered]),
            subset=scene.subset,
            flow=flow,
            valid=valid,
        )

    def _recoloured(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        recolour = self.recolour
        if recolour is None:
            from .recolour import random_colour as recolour
        changed = recolour(image, mask, generator)
        if changed.shape != image.shape or changed.dtype != torch.uint8:
            raise ValueError(
                f"recolour: expected it to return uint8 {list(image.shape)}, got {changed.dtype} "
                f"{list(changed.shape)}"
            )
        return changed


@dataclass(frozen=True)
class _Layers:
    """What frames are made of, float32, 0 to 255: front [7,H,W] is the foreground as it was, as
    recoloured, and its mask in 0..1; behind [3,H,W] is the background without the hole.
    """

    front: Tensor
    behind: Tensor


@dataclass(frozen=True)
class _Rendered:
    composite: Tensor
    target: Tensor
    mask: Tensor


def _coverage(scenes: Any, index: int) -> float:
    read = getattr(scenes, "masks", None)
    masks = read(index, 0, 1) if hasattr(scenes, "part") else None
    if masks is None:
        masks = read(index) if read is not None else scenes[index].masks
    return float(masks[0].float().mean()) / 255


def _centre(mask: Tensor) -> tuple[float, float]:
    """The mask's centre of mass (x, y); the picture's middle where it is empty."""
    weight = mask[0].numpy().astype(np.float64)
    total = weight.sum()
    if total == 0:
        return (weight.shape[1] - 1) / 2, (weight.shape[0] - 1) / 2
    x = (weight.sum(axis=0) * np.arange(weight.shape[1])).sum() / total
    y = (weight.sum(axis=1) * np.arange(weight.shape[0])).sum() / total
    return float(x), float(y)


def _layers(image: Tensor, recoloured: Tensor, mask: Tensor, grow: float) -> _Layers:
    cv2 = require_cv2()
    hole = (mask[0].numpy() > 0).astype(np.uint8)
    reach = round(grow * max(hole.shape))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    hole = cv2.dilate(hole, disc).astype(bool)
    picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    behind = torch.from_numpy(fill_hole(picture, hole)).permute(2, 0, 1).float().contiguous()
    front = torch.cat([image.float(), recoloured.float(), mask.float() / 255])
    return _Layers(front, behind)


def _render(layers: _Layers, front: np.ndarray, behind: np.ndarray) -> _Rendered:
    size = tuple(layers.behind.shape[-2:])
    places = motion.positions(np.linalg.inv(front), size)
    moved = motion.sample(layers.front, places)
    # The foreground ends where its picture ends: half a pixel of rim, then nothing.
    mask = motion.sample(layers.front[6:], places, "zeros")
    plate = motion.sample(layers.behind, motion.positions(np.linalg.inv(behind), size))
    target = plate + mask * (moved[:3] - plate)
    composite = plate + mask * (moved[3:6] - plate)
    return _Rendered(composite, target, mask)


def flow_between(
    front: np.ndarray, behind: np.ndarray, masks: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Exact backward flow of consecutive frames, and where it can be trusted.

    Args:
        front, behind: poses [T,3,3] of foreground and background.
        masks: T of float32 [1,H,W] in 0..1.

    Returns:
        flow float32 [T-1,2,H,W], (dx, dy): the foreground's where the mask is above one half, else
        the background's; valid bool [T-1,1,H,W]: the point lies inside frame t, shows the same
        thing there (background that the foreground hid in frame t does not), and is not a mixture
        of both in either frame.
    """
    size = tuple(masks[0].shape[-2:])
    grid = motion.positions(np.eye(3), size)
    flows, valids = [], []
    for number in range(1, len(masks)):
        mask, before = masks[number][0].numpy(), masks[number - 1]
        is_front = mask > 0.5
        places = np.where(
            is_front[..., None],
            motion.positions(front[number - 1] @ np.linalg.inv(front[number]), size),
            motion.positions(behind[number - 1] @ np.linalg.inv(behind[number]), size),
        )
        # Least and largest of the four pixels that a bilinear warp of frame t would read.
        least, largest = (_of_four(sign * before, places) * sign for sign in (1, -1))
        same = np.where(
            is_front, (least >= 1 - _PURE) & (mask >= 1 - _PURE),
            (largest <= _PURE) & (mask <= _PURE),
        )  # fmt: skip
        flows.append(torch.from_numpy((places - grid).astype(np.float32)).permute(2, 0, 1))
        valids.append(torch.from_numpy(same & motion.inside(places, size))[None])
    return torch.stack(flows).contiguous(), torch.stack(valids)


def _of_four(values: Tensor, places: np.ndarray) -> np.ndarray:
    """The least of the four pixels around each place, [H,W]."""
    height, width = values.shape[-2:]
    picture = values[0].numpy()
    x = np.clip(np.floor(places[..., 0]).astype(np.int64), 0, width - 1)
    y = np.clip(np.floor(places[..., 1]).astype(np.int64), 0, height - 1)
    right, below = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
    pairs = np.minimum(picture[y, x], picture[y, right])
    return np.minimum(pairs, np.minimum(picture[below, x], picture[below, right]))


def _bytes(values: Tensor) -> Tensor:
    return values.clamp(0, 255).round().to(torch.uint8)

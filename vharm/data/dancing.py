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
from .cutout import GROW, PURE, centre, plate
from .errors import DataError
from .joined import names_of
from .motion import MotionRange
from .seeding import generators
from .types import Sample

Recolour = Callable[[Tensor, Tensor, torch.Generator], Tensor]


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
        grow: how far the filled hole reaches beyond the mask, see `vharm.data.cutout.plate`.

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
        grow: float = GROW,
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
        size = tuple(mask.shape[-2:])
        front = motion.foreground_poses(random, self.frames, size, centre(mask), self.limits)
        behind = motion.background_poses(random, self.frames, size, self.limits)
        if random.random() < 0.5:
            front, behind = front[::-1], behind[::-1]
        rendered = render_frames(image, recoloured, mask, front, behind, self.grow)
        flow, valid = flow_between(front, behind, rendered.masks)
        return Sample(
            name=self.names[index],
            composite=_bytes(rendered.composite),
            masks=_bytes(rendered.masks * 255),
            target=_bytes(rendered.target),
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
class Rendered:
    """Frames before they are rounded to bytes.

    Attributes:
        composite, target: float32 [T,3,H,W], 0 to 255.
        masks: float32 [T,1,H,W], 0 to 1.
    """

    composite: Tensor
    target: Tensor
    masks: Tensor


def _coverage(scenes: Any, index: int) -> float:
    read = getattr(scenes, "masks", None)
    masks = read(index, 0, 1) if hasattr(scenes, "part") else None
    if masks is None:
        masks = read(index) if read is not None else scenes[index].masks
    return float(masks[0].float().mean()) / 255


def render_frames(
    image: Tensor, recoloured: Tensor, mask: Tensor, front: np.ndarray, behind: np.ndarray,
    grow: float = GROW,
) -> Rendered:  # fmt: skip
    """The foreground of a picture, as it was and recoloured, in motion over its background.

    Args:
        image, recoloured: uint8 [3,H,W].
        mask: uint8 [1,H,W].
        front, behind: poses [T,3,3] of foreground and background, see `motion`.
        grow: see `vharm.data.cutout.plate`.
    """
    size = tuple(mask.shape[-2:])
    layers = torch.cat([image.float(), recoloured.float(), mask.float() / 255])
    hidden = plate(image, mask, grow).float()
    composites, targets, masks = [], [], []
    for fore, back in zip(front, behind, strict=True):
        places = motion.positions(np.linalg.inv(fore), size)
        moved = motion.sample(layers, places)
        # The foreground ends where its picture ends: half a pixel of rim, then nothing.
        inside = motion.sample(layers[6:], places, "zeros")
        ground = motion.sample(hidden, motion.positions(np.linalg.inv(back), size))
        composites.append(ground + inside * (moved[3:6] - ground))
        targets.append(ground + inside * (moved[:3] - ground))
        masks.append(inside)
    return Rendered(*(torch.stack(kind) for kind in (composites, targets, masks)))


def flow_between(front: np.ndarray, behind: np.ndarray, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Exact backward flow of consecutive frames, and where it can be trusted.

    Args:
        front, behind: poses [T,3,3] of foreground and background.
        masks: float32 [T,1,H,W] in 0..1.

    Returns:
        flow float32 [T-1,2,H,W], (dx, dy): the foreground's where the mask is above one half, else
        the background's; valid bool [T-1,1,H,W]: the point lies inside frame t, shows the same
        thing there (background that the foreground hid in frame t does not), and is not a mixture
        of both in either frame.
    """
    size = tuple(masks.shape[-2:])
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
            is_front, (least >= 1 - PURE) & (mask >= 1 - PURE),
            (largest <= PURE) & (mask <= PURE),
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

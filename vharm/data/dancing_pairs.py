# SPDX-License-Identifier: Apache-2.0
"""Dancing pairs for training: what `Dancing` makes, a batch at a time and without inpainting twice.

The filled background of a scene does not depend on the epoch, so it is made once and kept, as long
as the scenes are kept themselves. A crop and a flip of the whole scene cost nothing besides: they
become part of the affine places at which foreground and background are read. The colours are
changed after the motion, for a whole batch.

Shapes use P pairs of two frames, S x S the scenes, s x s the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import augment, motion
from .augment import Cached, Square
from .dancing import _PURE, _centre, _layers
from .errors import DataError
from .motion import MotionRange
from .seeding import generators

# Called with frames float [P,2,3,s,s] in [0,1], masks [P,2,1,s,s] and P generators.
PairColours = Callable[[Tensor, Tensor, Sequence[torch.Generator]], Tensor]

GROW = 0.012
COARSE = 32


@dataclass(frozen=True)
class Pairs:
    """A batch.

    Attributes:
        composite: float32 [P,2,3,s,s] in [0,1].
        target: likewise, the true answer; equal to `composite` where the mask is 0.
        mask: float32 [P,2,1,s,s] in [0,1].
        flow: float32 [P,2,s,s], exact backward flow from the second frame to the first, pixels.
        valid: bool [P,1,s,s], see `Sample.valid`.
    """

    composite: Tensor
    target: Tensor
    mask: Tensor
    flow: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> Pairs:
        """The same on another device."""
        return Pairs(*(t.to(device, non_blocking=True) for t in self._tensors()))

    def pin_memory(self) -> Pairs:
        """The same in memory that is copied to a GPU faster."""
        return Pairs(*(t.pin_memory() for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.composite, self.target, self.mask, self.flow, self.valid


@dataclass(frozen=True)
class Draw:
    """One pair before it is rendered.

    Attributes:
        frame, mask, plate: uint8 [3,S,S], [1,S,S], [3,S,S]: the scene, and it without its object.
        front, behind: poses [2,3,3] in the scene's pixels, see `motion`.
        view: [3,3], from the frame's pixels to the scene's.
        source: for the colours.
    """

    frame: Tensor
    mask: Tensor
    plate: Tensor
    front: np.ndarray
    behind: np.ndarray
    view: np.ndarray
    source: torch.Generator


class DancingPairs:
    """Pairs by (epoch, index): `__getitem__` draws one, `render` makes a batch of those drawn.

    Args:
        scenes: natural pictures with masks; of composites their answers are taken.
        size: side of the frames, s.
        colours: how the foreground is recoloured.
        seed: of everything drawn.
        min_coverage, max_coverage: scenes whose mask takes a share of the picture outside these
            are left out.
        limits: how far things move.
        least_crop: least side of the random crop of the whole scene, as a share; 1 for none.
        flip: whether one scene in two is mirrored.

    Raises:
        DataError: no scene has a mask of such a size.
    """

    def __init__(
        self, scenes: Cached, size: int, colours: PairColours, *, seed: int = 0,
        min_coverage: float = 0.1, max_coverage: float = 0.75, limits: MotionRange | None = None,
        least_crop: float = 0.7, flip: bool = True,
    ) -> None:  # fmt: skip
        self.size, self.colours, self.seed = size, colours, seed
        self.limits, self.least_crop, self.flip = limits or MotionRange(), least_crop, flip
        self.scenes, self.side = scenes, scenes.size
        self._places: list[int] = []
        self._centres: list[tuple[float, float]] = []
        self._coarse: list[np.ndarray] = []
        self._plates: list[Tensor] = []
        for place in range(len(scenes)):
            square = scenes.square(place)
            if not min_coverage <= float(square.mask.float().mean()) / 255 <= max_coverage:
                continue
            self._places.append(place)
            self._centres.append(_centre(square.mask))
            coarse = F.adaptive_avg_pool2d(square.mask[None].float() / 255, COARSE)
            self._coarse.append(coarse[0, 0].numpy())
            if scenes.in_memory:
                self._plates.append(_plate(square))
        if not self._places:
            raise DataError(
                f"none of {len(scenes)} scenes has a mask of {min_coverage:.0%} to "
                f"{max_coverage:.0%} of the picture"
            )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: tuple[int, int]) -> Draw:
        position = key[1]
        square = self.scenes.square(self._places[position])
        plate = self._plates[position] if self._plates else _plate(square)
        random, source = generators(self.seed, *key)
        size = (self.side, self.side)
        front = motion.foreground_poses(random, 2, size, self._centres[position], self.limits)
        behind = motion.background_poses(random, 2, size, self.limits)
        if random.random() < 0.5:
            front, behind = front[::-1], behind[::-1]
        view = self._view(self._coarse[position], random)
        return Draw(square.frame, square.mask, plate, front, behind, view, source)

    def render(self, draws: Sequence[Draw]) -> Pairs:
        """A batch; usable as a DataLoader's `collate_fn`, so that workers do the work."""
        views = np.stack([draw.view for draw in draws])
        front, behind = (
            np.stack([poses[name] for poses in map(vars, draws)]) for name in ("front", "behind")
        )
        picture, mask, plate = (
            torch.stack([layers[name] for layers in map(vars, draws)]).float() / 255
            for name in ("frame", "mask", "plate")
        )
        places = np.linalg.inv(front) @ views[:, None]
        moved = _sampled(picture, places, self.size, "border")
        inside = _sampled(mask, places, self.size, "zeros")
        plate = _sampled(plate, np.linalg.inv(behind) @ views[:, None], self.size, "border")
        changed = self.colours(moved, inside, [draw.source for draw in draws])
        flow, valid = _flow(front, behind, views, inside)
        target = (plate + inside * (moved - plate)).clamp(0, 1)
        composite = (plate + inside * (changed - plate)).clamp(0, 1)
        return Pairs(composite, target, inside, flow, valid)

    def _view(self, coarse: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The crop of the scene that is seen, turned into the frame's size and mirrored."""
        total = coarse.sum()
        for _ in range(augment.CROP_TRIALS):
            share = random.uniform(self.least_crop, 1)
            left, top = random.uniform(0, 1 - share, 2)
            part = coarse[_cells(top, share), _cells(left, share)]
            kept = augment.LEAST_COVERAGE <= part.mean() <= augment.MOST_COVERAGE
            if kept and part.sum() >= augment.LEAST_KEPT * total:
                break
        else:
            share, left, top = 1.0, 0.0, 0.0
        zoom = share * self.side / self.size
        # Edges of the crop, not centres of its pixels, lie on the frame's edges: hence the halves.
        x, y = (0.5 * zoom - 0.5 + corner * self.side for corner in (left, top))
        view = np.array([[zoom, 0, x], [0, zoom, y], [0, 0, 1]])
        if self.flip and random.random() < 0.5:
            view = view @ np.array([[-1, 0, self.size - 1], [0, 1, 0], [0, 0, 1]])
        return view


def _plate(square: Square) -> Tensor:
    """The picture without its object, uint8 [3,S,S]."""
    return _layers(square.frame, square.frame, square.mask, GROW).behind.byte()


def _cells(start: float, share: float) -> slice:
    return slice(round(start * COARSE), max(round((start + share) * COARSE), 1))


def _affine(matrices: np.ndarray, size: int) -> Tensor:
    """Where matrices [...,3,3] take the pixels of a frame: float32 [...,s,s,2], (x, y)."""
    m = torch.from_numpy(np.ascontiguousarray(matrices, np.float32))[..., None, None, :, :]
    axis = torch.arange(size, dtype=torch.float32)
    x, y = axis, axis[:, None]
    rows = [m[..., i, 0] * x + m[..., i, 1] * y + m[..., i, 2] for i in (0, 1)]
    return torch.stack(rows, -1)


def _sampled(pictures: Tensor, matrices: np.ndarray, size: int, padding: str) -> Tensor:
    """Pictures [P,C,S,S] at the affine places of matrices [P,2,3,3]: [P,2,C,s,s]."""
    count, channels, _, side = pictures.shape
    # Both frames are one tall picture to the sampler, so that the source is not copied.
    grid = _affine(matrices, size) * (2 / max(side - 1, 1)) - 1
    out = F.grid_sample(
        pictures, grid.reshape(count, 2 * size, size, 2), mode="bilinear", padding_mode=padding,
        align_corners=True,
    )  # fmt: skip
    return out.reshape(count, channels, 2, size, size).transpose(1, 2).contiguous()


def _flow(
    front: np.ndarray, behind: np.ndarray, views: np.ndarray, masks: Tensor
) -> tuple[Tensor, Tensor]:
    """Flow and its validity as `dancing.flow_between` has them, for a batch of pairs."""
    size = masks.shape[-1]
    now, before = masks[:, 1], masks[:, 0]
    is_front = now > 0.5
    flow = torch.where(
        is_front, _displacement(front, views, size), _displacement(behind, views, size)
    )
    axis = torch.arange(size, dtype=torch.float32)
    x, y = flow[:, :1] + axis, flow[:, 1:] + axis[:, None]
    last = size - 1
    inside = (x >= 0) & (x <= last) & (y >= 0) & (y <= last)
    near = y.floor().long().clamp(0, last) * size + x.floor().long().clamp(0, last)
    # Least and largest of the four pixels that a bilinear warp of the first frame would read.
    wide = F.pad(before, (0, 1, 0, 1), mode="replicate")
    largest = F.max_pool2d(wide, 2, stride=1).flatten(2).gather(2, near.flatten(2)).view_as(now)
    least = -F.max_pool2d(-wide, 2, stride=1).flatten(2).gather(2, near.flatten(2)).view_as(now)
    same = torch.where(
        is_front, (least >= 1 - _PURE) & (now >= 1 - _PURE), (largest <= _PURE) & (now <= _PURE)
    )
    return flow, same & inside


def _displacement(poses: np.ndarray, views: np.ndarray, size: int) -> Tensor:
    """From the second frame to the first: [P,2,s,s]."""
    inverse = np.linalg.inv
    there = inverse(views) @ poses[:, 0] @ inverse(poses[:, 1]) @ views
    # The identity is taken off in double precision, where it costs no digits.
    return _affine(there - np.diag([1.0, 1.0, 0.0]), size).permute(0, 3, 1, 2).contiguous()

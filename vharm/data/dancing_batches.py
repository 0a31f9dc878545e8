# SPDX-License-Identifier: Apache-2.0
"""Dancing clips for training: what `Dancing` makes, a batch at a time, without inpainting twice.

The filled background of a scene does not depend on the epoch, so it is made once and kept, as long
as the scenes are kept themselves. A crop and a flip of the scene cost nothing besides: they become
part of the affine places at which foreground and background are read. The colours are changed
after the motion, for a whole batch.

Shapes use N clips of T frames, S x S the scenes, s x s the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import augment, motion
from .augment import Cached
from .clip_batches import Clips
from .cutout import PURE, centre, plate
from .errors import DataError
from .motion import MotionRange
from .recolour import jittered
from .seeding import generators

# Called with frames float [N,T,3,s,s] in [0,1], masks [N,T,1,s,s] and N generators.
Colours = Callable[[Tensor, Tensor, Sequence[torch.Generator]], Tensor]

COARSE = 32


@dataclass(frozen=True)
class Draw:
    """One clip before it is rendered.

    Attributes:
        frame, mask, plate: uint8 [3,S,S], [1,S,S], [3,S,S]: the scene, and it without its object.
        front, behind: poses [T,3,3] in the frame's pixels, see `motion`.
        view: [3,3], from the frame's pixels to the scene's: what of the scene is seen at rest.
        source: for the colours.
    """

    frame: Tensor
    mask: Tensor
    plate: Tensor
    front: np.ndarray
    behind: np.ndarray
    view: np.ndarray
    source: torch.Generator


class DancingBatches:
    """Clips by (epoch, index): `__getitem__` draws one, `render` makes a batch of those drawn.

    Args:
        scenes: natural pictures with masks; of composites their answers are taken.
        size: side of the frames, s.
        colours: how the foreground is recoloured; None leaves composites equal to their targets.
        frames: T, 2 or more.
        seed: of everything drawn.
        min_coverage, max_coverage: scenes whose mask takes a share of the picture outside these
            are left out.
        limits: how far things move, as shares of the frame.
        least_crop: least side of the random crop of the whole scene, as a share; 1 for none.
        flip: whether one scene in two is mirrored.
        jitter: how far whole clips are changed before their foreground is, see
            `vharm.data.recolour.jittered`.

    Raises:
        ValueError: fewer than 2 frames.
        DataError: no scene has a mask of such a size.
    """

    def __init__(
        self, scenes: Cached, size: int, colours: Colours | None, *, frames: int = 2,
        seed: int = 0, min_coverage: float = 0.1, max_coverage: float = 0.75,
        limits: MotionRange | None = None, least_crop: float = 0.7, flip: bool = True,
        jitter: float = 0.0,
    ) -> None:  # fmt: skip
        _refuse_stills(frames)
        self.size, self.colours, self.frames, self.seed = size, colours, frames, seed
        self.limits, self.least_crop, self.flip = limits or MotionRange(), least_crop, flip
        self.jitter = jitter
        self.scenes, self.side = scenes, scenes.size
        self._places: list[int] = []
        self._centres: list[tuple[float, float]] = []
        self._coarse: list[np.ndarray] = []
        self._plates: list[Tensor] = []
        for place in range(len(scenes)):
            square = scenes.square(place)
            if square.mask is None:
                raise DataError("data: expected photographs with masks, got one without")
            if not min_coverage <= float(square.mask.float().mean()) / 255 <= max_coverage:
                continue
            self._places.append(place)
            self._centres.append(centre(square.mask))
            coarse = F.adaptive_avg_pool2d(square.mask[None].float() / 255, COARSE)
            self._coarse.append(coarse[0, 0].numpy())
            if scenes.in_memory:
                self._plates.append(plate(square.frame, square.mask))
        if not self._places:
            raise DataError(
                f"none of {len(scenes)} scenes has a mask of {min_coverage:.0%} to "
                f"{max_coverage:.0%} of the picture"
            )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: tuple[int, int]) -> Draw:
        return self.draw(key, self.frames)

    def draw(self, key: tuple[int, int], frames: int) -> Draw:
        """The clip of a key with another number of frames, 2 or more."""
        _refuse_stills(frames)
        position = key[1]
        square = self.scenes.square(self._places[position])
        assert square.mask is not None
        hidden = self._plates[position] if self._plates else plate(square.frame, square.mask)
        random, source = generators(self.seed, *key)
        view = self._view(self._coarse[position], random)
        size = (self.size, self.size)
        x, y, _ = np.linalg.inv(view) @ (*self._centres[position], 1)
        front = motion.foreground_poses(random, frames, size, (x, y), self.limits)
        behind = motion.background_poses(random, frames, size, self.limits)
        if random.random() < 0.5:
            front, behind = front[::-1], behind[::-1]
        return Draw(square.frame, square.mask, hidden, front, behind, view, source)

    def render(self, draws: Sequence[Draw]) -> Clips:
        """A batch; usable as a DataLoader's `collate_fn`, so that workers do the work.

        A draw's `source` is used up: to render the same again, draw it again.

        Args:
            draws: all of as many frames.
        """
        views = np.stack([draw.view for draw in draws])[:, None]
        front, behind = (
            np.stack([poses[name] for poses in map(vars, draws)]) for name in ("front", "behind")
        )
        picture, mask, ground = (
            torch.stack([layers[name] for layers in map(vars, draws)]).float() / 255
            for name in ("frame", "mask", "plate")
        )
        places = views @ np.linalg.inv(front)
        moved = _sampled(picture, places, self.size, "border")
        inside = _sampled(mask, places, self.size, "zeros")
        ground = _sampled(ground, views @ np.linalg.inv(behind), self.size, "border")
        flow, valid = _flow(front, behind, inside)
        sources = [draw.source for draw in draws]
        if self.jitter:
            both = torch.cat((moved, ground), 1)
            moved, ground = jittered(both, self.jitter, sources).chunk(2, 1)
        target = composite = (ground + inside * (moved - ground)).clamp(0, 1)
        if self.colours is not None:
            changed = self.colours(moved, inside, sources)
            composite = (ground + inside * (changed - ground)).clamp(0, 1)
        return Clips(composite, inside, target, flow, valid)

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


def _refuse_stills(frames: int) -> None:
    if frames < 2:
        raise ValueError(f"frames: expected 2 or more, got {frames}")


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
    """Pictures [N,C,S,S] at the affine places of matrices [N,T,3,3]: [N,T,C,s,s]."""
    clips, frames = matrices.shape[:2]
    # All frames are one tall picture to the sampler, so that the source is not copied.
    grid = _affine(matrices, size) * (2 / max(pictures.shape[-1] - 1, 1)) - 1
    out = F.grid_sample(
        pictures, grid.reshape(clips, frames * size, size, 2), mode="bilinear",
        padding_mode=padding, align_corners=True,
    )  # fmt: skip
    return out.unflatten(2, (frames, size)).transpose(1, 2).contiguous()


def _flow(front: np.ndarray, behind: np.ndarray, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Flow and its validity as `dancing.flow_between` has them, for a batch of clips."""
    size = masks.shape[-1]
    now, before = masks[:, 1:], masks[:, :-1]
    is_front = now > 0.5
    flow = torch.where(is_front, _displacement(front, size), _displacement(behind, size))
    axis = torch.arange(size, dtype=torch.float32)
    x, y = flow[:, :, :1] + axis, flow[:, :, 1:] + axis[:, None]
    last = size - 1
    inside = (x >= 0) & (x <= last) & (y >= 0) & (y <= last)
    near = y.floor().long().clamp(0, last) * size + x.floor().long().clamp(0, last)
    # Least and largest of the four pixels that a bilinear warp of the frame before would read.
    wide = F.pad(before.flatten(0, 1), (0, 1, 0, 1), mode="replicate")
    least, largest = (
        (sign * F.max_pool2d(sign * wide, 2, stride=1))
        .flatten(1).gather(1, near.flatten(0, 1).flatten(1)).view_as(now)
        for sign in (-1, 1)
    )  # fmt: skip
    same = torch.where(
        is_front, (least >= 1 - PURE) & (now >= 1 - PURE), (largest <= PURE) & (now <= PURE)
    )
    return flow, same & inside


def _displacement(poses: np.ndarray, size: int) -> Tensor:
    """From each frame to the one before it: poses [N,T,3,3] to [N,T-1,2,s,s]."""
    there = poses[:, :-1] @ np.linalg.inv(poses[:, 1:])
    # The identity is taken off in double precision, where it costs no digits.
    moved = _affine(there - np.diag([1.0, 1.0, 0.0]), size)
    return moved.permute(0, 1, 4, 2, 3).contiguous()

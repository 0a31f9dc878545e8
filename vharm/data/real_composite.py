# SPDX-License-Identifier: Apache-2.0
"""Composites as editors make them: a foreground clip on an unrelated background, unrecoloured.

In the manner of RCVH (VHMAE, MM 2024): two different sources, large foregrounds, no true answer.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._pictures import encode_png, require_cv2, resize_picture, size_of
from ._sources import lay_over
from .errors import DataError
from .joined import names_of
from .seeding import generators
from .types import Sample

_SMALL = 96
"""Longer side of the mattes on which a placement's coverage is measured."""


class RealComposite:
    """Foreground clips laid over unrelated backgrounds, scaled so that the foreground is large.

    Every item takes the next foreground and a background by chance, of another name. The
    foreground is scaled about a place by chance; a side on which its matte touches its own frame's
    edge stays on the frame's edge, so that nothing cut off floats in the air. A background shorter
    than the foreground runs back and forth. The same (seed, index) gives the same bits.

    Args:
        foregrounds: scenes with mattes (`open_data`, also with layout="foregrounds").
        backgrounds: scenes, whose masks are not used, or `UnmaskedPhotos`.
        seed: of the choices.
        count: how many composites; None: one of each foreground.
        coverage: range of the mean share of the frame that the foreground takes. Where it cannot
            grow to the share that was drawn (see max_scale) it is as large as it can be.
        max_scale: a foreground is enlarged at most this much.
        size: (height, width) or pixels of the result; None: the background's own.
        frames: at most so many of the foreground's, from its beginning; None: all.

    Raises:
        ValueError: an argument out of range, or no background of another name.
    """

    def __init__(
        self,
        foregrounds: Any,
        backgrounds: Any,
        seed: int = 0,
        *,
        count: int | None = None,
        coverage: tuple[float, float] = (0.3, 0.7),
        max_scale: float = 4.0,
        size: int | tuple[int, int] | None = None,
        frames: int | None = None,
    ) -> None:
        if not 0 < coverage[0] <= coverage[1] <= 1:
            raise ValueError(f"coverage: expected 0 < least <= largest <= 1, got {coverage}")
        for name, value in (("count", count), ("frames", frames)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected 1 or more, got {value}")
        if max_scale <= 0:
            raise ValueError(f"max_scale: expected more than 0, got {max_scale}")
        if not len(foregrounds) or not len(backgrounds):
            raise ValueError("foregrounds, backgrounds: expected at least one of each")
        generators(seed)
        self.foregrounds, self.backgrounds, self.seed = foregrounds, backgrounds, seed
        self.coverage, self.max_scale, self.frames = coverage, max_scale, frames
        self.size = size_of(size)
        total = len(foregrounds) if count is None else count
        front, behind = names_of(foregrounds), names_of(backgrounds)
        self._pairs = [self._pair(index, front, behind) for index in range(total)]
        self.names = tuple(
            f"{index:05d}_{_plain(front[f])}_on_{_plain(behind[b])}"
            for index, (f, b) in enumerate(self._pairs)
        )
        self.subsets: tuple[str, ...] = ()
        self.description = (
            f"{total} real composites of {len(foregrounds)} foregrounds on {len(backgrounds)} "
            f"backgrounds, covering {coverage[0]:.0%} to {coverage[1]:.0%}"
        )

    def _pair(self, index: int, front: tuple[str, ...], behind: tuple[str, ...]) -> tuple[int, int]:
        random, _ = generators(self.seed, index, 0)
        foreground = index % len(front)
        others = [b for b, name in enumerate(behind) if name != front[foreground]]
        if not others:
            raise ValueError(f"backgrounds: none of another name than {front[foreground]}")
        return foreground, others[int(random.integers(len(others)))]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        place = range(len(self))[index]
        random, _ = generators(self.seed, place, 1)
        foreground, background = self._pairs[place]
        scene = self._foreground(foreground)
        below = _frames_of(self.backgrounds[background])
        size = self.size or tuple(below.shape[-2:])
        pictures = [np.ascontiguousarray(f.permute(1, 2, 0).numpy()) for f in scene.frames]
        mattes = [np.ascontiguousarray(m[0].numpy()) for m in scene.masks]
        if not any(matte.any() for matte in mattes):
            raise DataError(f"{scene.name}: its mattes are empty, there is no foreground")
        matrix = self._placement(random, mattes, size)
        composites, masks = [], []
        for number, (picture, matte) in enumerate(zip(pictures, mattes, strict=True)):
            plate = below[_back_and_forth(number, len(below))]
            plate = cover(np.ascontiguousarray(plate.permute(1, 2, 0).numpy()), size)
            moved, mask = _moved(picture, matte, matrix, size)
            composites.append(torch.from_numpy(lay_over(moved, plate, mask)).permute(2, 0, 1))
            masks.append(torch.from_numpy(mask)[None])
        return Sample(self.names[place], torch.stack(composites), torch.stack(masks))

    def _foreground(self, index: int):
        if self.frames is not None and hasattr(self.foregrounds, "part"):
            stop = min(self.frames, self.foregrounds.count(index))
            return self.foregrounds.part(index, 0, stop)
        scene = self.foregrounds[index]
        if self.frames is None:
            return scene
        import dataclasses

        stop = self.frames
        return dataclasses.replace(scene, frames=scene.frames[:stop], masks=scene.masks[:stop])

    def _placement(
        self, random: np.random.Generator, mattes: list[np.ndarray], size: tuple[int, int]
    ) -> np.ndarray:
        """[2,3] matrix from the foreground's pixels to the result's."""
        wanted = random.uniform(*self.coverage)
        where = random.uniform(0.25, 0.75), random.uniform(0.25, 0.75)
        small = _shrunk(mattes)
        union = small.max(axis=0)
        zoom = mattes[0].shape[1] / small.shape[2]
        # Not a bisection: what grows out of the frame covers less of it again.
        largest = 0.0, 0.0
        for scale in np.geomspace(self.max_scale / 100, self.max_scale, 100):
            matrix = _matrix(union, zoom, scale, where, size)
            share = _share(small, zoom, matrix, size)
            largest = max(largest, (share, scale))
            if share >= wanted:
                break
        return _matrix(union, zoom, largest[1], where, size)


def _matrix(
    union: np.ndarray, zoom: float, scale: float, where: tuple[float, float],
    size: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    """Scales the foreground, puts its box at `where`, and its cut sides on the frame's edges."""
    offsets = []
    for axis, length, share in ((0, size[1], where[0]), (1, size[0], where[1])):
        present = union.max(axis=axis)
        seen = np.flatnonzero(present)
        first, last = seen[0] * zoom * scale, (seen[-1] + 1) * zoom * scale
        cut_first, cut_last = seen[0] == 0, seen[-1] == len(present) - 1
        if cut_last and not cut_first:
            offset = length - last
        elif cut_first and not cut_last:
            offset = -first
        elif cut_first and cut_last:
            offset = (length - last - first) / 2
        elif axis == 1 and last - first > length:
            # Too tall: heads stay in, feet go.
            offset = -first
        else:
            offset = share * (length - (last - first)) - first
        offsets.append(offset)
    # Pixel centres are at whole numbers: edges are half a pixel before them.
    return np.array([
        [scale, 0, offsets[0] + (scale - 1) / 2], [0, scale, offsets[1] + (scale - 1) / 2],
    ])  # fmt: skip


def _shrunk(mattes: list[np.ndarray]) -> np.ndarray:
    height, width = mattes[0].shape
    factor = min(1.0, _SMALL / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return np.stack([resize_picture(matte, size) for matte in mattes])


def _share(small: np.ndarray, zoom: float, matrix: np.ndarray, size: tuple[int, int]) -> float:
    """Mean share of the result that the mattes take, by the small mattes' pixels inside it."""
    scale = matrix[0, 0]
    rows, columns = (np.arange(n) * zoom + zoom / 2 - 0.5 for n in small.shape[1:])
    across = columns * scale + matrix[0, 2]
    down = rows * scale + matrix[1, 2]
    seen = ((down > -0.5) & (down < size[0] - 0.5))[:, None] & (
        (across > -0.5) & (across < size[1] - 0.5)
    )
    pixels = (small * seen).sum(dtype=np.float64) / 255 / len(small)
    return float(pixels * (zoom * scale) ** 2 / (size[0] * size[1]))


def _moved(
    picture: np.ndarray, matte: np.ndarray, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    cv2 = require_cv2()
    scale = matrix[0, 0]
    if scale < 1:
        # Shrunk by area means first: the warp itself only looks at four pixels.
        height, width = matte.shape
        small = (max(1, round(height * scale)), max(1, round(width * scale)))
        picture, matte = resize_picture(picture, small), resize_picture(matte, small)
        left = matrix[0, 2] - (scale - 1) / 2
        top = matrix[1, 2] - (scale - 1) / 2
        across, down = scale * width / small[1], scale * height / small[0]
        matrix = np.array([
            [across, 0, left + (across - 1) / 2], [0, down, top + (down - 1) / 2],
        ])  # fmt: skip
    shape = (size[1], size[0])
    moved = cv2.warpAffine(
        picture, matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    mask = cv2.warpAffine(matte, matrix, shape, flags=cv2.INTER_LINEAR)
    return moved, mask


def cover(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture's middle part of the shape of `size`, resized to it: no side is stretched."""
    height, width = picture.shape[:2]
    factor = min(height / size[0], width / size[1])
    rows, columns = round(size[0] * factor), round(size[1] * factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    part = picture[top : top + rows, left : left + columns]
    return resize_picture(np.ascontiguousarray(part), size)


def _frames_of(item: Any) -> Tensor:
    return item if isinstance(item, Tensor) else item.frames


def _back_and_forth(number: int, count: int) -> int:
    if count == 1:
        return 0
    place = number % (2 * count - 2)
    return place if place < count else 2 * count - 2 - place


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)


def write_composites(
    data: Any,
    folder: str | os.PathLike,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes samples as NAME/composites/00000.png and NAME/masks/00000.png (and targets/).

    The folder of frames is called composites, so that no reader takes them for natural ones;
    `open_data` reads the result. It appears whole or not at all.

    Args:
        data: a set of samples.
        folder: new, or empty.
        progress: called with how many are written, and of how many.

    Raises:
        FileExistsError: the folder is there and not empty.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"folder: {target} exists already and is not empty")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.partial-{secrets.token_hex(4)}"
    try:
        for index in range(len(data)):
            sample = data[index]
            kinds = {"composites": sample.composite, "masks": sample.masks}
            if sample.target is not None:
                kinds["targets"] = sample.target
            for kind, frames in kinds.items():
                inner = partial / sample.name / kind
                inner.mkdir(parents=True)
                for number, frame in enumerate(frames):
                    picture = frame.permute(1, 2, 0).numpy()
                    picture = picture[..., 0] if picture.shape[2] == 1 else picture
                    data_of = encode_png(np.ascontiguousarray(picture))
                    (inner / f"{number:05d}.png").write_bytes(data_of)
            if progress is not None:
                progress(index + 1, len(data))
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return [target / name for name in data.names]

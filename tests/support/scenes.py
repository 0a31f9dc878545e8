# SPDX-License-Identifier: Apache-2.0
"""Small natural scenes and composites, in memory and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vharm.data import Sample, Scene, seeding


def smooth(source: torch.Generator, size: int, cells: int = 4) -> Tensor:
    """Cloudy noise [3,size,size] in [0,1]."""
    noise = torch.rand(1, 3, cells, cells, generator=source)
    grown = torch.nn.functional.interpolate(
        noise, (size, size), mode="bicubic", align_corners=False
    )
    return grown[0].clamp(0, 1)


def disc(source: torch.Generator, size: int, soft: float = 1.5) -> Tensor:
    """A disc [1,size,size] with an edge of that many pixels, in [0,1]."""
    radius = size * seeding.uniform(source, 0.2, 0.32)
    middle = [size * seeding.uniform(source, 0.38, 0.62) for _ in range(2)]
    axis = torch.arange(size) + 0.5
    far = ((axis[:, None] - middle[0]) ** 2 + (axis[None] - middle[1]) ** 2).sqrt()
    return ((radius - far) / soft + 0.5).clamp(0, 1)[None]


def as_bytes(picture: Tensor) -> Tensor:
    return (picture * 255).round().byte()


class Scenes:
    """`count` pictures of `frames` frames, the same at every access."""

    def __init__(self, count: int = 4, size: int = 24, frames: int = 1, seed: int = 0) -> None:
        self.count, self.size, self.frames, self.seed = count, size, frames, seed
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        self.reads.append(index)
        source = seeding.generator(self.seed, index, 77)
        pictures = [as_bytes(smooth(source, self.size)) for _ in range(self.frames)]
        masks = [as_bytes(disc(source, self.size)) for _ in range(self.frames)]
        return Scene(f"scene {index}", torch.stack(pictures), torch.stack(masks), "part")


class Samples(Scenes):
    """The same with composites: the foreground is darker and bluer."""

    answers = True

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        scene = super().__getitem__(index)
        tint = torch.tensor([0.5, 0.6, 0.8])[:, None, None]
        mask = scene.masks.float() / 255
        changed = scene.frames.float() * (mask * tint + 1 - mask)
        target = scene.frames if self.answers else None
        return Sample(scene.name, changed.round().byte(), scene.masks, target, scene.subset)


def disc_scene(number: int, side: int = 32) -> Scene:
    """Smooth colours with a hard-edged disc of other ones in it."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:side, :side] / side
    picture = np.stack([
        80 + 60 * np.sin(random.uniform(1, 4) * rows + random.uniform(0, 6) + columns)
        for _ in range(3)
    ])  # fmt: skip
    y, x = random.uniform(0.4, 0.6, 2)
    inside = (rows - y) ** 2 + (columns - x) ** 2 < random.uniform(0.06, 0.1)
    picture = np.where(inside, picture[[1, 2, 0]] + 60, picture)
    frames = torch.from_numpy(picture.clip(0, 255).astype(np.uint8))[None]
    return Scene(f"s{number}", frames, torch.from_numpy(inside.astype(np.uint8) * 255)[None, None])


def natural_picture(source: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
    """A picture whose foreground and background are of one light, and its mask; in [0,1].

    Both are grey clouds under a common colour and brightness: what was done to a foreground can be
    read off the background.
    """
    light = 0.35 + 0.4 * torch.rand(3, 1, 1, generator=source)
    parts = []
    for cells in (5, 7):
        grey = smooth(source, size, cells).mean(0, keepdim=True)
        grey = (grey - grey.mean()) / grey.std()
        parts.append(((1 + 0.2 * grey) * light).clamp(0, 1))
    mask = disc(source, size)
    return mask * parts[0] + (1 - mask) * parts[1], mask


def write_photographs(folder: Path, count: int, size: int = 48, seed: int = 0) -> Path:
    """images/ and masks/ of natural pictures, as PNG."""
    from vharm.data._pictures import encode_png

    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        picture, mask = natural_picture(seeding.generator(seed, i, 5), size)
        pixels = as_bytes(picture).permute(1, 2, 0).numpy()
        (folder / "images" / f"{i:03d}.png").write_bytes(encode_png(pixels))
        (folder / "masks" / f"{i:03d}.png").write_bytes(encode_png(as_bytes(mask)[0].numpy()))
    return folder

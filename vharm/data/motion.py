# SPDX-License-Identifier: Apache-2.0
"""Motion of a pasted foreground over a slowly cropped background, and its exact flow.

A pose is a 3x3 matrix, float64, that takes pixel coordinates (x, y, 1) of the source picture to
those of the frame; pixel centres are whole numbers. The flow of two frames is then
previous @ inverse(current) at every pixel: nothing is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class MotionRange:
    """How far things move from the first frame to the last.

    Attributes:
        rotation: degrees, to either side.
        scale: least and largest.
        shift: share of the frame's width and height, to either side.
        crop: least and largest share of the background's width and height that is seen.
    """

    rotation: float = 5.0
    scale: tuple[float, float] = (0.95, 1.05)
    shift: float = 0.05
    crop: tuple[float, float] = (0.9, 1.0)

    def __post_init__(self) -> None:
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop: expected 0 < least <= largest <= 1, got {self.crop}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale: expected 0 < least <= largest, got {self.scale}")


def foreground_poses(
    random: np.random.Generator,
    frames: int,
    size: tuple[int, int],
    pivot: tuple[float, float],
    limits: MotionRange,
) -> np.ndarray:
    """Poses [T,3,3] from the identity to a random affine one along a smooth path.

    Rotation and scale are about the pivot (x, y). Rotation, shift and the logarithm of the scale
    each go their own way: u + b*u*(1-u), u from 0 to 1, with a random bend b in -0.5..0.5.
    """
    height, width = size
    ends = np.array([
        np.deg2rad(random.uniform(-limits.rotation, limits.rotation)),
        np.log(random.uniform(*limits.scale)),
        random.uniform(-limits.shift, limits.shift) * width,
        random.uniform(-limits.shift, limits.shift) * height,
    ])  # fmt: skip
    bends = random.uniform(-0.5, 0.5, 4)
    poses = np.empty((frames, 3, 3))
    for number in range(frames):
        u = number / (frames - 1)
        angle, log_scale, across, down = ends * (u + bends * u * (1 - u))
        cosine, sine = np.cos(angle) * np.exp(log_scale), np.sin(angle) * np.exp(log_scale)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        poses[number] = np.eye(3)
        poses[number, :2, :2] = turn
        poses[number, :2, 2] = np.array(pivot) - turn @ pivot + (across, down)
    return poses


def background_poses(
    random: np.random.Generator, frames: int, size: tuple[int, int], limits: MotionRange
) -> np.ndarray:
    """Poses [T,3,3] from the whole picture to a random crop of it, resized back to the frame."""
    height, width = size
    share = random.uniform(*limits.crop)
    left, top = random.uniform(0, 1 - share, 2)
    bend = random.uniform(-0.5, 0.5)
    poses = np.empty((frames, 3, 3))
    for number in range(frames):
        u = number / (frames - 1)
        u += bend * u * (1 - u)
        zoom = 1 / (1 + u * (share - 1))
        # Edges, not centres, of the crop lie on the frame's edges: hence the halves.
        x = zoom * (0.5 - u * left * width) - 0.5
        y = zoom * (0.5 - u * top * height) - 0.5
        poses[number] = [[zoom, 0, x], [0, zoom, y], [0, 0, 1]]
    return poses


def positions(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where the matrix takes every pixel: float64 [H,W,2], (x, y)."""
    height, width = size
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    points = np.stack([columns, rows], axis=-1).astype(np.float64)
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def sample(picture: Tensor, places: np.ndarray, padding: str = "border") -> Tensor:
    """Bilinear values of a picture at places.

    Not by OpenCV, whose warps round places to 1/32 of a pixel: the flow would not be exact.

    Args:
        picture: float32 [C,H,W].
        places: [H',W',2], (x, y) in pixels.
        padding: "border" or "zeros".

    Returns:
        float32 [C,H',W'].
    """
    height, width = picture.shape[-2:]
    scale = np.array([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    grid = torch.from_numpy((places * scale - 1).astype(np.float32))[None]
    return torch.nn.functional.grid_sample(
        picture[None], grid, mode="bilinear", padding_mode=padding, align_corners=True
    )[0]


def inside(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which places lie between the centres of the outermost pixels: bool [H,W]."""
    last = np.array([size[1] - 1, size[0] - 1])
    return ((places >= 0) & (places <= last)).all(axis=-1)

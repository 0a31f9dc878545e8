# SPDX-License-Identifier: Apache-2.0
"""Pictures, masks and small data sets for tests of reading and making data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

SIZE = (48, 64)


def smooth_picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth random picture, uint8 [H,W,3], RGB."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(20, 235, (4, 5, 3)).astype(np.float32)
    picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.rint(picture).clip(0, 255).astype(np.uint8)


def box_mask(
    size: tuple[int, int] = SIZE, box: tuple[int, int, int, int] = (12, 36, 16, 44)
) -> np.ndarray:
    """White from top to bottom and left to right, uint8 [H,W]."""
    mask = np.zeros(size, np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 255
    return mask


def save(path: Path, picture: np.ndarray) -> Path:
    """Writes RGB or grey; JPEGs at quality 98."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = picture[..., ::-1] if picture.ndim == 3 else picture
    settings = [cv2.IMWRITE_JPEG_QUALITY, 98] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), picture, settings)
    return path


def as_picture(tensor: torch.Tensor) -> np.ndarray:
    """[H,W,3] of [3,H,W]."""
    return tensor.permute(1, 2, 0).numpy()


def make_folders(root: Path) -> Path:
    """4 train and 2 val photographs of 64x48 with masks, 2 of 70x40 without."""
    for split, count, first in (("train", 4, 0), ("val", 2, 10)):
        for number in range(count):
            save(root / f"images/{split}/p{number}.png", smooth_picture(first + number))
            save(root / f"masks/{split}/p{number}.png", box_mask())
    for number in range(2):
        save(root / f"images/unmasked/u{number}.jpg", smooth_picture(50 + number, (40, 70)))
    return root


def make_clips(root: Path) -> Path:
    """Clips a and b of 3 and 5 frames; b has masks_tight too. Masks move right by a pixel."""
    for name, count, first in (("a", 3, 20), ("b", 5, 30)):
        for number in range(count):
            mask = box_mask(box=(12, 36, 16 + number, 44 + number))
            save(root / f"{name}/frames/{number:05d}.png", smooth_picture(first + number))
            save(root / f"{name}/masks/{number:05d}.png", mask)
            if name == "b":
                tight = box_mask(box=(20, 30, 20, 30))
                save(root / f"{name}/masks_tight/{number:05d}.png", tight)
    return root

# SPDX-License-Identifier: Apache-2.0
"""A clip to measure on: textured, moving, grainy, with something pasted in under another light."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080), "4k": (3840, 2160)}
"""(width, height) by name."""

RATE = 25
_MARGIN = 128  # pixels by which the scene is larger than what the camera sees of it
_GRAIN = 3
# What the pasted thing's own light does to red, green and blue: warm and dark.
_WRONG_LIGHT = (0.85, 0.72, 0.58)
_SOFT = 6.0  # pixels over which the mask goes from 0 to 1


def make_clip(
    folder: Path, width: int, height: int, frames: int, *, coverage: float = 0.15, seed: int = 0
) -> tuple[Path, Path]:
    """Writes a composite and its matte, both H.264 at 25 frames a second.

    The scene has detail at every scale, as pictures have (amplitudes fall with the frequency), and
    is panned; grain changes with every frame. A soft ellipse of another texture crosses it.

    Args:
        folder: an existing folder.
        width: even.
        height: even.
        frames: at least 1.
        coverage: share of the frame that the mask takes, above 0, at most 0.5.
        seed: of the textures.

    Returns:
        The paths of the composite and of the matte (white on black, limited range).

    Raises:
        ImportError: PyAV or OpenCV is missing.
        ValueError: a size, length or coverage outside these bounds.
    """
    if width % 2 or height % 2 or min(width, height) < 16:
        raise ValueError(f"width, height: expected even numbers from 16, got {width}x{height}")
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, got {frames}")
    if not 0 < coverage <= 0.5:
        raise ValueError(f"coverage: expected above 0 and at most 0.5, got {coverage}")
    clip, matte = folder / "clip.mp4", folder / "matte.mp4"
    scenes = _scenes(width, height, frames, coverage, seed)
    with _Encoder(clip, width, height) as picture, _Encoder(matte, width, height) as mask:
        for composite, weight in scenes:
            picture.write(composite, "rgb24")
            mask.write(_limited(weight), "yuv420p")
    return clip, matte


def _scenes(
    width: int, height: int, frames: int, coverage: float, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Composites [H,W,3] and masks [H,W], uint8."""
    import cv2

    random = np.random.default_rng(seed)
    size = (height + _MARGIN, width + _MARGIN)
    scene, thing = _texture(size, random), _texture(size, random)
    thing = (thing * np.float32(_WRONG_LIGHT)).astype(np.uint8)
    grain = random.integers(-_GRAIN, _GRAIN + 1, (height, width, 1), dtype=np.int8).astype(np.int16)
    ellipse = _ellipse(width, height, coverage)
    for i in range(frames):
        x, y = (3 * i) % _MARGIN, (2 * i) % _MARGIN
        behind = scene[y : y + height, x : x + width]
        ahead = thing[_MARGIN - y :, _MARGIN - x :][:height, :width]
        along = 0.5 + 0.22 * np.sin(2 * np.pi * i / 100)
        shift = np.float32([[1, 0, (along - 0.5) * width], [0, 1, 0]])
        mask = cv2.warpAffine(ellipse, shift, (width, height))
        weight = mask[..., None].astype(np.uint16)
        mixed = (ahead * weight + behind * (255 - weight) + 127) // 255
        mixed = mixed.astype(np.int16) + np.roll(grain, 17 * i, axis=1)
        yield mixed.clip(0, 255).astype(np.uint8), mask


def _texture(size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """[H,W,3] uint8: noise at every scale, each half as strong as the one twice as coarse."""
    import cv2

    height, width = size
    picture = np.full((height, width, 3), 0.5, np.float32)
    cells, strength = 4, 0.5
    while cells < height:
        coarse = random.standard_normal((cells, max(1, cells * width // height), 3))
        # Colours of one thing are alike.
        coarse = 0.7 * coarse.mean(-1, keepdims=True) + 0.3 * coarse
        coarse = cv2.resize(
            coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
        )
        picture += strength * 0.5 * coarse
        cells, strength = cells * 2, strength * 0.5
    return (picture.clip(0.02, 0.98) * 255).astype(np.uint8)


def _ellipse(width: int, height: int, coverage: float) -> np.ndarray:
    """[H,W] uint8, in the middle."""
    rows = (np.arange(height, dtype=np.float32)[:, None] - height / 2) / height
    columns = (np.arange(width, dtype=np.float32)[None] - width / 2) / width
    radius = np.sqrt(coverage / np.pi)
    outside = (np.sqrt(rows * rows + columns * columns) - radius) * height
    return ((0.5 - outside / _SOFT).clip(0, 1) * 255).round().astype(np.uint8)


def _limited(mask: np.ndarray) -> np.ndarray:
    """A mask [H,W] as the planes [H*3/2,W] of a limited-range picture."""
    height, width = mask.shape
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = np.rint(16 + mask * np.float32(219 / 255)).astype(np.uint8)
    return planes


class _Encoder:
    """Writes pictures as H.264, tagged as BT.709 in limited range."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        from ..media.errors import require_av

        self._av = require_av()
        self._container = self._av.open(str(path), "w")
        self._stream = self._container.add_stream(
            "libx264", rate=RATE, options={"preset": "veryfast", "crf": "20"}
        )
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1

    def write(self, picture: np.ndarray, name: str) -> None:
        frame = self._av.VideoFrame.from_ndarray(picture, format=name)
        if name == "rgb24":
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.colorspace, frame.color_range = 1, 1
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, kind: Any, *rest: object) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

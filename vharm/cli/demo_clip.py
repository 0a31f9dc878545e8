# SPDX-License-Identifier: Apache-2.0
"""The demo's clip: a portrait cut out, put under a wrong light, and pasted back in motion.

The photograph is matplotlib's sample picture of Rear Admiral Grace Hopper (US Navy, public
domain). Its own studio backdrop, with her painted out, is the background, so that the light the
foreground should have is known: it is the photograph's. Two shots with a hard cut between.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .. import ops

WRONG_LIGHT = {"temperature": 0.4, "brightness": -0.12, "contrast": 0.12}
"""What is done to the foreground, as white-box filter arguments in [-1,1]: warm, darker, harder.

Chosen among some thirty trials as a mismatch that colour transfer mends. It does not mend all: a
flat or much too dark foreground on this backdrop stays as far off, or gets worse (the uniform is
truly darker than the cloth behind it). So the demo shows how the tool works and is no benchmark.
"""

# Her outline in the photograph of 512x600 pixels, (x, y), drawn by hand.
OUTLINE = (
    (0, 600), (8, 590), (20, 470), (42, 385), (100, 362), (150, 345), (185, 325), (204, 312),
    (196, 296), (176, 292), (163, 262), (153, 215), (155, 165), (152, 138), (154, 100), (175, 84),
    (186, 60), (215, 36), (248, 24), (285, 27), (322, 42), (345, 64), (355, 86), (371, 92),
    (371, 160), (376, 185), (370, 230), (356, 275), (345, 305), (330, 318), (350, 336), (400, 358),
    (460, 376), (487, 386), (500, 430), (510, 480), (511, 600),
)  # fmt: skip
FLAG_EDGE = 205  # column where the flag ends behind her
CLOTH = (480, 508, 350)  # columns, and rows from the top, that show nothing but the backdrop
HEIGHT, WIDTH = 420, 747  # the set: the photograph's upper part, the backdrop continued to 16:9


@dataclass(frozen=True)
class Shot:
    """A camera's window on the set and the foreground's way through it.

    window: (x, y, width) on the set at the shot's start and end; height follows the frame.
    offset: the foreground's shift in set pixels at start and end. mirrored: flipped.
    """

    window: tuple[tuple[float, float, float], tuple[float, float, float]]
    offset: tuple[tuple[float, float], tuple[float, float]]
    mirrored: bool = False


SHOTS = (
    Shot(((40, 0, 700), (0, 0, 640)), ((60, 6), (5, 0))),
    Shot(((90, 16, 530), (20, 16, 570)), ((20, 2), (44, 0)), mirrored=True),
)


class DemoClip:
    """Frames of the clip, made one at a time.

    Args:
        width, height: pixels, even.
        frame_count: at least 2; the cut is in the middle.
        rate: frames a second.

    Raises:
        ImportError: opencv, matplotlib or Pillow is missing. ValueError: too few frames.
    """

    def __init__(self, width: int, height: int, frame_count: int, rate: int = 25) -> None:
        for module, package in (("cv2", "opencv"), ("matplotlib", "matplotlib"), ("PIL", "pillow")):
            if importlib.util.find_spec(module) is None:
                raise ImportError(f'the demo needs {package}: pip install "vharm[cli]"')
        if frame_count < 2:
            raise ValueError(f"frame_count: expected at least 2, got {frame_count}")
        self.width, self.height = width, height
        self.frame_count, self.rate = frame_count, rate
        self.cut = frame_count // 2

    @cached_property
    def _set(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Backdrop, foreground, foreground under the wrong light [H,W,3] and matte [H,W], float."""
        photo = _photograph()
        matte = _matte(photo)
        true = photo.astype(np.float32) / 255
        backdrop = _backdrop(photo, matte)
        wide = [_widened(true), _widened(wrong_light(true)), _widened(matte)]
        return backdrop, wide[0], wide[1], wide[2]

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields (composite, mask, truth): uint8 RGB [H,W,3], uint8 [H,W] and RGB [H,W,3]."""
        backdrop, true, wrong, matte = self._set
        for index in range(self.frame_count):
            behind, ahead = self._cameras(index)
            base = self._seen(backdrop, behind)
            mask = self._seen(matte, ahead)
            # Rounded first, so that the mask that is saved is the one that was used.
            mask = np.round(np.clip(mask, 0, 1) * 255) / 255
            pasted = [
                base + mask[..., None] * (self._seen(front, ahead) - base)
                for front in (wrong, true)
            ]
            composite, truth = (np.round(np.clip(p, 0, 1) * 255).astype(np.uint8) for p in pasted)
            yield composite, np.round(mask * 255).astype(np.uint8), truth

    def _cameras(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Maps [2,3] from frame pixels to set pixels, for the backdrop and for the foreground."""
        number = int(index >= self.cut)
        first, count = (self.cut, self.frame_count - self.cut) if number else (0, self.cut)
        shot = SHOTS[number]
        along = (index - first) / max(count - 1, 1)
        along = 0.5 - 0.5 * math.cos(math.pi * along)
        x, y, wide = _between(*shot.window, along)
        shift = _between(*shot.offset, along)
        scale = wide / self.width
        y = min(y, HEIGHT - scale * self.height)
        camera = np.array([[scale, 0, x], [0, scale, y]])
        if shot.mirrored:
            camera[0] = (-scale, 0, x + scale * (self.width - 1))
        return camera, camera - np.array([[0, 0, shift[0]], [0, 0, shift[1]]])

    def _seen(self, picture: np.ndarray, camera: np.ndarray) -> np.ndarray:
        import cv2

        # Twice the size and averaged down: mattes must not alias.
        fine = camera.copy()
        fine[:, :2] /= 2
        fine[:, 2] -= 0.25 * np.abs(camera[1, 1])
        big = cv2.warpAffine(
            picture, fine, (2 * self.width, 2 * self.height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return cv2.resize(big, (self.width, self.height), interpolation=cv2.INTER_AREA)


def wrong_light(image: np.ndarray) -> np.ndarray:
    """The picture [H,W,3], float in [0,1], with `WRONG_LIGHT`."""
    names = tuple(WRONG_LIGHT)
    arguments = torch.tensor([[WRONG_LIGHT[name] for name in names]])
    changed = ops.filter_chain(
        torch.from_numpy(image)[None], None, arguments, filters=names, layout="NHWC"
    )
    return changed[0].numpy()


def _between(start: tuple[float, ...], end: tuple[float, ...], along: float) -> list[float]:
    return [a + (b - a) * along for a, b in zip(start, end, strict=True)]


def _photograph() -> np.ndarray:
    """RGB uint8 [600,512,3]."""
    from matplotlib import cbook
    from PIL import Image

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


def _matte(photo: np.ndarray) -> np.ndarray:
    """Her soft matte, float [600,512]: GrabCut decides within a band around the outline."""
    import cv2

    inside = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.array(OUTLINE, np.int32)], 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    sure = cv2.erode(inside, kernel, borderValue=1)
    near = cv2.dilate(inside, kernel)
    labels = np.full(inside.shape, cv2.GC_BGD, np.uint8)
    labels[near > 0] = cv2.GC_PR_BGD
    labels[inside > 0] = cv2.GC_PR_FGD
    labels[sure > 0] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(
        np.ascontiguousarray(photo[..., ::-1]), labels, None, *models, 3, cv2.GC_INIT_WITH_MASK
    )
    hard = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    # The band's small islands and holes are noise.
    small = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    hard = cv2.morphologyEx(cv2.morphologyEx(hard, cv2.MORPH_OPEN, small), cv2.MORPH_CLOSE, small)
    return np.clip(cv2.GaussianBlur(hard.astype(np.float32), (0, 0), 1.2) * 1.25 - 0.2, 0, 1)


def _backdrop(photo: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """The set without her, float [HEIGHT,WIDTH,3]; soft, as a backdrop out of focus is."""
    import cv2

    hole = cv2.dilate((matte > 0.01).astype(np.uint8), np.ones((21, 21), np.uint8))[:HEIGHT]
    rows = photo[:HEIGHT].copy()
    # To the right of the flag hangs plain cloth: each row continues in its own colour.
    clear = rows[: CLOTH[2], CLOTH[0] : CLOTH[1]].mean(axis=1, keepdims=True)
    clear = np.pad(clear, ((0, HEIGHT - len(clear)), (0, 0), (0, 0)), mode="edge")
    cloth = cv2.GaussianBlur(clear, (1, 0), 0, sigmaY=15).reshape(HEIGHT, 1, 3)
    right = hole.astype(bool) & (np.arange(rows.shape[1]) >= FLAG_EDGE)
    rows = np.where(right[..., None], np.round(cloth).astype(np.uint8), rows)
    left = (hole * ~right).astype(np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(rows), left, 5, cv2.INPAINT_TELEA)
    wide = _widened(filled.astype(np.float32) / 255)
    # What was painted in is smeared; blurring it and only it makes it part of the blur behind.
    painted = _widened(cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 4))
    soft = cv2.GaussianBlur(wide, (0, 0), 7)
    return wide + painted[..., None] * (soft - wide)


def _widened(picture: np.ndarray) -> np.ndarray:
    """The upper part, continued to the right by its mirror image; a matte by zeros."""
    rows = picture[:HEIGHT]
    extra = WIDTH - rows.shape[1]
    if rows.ndim == 2:
        return np.pad(rows, ((0, 0), (0, extra)))
    plain = rows[:, CLOTH[1] - 118 : CLOTH[1]][:, ::-1]
    return np.concatenate([rows, *([plain, plain[:, ::-1]] * 2)], axis=1)[:, :WIDTH]

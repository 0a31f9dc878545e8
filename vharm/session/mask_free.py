# SPDX-License-Identifier: Apache-2.0
"""Clips without masks: a method's own map of what looks pasted in takes their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..media.frame import Frame
from ..media.mask import Mask
from .apply import TensorFrame, thumbnail

if TYPE_CHECKING:
    from ..methods import Method
    from .report import Report

MASK_THRESHOLD = 0.3
"""Value of the map from which a pixel belongs to the foreground."""
EDGE = 0.1
"""The matte rises from 0 to 1 while the map goes from this much below the threshold to above."""
LEAST_AREA, LARGEST_AREA = 0.002, 0.95
"""Shares of the frame a foreground may take; a map above the threshold everywhere tells nothing."""
LEAST_CONFIDENCE = 0.3
"""The map's mean inside minus its mean outside, below which a frame counts as harmonious; for a
threshold below `MASK_THRESHOLD` it is lower in proportion."""
DOUBTFUL = 0.5
"""Confidence of a clip below which the report warns."""
NOISE = 0.05
"""Values of a soft map below this count as 0."""
# Guided filter: radius as a share of the small side, and the variance taken for noise.
_RADIUS, _VARIANCE = 1 / 32, 1e-3
_LUMA = (0.2126, 0.7152, 0.0722)


class NothingFoundError(ValueError):
    """In no frame of a clip does the method's map tell a foreground from the rest."""


class MaskFinder:
    """Masks for a clip's frames, from the method's `predict_masks`.

    The map is made at the method's working size, brought to the frame's by a guided filter (He et
    al., "Guided Image Filtering", TPAMI 2013, with coefficients of the small picture), and cut at
    the threshold with an edge of its own. A frame whose map does not tell a foreground from the
    rest (see the constants of this module) gets an empty mask.

    Args:
        method: one that `predicts_masks`.
        device: where it runs.
        threshold: 0 keeps the map's own soft values.
        batch: frames given to it at once, which are then held in memory.

    Attributes:
        used: whether masks were asked for.
        seconds: spent on them.
    """

    def __init__(self, method: Method, device: torch.device, threshold: float, batch: int) -> None:
        self.method, self.device, self.threshold = method, device, threshold
        self.batch = max(1, batch)
        self.used, self.seconds = False, 0.0
        self._restart()

    def pairs(
        self, frames: Iterator[Frame], every: int | None = None,
        shape: Callable[[Mask], Mask] | None = None,
    ) -> Iterator[tuple[Frame, Mask]]:  # fmt: skip
        """Frames with their masks.

        Args:
            frames: what to look at; at most `batch` are held.
            every: look at every n-th frame only and give the others empty masks; None: at all.
            shape: what is done to a mask before it is used, such as growing it.

        Raises:
            NothingFoundError: after the last frame, where nothing was found in any of them.
        """
        self._restart()
        self.used = True
        number, group = 0, []
        for frame in frames:
            group.append(frame)
            del frame
            if len(group) < self.batch:
                continue
            yield from self._masked(group, number, every, shape)
            number += self.batch
        count = number + len(group)
        yield from self._masked(group, number, every, shape)
        if count and not self._confidences:
            raise NothingFoundError(
                f"masks: none were given, and {self.method.name} finds nothing that looks pasted "
                f"in: in no frame is its map at {self._limit:g} or more over {LEAST_AREA:.1%} to "
                f"{LARGEST_AREA:.0%} of the picture and {self._least:g} above the rest (its "
                f"highest value is {self._highest:.2f}); give masks, or a lower mask_threshold"
            )

    def tell(self, report: Report) -> None:
        """Writes what was found into the report."""
        report.mask_confidence = float(np.mean(self._confidences))
        report.mask_area = float(np.mean(self._areas))
        report.stages["masks"] = self.seconds
        if report.mask_confidence < DOUBTFUL:
            report.warnings.append(
                f"{self.method.name} found the foreground with a confidence of "
                f"{report.mask_confidence:.2f} of 1 only: look at it with mask_out, or give masks"
            )

    def _restart(self) -> None:
        self._confidences: list[float] = []
        self._areas: list[float] = []
        self._highest = 0.0

    @property
    def _limit(self) -> float:
        return self.threshold or MASK_THRESHOLD

    @property
    def _least(self) -> float:
        return LEAST_CONFIDENCE * min(1.0, self._limit / MASK_THRESHOLD)

    def _masked(
        self, group: list[Frame], first: int, every: int | None,
        shape: Callable[[Mask], Mask] | None,
    ) -> Iterator[tuple[Frame, Mask]]:  # fmt: skip
        start = time.perf_counter()
        wanted = [i for i in range(len(group)) if every is None or (first + i) % every == 0]
        masks: dict[int, Mask] = {}
        if wanted:
            size = self.method.working_size(group[0].height, group[0].width)
            thumbs = torch.stack([thumbnail(group[i], size, self.device) for i in wanted])
            maps = self.method.predict_masks(thumbs).float().clamp(0, 1)
            for i, found in zip(wanted, maps, strict=True):
                masks[i] = self._mask(group[i], found)
                if shape is not None:
                    masks[i] = shape(masks[i])
        self.seconds += time.perf_counter() - start
        for i in range(len(group)):
            frame = group.pop(0)
            mask = masks.pop(i, None)
            yield frame, _empty(frame) if mask is None else mask
            del frame, mask

    def _mask(self, frame: Frame, found: Tensor) -> Mask:
        """The matte [H,W] of a map [1,h,w], as uint8; empty where nothing stands out."""
        inside = found >= self._limit
        area = float(inside.float().mean())
        self._highest = max(self._highest, float(found.max()))
        if not LEAST_AREA <= area <= LARGEST_AREA:
            return _empty(frame)
        confidence = float(found[inside].mean() - found[~inside].mean())
        if confidence < self._least:
            return _empty(frame)
        self._confidences.append(confidence)
        self._areas.append(area)
        matte = guided(found, _luma(frame))
        if self.threshold:
            matte = (matte - self.threshold + EDGE) / (2 * EDGE)
        else:
            matte = torch.where(matte < NOISE, 0, matte)
        data = (matte.clamp(0, 1) * 255).round().to(torch.uint8)
        return Mask(data if isinstance(frame, TensorFrame) else data.cpu().numpy())


def guided(small: Tensor, guide: Tensor) -> Tensor:
    """A small map at a picture's size, its edges drawn to the picture's.

    Args:
        small: [1,h,w].
        guide: [H,W] in [0,1].

    Returns:
        [H,W] on the guide's device; where the guide is flat, the map smoothed a little.
    """
    small = small[None].to(guide.device)
    size = tuple(small.shape[2:])
    seen = F.interpolate(guide[None, None], size, mode="bilinear", antialias=True)
    radius = max(1, round(min(size) * _RADIUS))

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)

    average, height = mean(seen), mean(small)
    slope = mean(seen * small) - average * height
    slope = slope / (mean(seen * seen) - average * average + _VARIANCE)
    parts = torch.cat((mean(slope), mean(height - slope * average)), 1)
    a, b = F.interpolate(parts, guide.shape, mode="bilinear", align_corners=False)[0]
    return a * guide + b


def _luma(frame: Frame) -> Tensor:
    """[H,W] in [0,1], in coded values."""
    plane, color = frame.tensors()[0], frame.color
    if plane.ndim == 3:
        plane = plane.float() @ plane.new_tensor(_LUMA, dtype=torch.float32)
    return ((plane.float() - color.black) / (color.white - color.black)).clamp(0, 1)


def _empty(frame: Frame) -> Mask:
    plane = frame.tensors()[0]
    data = torch.zeros(plane.shape[:2], dtype=torch.uint8, device=plane.device)
    return Mask(data if isinstance(frame, TensorFrame) else data.numpy())

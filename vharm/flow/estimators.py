# SPDX-License-Identifier: Apache-2.0
"""Estimators of optical flow, by name."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

ESTIMATORS = ("dis", "spynet", "none")
DIS_SMALLEST = 16
"""Frames of a shorter side than this have no pyramid for DIS."""

SHIPPED = Path(__file__).parent.parent / "weights" / "spynet.safetensors"


class FlowEstimator(ABC):
    """Estimates flow between frames.

    Attributes:
        name: one of `ESTIMATORS`.
        words: what it is, for tables.
    """

    name: ClassVar[str]
    words: ClassVar[str]

    @torch.no_grad()
    def __call__(self, current: Tensor, other: Tensor) -> Tensor:
        """The flow from `current` to `other`: float32 [N,2,H,W] on their device.

        Args:
            current: [N,3,H,W] RGB, uint8 or float in [0,1].
            other: of the same shape, dtype and device.

        Raises:
            TypeError, ValueError: naming the argument; frames too small for the estimator.
        """
        for name, value in (("current", current), ("other", other)):
            if not isinstance(value, Tensor):
                raise TypeError(f"flow: {name} must be a torch.Tensor, got {type(value).__name__}")
            if value.dtype != torch.uint8 and not value.is_floating_point():
                raise TypeError(f"flow: {name} must be uint8 or float, got {value.dtype}")
            if value.ndim != 4 or value.shape[1] != 3:
                raise ValueError(
                    f"flow: {name} must have shape [N, 3, H, W], got {list(value.shape)}"
                )
        if current.shape != other.shape or current.dtype != other.dtype:
            raise ValueError(
                f"flow: other must be like current, {list(current.shape)} {current.dtype}, got "
                f"{list(other.shape)} {other.dtype}"
            )
        if not len(current):
            return torch.zeros(0, 2, *current.shape[2:], device=current.device)
        return self._estimate(current, other).float()

    @abstractmethod
    def _estimate(self, current: Tensor, other: Tensor) -> Tensor:
        """The flow between checked frames, of which there is at least one pair."""


class NoFlow(FlowEstimator):
    """Nothing moves: for stills, and to see what flow is worth."""

    name = "none"
    words = "no flow"

    def _estimate(self, current: Tensor, other: Tensor) -> Tensor:
        return torch.zeros(len(current), 2, *current.shape[2:], device=current.device)


class Dis(FlowEstimator):
    """OpenCV's dense inverse search, at its medium preset; needs no weights.

    Raises:
        ImportError: OpenCV is missing.

    Source: Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016.
    """

    name = "dis"
    words = "DIS (OpenCV)"

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise ImportError(
                'flow: "dis" estimates motion by OpenCV: pip install "vharm[video]"; or use '
                '"spynet" with weights, or "none"'
            ) from error
        self._cv2: Any = cv2
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def _estimate(self, current: Tensor, other: Tensor) -> Tensor:
        height, width = current.shape[2:]
        if min(height, width) < DIS_SMALLEST:
            raise ValueError(
                f"flow: frames must be {DIS_SMALLEST}x{DIS_SMALLEST} pixels or larger to estimate "
                f"motion, got {width}x{height}"
            )
        found = [
            torch.from_numpy(self._dis.calc(self._grey(one), self._grey(two), None))
            for one, two in zip(current, other, strict=True)
        ]
        return torch.stack(found).permute(0, 3, 1, 2).contiguous().to(current.device)

    def _grey(self, frame: Tensor) -> np.ndarray:
        if frame.dtype != torch.uint8:
            frame = (frame.float().clamp(0, 1) * 255).round().to(torch.uint8)
        picture = np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())
        return self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2GRAY)


class SpyNetFlow(FlowEstimator):
    """The network SPyNet.

    Args:
        weights: a vharm `.safetensors` file or a published checkpoint, or the network itself;
            None takes the weights that come with vharm.
        device: where the network runs.

    Raises:
        vharm.models.weights.WeightsError: no weights, or a file that cannot be used.
    """

    name = "spynet"
    words = "SPyNet"

    def __init__(self, weights: Any = None, *, device: str | torch.device = "cpu") -> None:
        from vharm.models.spynet import SpyNet
        from vharm.models.weights import WeightsError

        if isinstance(weights, SpyNet):
            self.network = weights
            return
        if weights is None and not SHIPPED.is_file():
            raise WeightsError(
                'flow: "spynet" has no trained weights here; give a file (`vharm train spynet` '
                'makes one, published checkpoints are read too), or use "dis"'
            )
        path = SHIPPED if weights is None else weights
        self.network = SpyNet.from_weights(path).to(device).eval()

    def _estimate(self, current: Tensor, other: Tensor) -> Tensor:
        device = next(self.network.parameters()).device
        pair = [
            frame.to(device).float() / (255 if frame.dtype == torch.uint8 else 1)
            for frame in (current, other)
        ]
        return self.network(*pair).to(current.device)


def open_estimator(
    name: str = "dis",
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
) -> FlowEstimator:
    """Makes an estimator.

    Args:
        name: one of `ESTIMATORS`.
        weights: for "spynet".
        device: for "spynet".

    Raises:
        ValueError: another name, or weights for an estimator that has none. ImportError,
        WeightsError: what the estimator needs is not there.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"flow: expected one of {', '.join(ESTIMATORS)}, got {name!r}")
    if name == "spynet":
        return SpyNetFlow(weights, device=device)
    if weights is not None:
        raise ValueError(f"flow: {name!r} takes no weights, got {os.fspath(weights)!r}")
    return Dis() if name == "dis" else NoFlow()

# SPDX-License-Identifier: Apache-2.0
"""Flow in one call."""

from __future__ import annotations

import os

from torch import Tensor

from .estimators import FlowEstimator, open_estimator


def estimate(
    current: Tensor,
    other: Tensor,
    *,
    estimator: str | FlowEstimator = "dis",
    weights: str | os.PathLike[str] | None = None,
) -> Tensor:
    """Where each pixel of `current` is in `other`: float32 [N,2,H,W], (dx, dy) in pixels.

    Args:
        current: [N,3,H,W] RGB, uint8 or float in [0,1].
        other: of the same shape, dtype and device.
        estimator: "dis" (OpenCV, no weights), "spynet", "none" (zeros), or one that was made.
        weights: for "spynet".

    Raises:
        TypeError, ValueError, ImportError, vharm.models.weights.WeightsError: see
            `open_estimator` and `FlowEstimator`.
    """
    return _made(estimator, weights)(current, other)


def neighbours(
    frames: Tensor,
    *,
    estimator: str | FlowEstimator = "dis",
    weights: str | os.PathLike[str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Flow between consecutive frames, both ways.

    Args:
        frames: [T,3,H,W] RGB, uint8 or float in [0,1].
        estimator, weights: as for `estimate`.

    Returns:
        From each frame t+1 to t, and from each t to t+1: float32 [T-1,2,H,W].
    """
    made = _made(estimator, weights)
    return made(frames[1:], frames[:-1]), made(frames[:-1], frames[1:])


def _made(estimator: str | FlowEstimator, weights: str | os.PathLike[str] | None) -> FlowEstimator:
    if isinstance(estimator, FlowEstimator):
        if weights is not None:
            raise ValueError("flow: the estimator is made already; give weights where it is made")
        return estimator
    return open_estimator(estimator, weights=weights)

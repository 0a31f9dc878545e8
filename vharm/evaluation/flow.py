# SPDX-License-Identifier: Apache-2.0
"""Where each pixel was one frame before: exact where that is known, else estimated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.types import Sample
from ..ops import flow_consistency

DIS_SMALLEST = 16
"""Frames of a shorter side than this have no pyramid for the estimator."""


@dataclass(frozen=True)
class ClipFlow:
    """Backward flow between consecutive frames.

    Attributes:
        flow: float32 [T-1,2,H,W], (dx, dy) in pixels: p of frame t+1 was at p + flow(p) in t.
        valid: bool [T-1,1,H,W]: where that point was seen in frame t.
        exact: whether the flow is known and not estimated.
        estimator: in words, for tables.
    """

    flow: Tensor
    valid: Tensor
    exact: bool
    estimator: str


def clip_flow(sample: Sample) -> ClipFlow:
    """The sample's own flow, or OpenCV's DIS on its true frames (composites where there are none).

    Points are seen where forward and backward estimate agree; see `vharm.ops.flow_consistency`.

    Raises:
        ImportError: a flow must be estimated and OpenCV is missing.
        ValueError: frames too small for it.
    """
    if sample.flow is not None:
        valid = sample.valid
        if valid is None:
            valid = torch.ones_like(sample.flow[:, :1], dtype=torch.bool)
        return ClipFlow(sample.flow.float(), valid, True, "exact")
    true = sample.target is not None
    frames = sample.target if true else sample.composite
    source = "the true frames" if true else "the composites"
    backward, forward = estimate_flow(frames)
    return ClipFlow(
        backward, flow_consistency(backward, forward), False, f"DIS (OpenCV) on {source}"
    )


def estimate_flow(frames: Tensor) -> tuple[Tensor, Tensor]:
    """DIS flow between consecutive frames, uint8 [T,3,H,W].

    Returns:
        From each frame t+1 to t, and from each t to t+1: float32 [T-1,2,H,W].

    Raises:
        ImportError: OpenCV is missing. ValueError: frames too small.

    Source: Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            'temporal metrics estimate motion by OpenCV: pip install "vharm[video]"; or leave TL, '
            "L_T1 and L_T2 out of metrics"
        ) from error
    height, width = frames.shape[2:]
    if min(height, width) < DIS_SMALLEST:
        raise ValueError(
            f"flow: frames must be {DIS_SMALLEST}x{DIS_SMALLEST} pixels or larger to estimate "
            f"motion, got {width}x{height}"
        )
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [
        cv2.cvtColor(np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy()), cv2.COLOR_RGB2GRAY)
        for frame in frames
    ]
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for before, after in zip(gray[:-1], gray[1:], strict=True):
        for pair, out in zip(((after, before), (before, after)), found, strict=True):
            out.append(torch.from_numpy(dis.calc(*pair, None)).permute(2, 0, 1).contiguous())
    if not found[0]:
        empty = torch.zeros(0, 2, height, width)
        return empty, empty.clone()
    return torch.stack(found[0]), torch.stack(found[1])

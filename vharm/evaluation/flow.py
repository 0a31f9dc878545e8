# SPDX-License-Identifier: Apache-2.0
"""Where each pixel was one frame before: exact where that is known, else estimated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.types import Sample
from ..flow import FlowEstimator, neighbours, open_estimator
from ..ops import flow_consistency


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


def clip_flow(sample: Sample, estimator: str | FlowEstimator = "dis") -> ClipFlow:
    """The sample's own flow, or one estimated on its true frames (composites where there are none).

    Points are seen where forward and backward estimate agree; see `vharm.ops.flow_consistency`.

    Args:
        sample: with frames of one size.
        estimator: see `vharm.flow.open_estimator`; asked only where the flow is not known.

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
    made = open_estimator(estimator) if isinstance(estimator, str) else estimator
    backward, forward = neighbours(frames, estimator=made)
    words = f"{made.words} on {source}"
    return ClipFlow(backward, flow_consistency(backward, forward), False, words)

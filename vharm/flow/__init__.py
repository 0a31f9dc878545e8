# SPDX-License-Identifier: Apache-2.0
"""Optical flow: where each pixel of one frame is in another.

`open_estimator("dis")` makes an estimator, `estimate` uses one at once, `neighbours` gives both
directions between consecutive frames, and a `FlowCache` estimates each pair once.

A flow is float32 [N,2,H,W], (dx, dy) in pixels from a pixel of the current frame to where it is in
the other one: what `vharm.ops.flow_warp` takes.
"""

from .cache import FlowCache
from .estimators import ESTIMATORS, Dis, FlowEstimator, NoFlow, SpyNetFlow, open_estimator
from .front import estimate, neighbours

__all__ = [
    "ESTIMATORS",
    "Dis",
    "FlowCache",
    "FlowEstimator",
    "NoFlow",
    "SpyNetFlow",
    "estimate",
    "neighbours",
    "open_estimator",
]

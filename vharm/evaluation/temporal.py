# SPDX-License-Identifier: Apache-2.0
"""Metrics of how steady a clip is.

Clips are float `[T,3,H,W]`, values 0 to 255; masks float `[T,1,H,W]` in [0,1]; flow and valid as
in `ClipFlow`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..ops import flow_warp
from ..ops import temporal_loss as regional_loss
from ..session.flicker import FlickerMeter


def tl_weights(reference: Tensor, masks: Tensor, flow: Tensor) -> Tensor:
    """How much each pixel counts in `tl`: the warped mask, less where the true frames differ.

    Args:
        reference: the true frames (composites where there are none), `[T,3,H,W]`, 0 to 255.
        masks: `[T,1,H,W]`.
        flow: `[T-1,2,H,W]`, from frame t+1 to frame t.

    Returns:
        float32 `[T-1,1,H,W]`, `warp(M_t) * mean_c exp(-|warp(X_t) - X_{t+1}|)` with values in
        [0,1]; 0 where the warp leaves the frame.
    """
    frames = reference.float() / 255
    warped = flow_warp(frames[:-1], flow)
    alike = torch.exp(-(warped - frames[1:]).abs()).mean(1, keepdim=True)
    return flow_warp(masks[:-1].float(), flow) * alike


def tl(output: Tensor, weights: Tensor, flow: Tensor) -> Tensor:
    """The temporal loss of published video tables, one value for each pair of frames.

    `255^2 sum(w^2 (warp(O_t) - O_{t+1})^2) / sum(w)`, squares summed over pixels and channels, the
    weights over pixels; NaN where all weights are 0. The figure published for HYouTube is over
    pairs of a frame and the next one of the video; on clips of every fifth frame it is larger.

    Args:
        output: `[T,3,H,W]`, 0 to 255.
        weights: of `tl_weights`.
        flow: `[T-1,2,H,W]`.

    Source: Lu et al., Deep Video Harmonization with Color Mapping Consistency, IJCAI 2022.
    """
    frames = output.float()
    squared = (flow_warp(frames[:-1], flow) - frames[1:]).square_()
    top = (squared * weights.square()).sum((1, 2, 3), dtype=torch.float64)
    return top / weights.sum((1, 2, 3), dtype=torch.float64)


def regional(output: Tensor, masks: Tensor, flow: Tensor, valid: Tensor) -> Tensor:
    """The regional temporal loss L_T without its factor lambda, one value for each pair.

    `sum(|M (O_t - warp(O_{t-1}))|^2) / N_F` with values in [0,1], squares summed over channels,
    N_F the foreground pixels that have a partner: pixels whose warp leaves the frame, or that are
    occluded, are excluded. NaN where there are none.

    Args:
        output: `[T,3,H,W]`, 0 to 255.
        masks: `[T,1,H,W]`.
        flow: `[T-1,2,H,W]`.
        valid: bool `[T-1,1,H,W]`.

    Source: Huang et al., Temporally Coherent Video Harmonization Using Adversarial Networks, IEEE
    TIP 29, 2020.
    """
    frames, now = output.float() / 255, masks[1:].float()
    loss = regional_loss(frames[1:].contiguous(), frames[:-1].contiguous(), flow, now, valid=valid)
    _, inside = flow_warp(now, flow, return_valid=True)
    weight = (now * (inside & valid)).sum((1, 2, 3))
    return torch.where(weight > 0, 3 * loss.double(), math.nan)


def colour_change(output: Tensor, composite: Tensor, masks: Tensor) -> Tensor:
    """Mean foreground colour after minus before, `[T,3]` float64, 0 to 255; NaN without mask."""
    weight = masks.double()
    change = ((output.double() - composite.double()) * weight).sum((2, 3))
    return change / weight.sum((2, 3))


def flicker(change: Tensor) -> float | None:
    """Standard deviation over time of `colour_change` `[T,3]`, root mean square over channels.

    Frames whose change is NaN are left out; None where fewer than two are left. The input's own
    changes cancel, as only the difference to it is looked at; the same measure that
    `vharm.Session` reports, over every pixel.
    """
    meter = FlickerMeter()
    for red, green, blue in change[~change.isnan().any(1)].tolist():
        meter.update((red / 255, green / 255, blue / 255))
    return meter.value()

# SPDX-License-Identifier: Apache-2.0
"""Warping by a flow in plain PyTorch.

Images are float `[N,C,H,W]`, flows float `[N,2,H,W]` = (dx, dy) in pixels. The whole part of the
displacement is taken off before the pixel's own coordinate is added, so that the weights keep the
displacement's full precision wherever in the frame the pixel is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Whole numbers up to here are exact in float32; a larger displacement is outside of any frame.
FAR = 2.0**24


class Taps(NamedTuple):
    """Where samples lie: the tap at the upper left `[N,1,H,W]` and the way to the next, 0 to 1."""

    x: Tensor
    y: Tensor
    fx: Tensor
    fy: Tensor


def taps(flow: Tensor) -> Taps:
    """A NaN counts as minus infinity. The gradient is that of the cell to the right and below."""
    height, width = flow.shape[2:]
    d = flow.nan_to_num(nan=-FAR).clamp(-FAR, FAR)
    whole = d.detach().floor()
    x = torch.arange(width, device=flow.device).view(1, 1, 1, -1) + whole[:, :1].long()
    y = torch.arange(height, device=flow.device).view(1, 1, -1, 1) + whole[:, 1:].long()
    f = d - whole
    return Taps(x, y, f[:, :1], f[:, 1:])


def valid(at: Taps) -> Tensor:
    """`[N,1,H,W]` bool: the sample lies inside the frame, edges included."""
    height, width = at.x.shape[2:]
    right, below = at.x + (at.fx > 0), at.y + (at.fy > 0)
    return (at.x >= 0) & (right < width) & (at.y >= 0) & (below < height)


def _tap(image: Tensor, x: Tensor, y: Tensor, border: bool) -> Tensor:
    n, c, height, width = image.shape
    if height * width == 0:
        return image.sum() * image.new_zeros(n, c, *x.shape[2:])
    near = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    value = image.flatten(2).gather(2, near.flatten(2).expand(n, c, -1)).view(n, c, *x.shape[2:])
    if border:
        return value
    return torch.where((x >= 0) & (x < width) & (y >= 0) & (y < height), value, 0)


def sample(image: Tensor, at: Taps, border: bool) -> Tensor:
    """Bilinear; taps outside are the nearest pixel inside, or zero."""
    a, b = _tap(image, at.x, at.y, border), _tap(image, at.x + 1, at.y, border)
    c, d = _tap(image, at.x, at.y + 1, border), _tap(image, at.x + 1, at.y + 1, border)
    left, right = a + at.fy * (c - a), b + at.fy * (d - b)
    return left + at.fx * (right - left)


def flow_warp(image: Tensor, flow: Tensor, border: bool) -> tuple[Tensor, Tensor]:
    """`image(p + flow(p))`, and where that lies inside the frame."""
    at = taps(flow)
    return sample(image, at, border), valid(at)


def temporal_loss(current: Tensor, previous: Tensor, flow: Tensor, weight: Tensor) -> Tensor:
    """`[N]`: `sum((w d)^2) / (C sum(w))` over the pixels whose warp stays inside."""
    at = taps(flow)
    w = torch.where(valid(at), weight, 0)
    d = torch.where(w > 0, current - sample(previous, at, True), 0)
    total = w.sum((1, 2, 3))
    some = total > 0
    loss = (w * d).square().sum((1, 2, 3)) / torch.where(some, total, 1)
    return torch.where(some, loss, 0) / max(current.shape[1], 1)


def flow_consistency(forward: Tensor, backward: Tensor, alpha: float, beta: float) -> Tensor:
    """`[N,1,H,W]` bool: there and back again ends where it began."""
    at = taps(forward)
    back = sample(backward, at, True)
    gap = (forward + back).square().sum(1, keepdim=True)
    size = forward.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    return valid(at) & (gap < alpha * size + beta)

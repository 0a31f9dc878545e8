# SPDX-License-Identifier: Apache-2.0
"""Colour statistics of a region: what classical colour transfers are made from.

Bytes moved per pixel: one read of the image and the mask, uint8 RGB with a float mask 7 B, float32
16 B; the backward pass reads them once more and writes the gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _backends, _check, _statistics_library
from .reference import statistics as reference


def masked_moments(
    image: Tensor, mask: Tensor | None, *, layout: str = "NCHW"
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of an image's colours, weighted by a mask.

    Args:
        image: RGB `[N,3,H,W]` (or `[N,H,W,3]`), uint8/uint16 full scale (taken as [0,1]) or float.
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale, or float in [0,1];
            None means all ones.
        layout: "NCHW" or "NHWC".

    Returns:
        `mean` `[N,3]`, `covariance` `[N,3,3]` (divided by the weight, not by weight - 1) and
        `weight` `[N]`, the mask's sum; float32 (float64 for float64 images), all zero where the
        mask is empty. On the CPU sums are in float64 and do not depend on the thread count.
        Gradients flow to `image` and `mask` (float ones); mean and covariance of an empty mask
        have none. Values that are not finite are ignored where the mask is 0.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "masked_moments"
    size = _check.image(op, image, layout)
    if mask is not None:
        _check.mask(op, mask, size, layout, image.device)
    chosen = _backends.choose(op, image.device, image.dtype)
    if chosen == "reference":
        v = _as_float(_nchw(image, layout), image)
        m = v.new_ones(size[0], 1, *size[1:])
        if mask is not None:
            m = _nchw(mask, layout).to(v.dtype) / _check.full_scale(mask.dtype)
        return reference.masked_moments(v, m)
    if mask is not None and mask.dtype == torch.float64:
        mask = mask.float()
    return _statistics_library.masked_moments(image, mask, layout == "NHWC", chosen)


def _nchw(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "NCHW" else tensor.permute(0, 3, 1, 2)


def _as_float(tensor: Tensor, image: Tensor) -> Tensor:
    wide = torch.float64 if image.dtype == torch.float64 else torch.float32
    return tensor.to(wide) / _check.full_scale(image.dtype)

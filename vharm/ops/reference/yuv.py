# SPDX-License-Identifier: Apache-2.0
"""Y'CbCr planes and R'G'B' in plain PyTorch: the definition of the yuv ops.

Chroma is repeated over the luma sites it covers and averaged on the way back, so that what is not
changed comes back exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

Planes = tuple[Tensor, Tensor, Tensor]


def spread(chroma: Tensor, height: int, width: int, log2_x: int, log2_y: int) -> Tensor:
    """Repeats a chroma plane to the luma size (odd sizes: the last site covers fewer)."""
    wide = chroma.repeat_interleave(1 << log2_y, 0).repeat_interleave(1 << log2_x, 1)
    return wide[:height, :width]


def gather(values: Tensor, log2_x: int, log2_y: int) -> Tensor:
    """Means over the luma sites of every chroma site."""
    height, width = values.shape
    step_y, step_x = 1 << log2_y, 1 << log2_x
    pad_y, pad_x = -height % step_y, -width % step_x
    padded = torch.nn.functional.pad(values, (0, pad_x, 0, pad_y))
    count = torch.nn.functional.pad(torch.ones_like(values), (0, pad_x, 0, pad_y))

    def sums(t: Tensor) -> Tensor:
        rows, columns = t.shape[0] // step_y, t.shape[1] // step_x
        return t.view(rows, step_y, columns, step_x).sum((1, 3))

    return sums(padded) / sums(count)


def to_rgb(planes: Planes, matrix: Tensor, offset: Tensor, log2_x: int, log2_y: int) -> Tensor:
    """Planes of any integer dtype to [H,W,3] float, not clamped."""
    height, width = planes[0].shape
    y = planes[0].to(matrix.dtype)
    u = spread(planes[1].to(matrix.dtype), height, width, log2_x, log2_y)
    v = spread(planes[2].to(matrix.dtype), height, width, log2_x, log2_y)
    return (torch.stack([y, u, v], -1) - offset) @ matrix.T


def to_samples(rgb: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """[H,W,3] float to samples [H,W,3], chroma at full resolution, not rounded."""
    return rgb @ matrix.T + offset


def quantize(samples: Tensor, maximum: float, dtype: torch.dtype) -> Tensor:
    """Rounds half to even into the sample range."""
    return samples.clamp(0, maximum).round().to(torch.int32).to(dtype)


def blend_planes(
    planes: Planes, changed: Tensor, mask: Tensor, matrix: Tensor, offset: Tensor,
    maximum: float, log2_x: int, log2_y: int,
) -> Planes:  # fmt: skip
    """Mixes changed RGB [H,W,3] into the planes by a mask [H,W]: luma per sample, chroma by the
    mean of its sites' changes. Samples without mask keep their value.
    """
    height, width = planes[0].shape
    samples = to_samples(changed, matrix, offset)
    out = []
    for c, plane in enumerate(planes):
        own = plane.to(changed.dtype)
        if c == 0:
            mixed = own + mask * (samples[..., 0] - own)
            touched = mask > 0
        else:
            wide = spread(own, height, width, log2_x, log2_y)
            mixed = own + gather(mask * (samples[..., c] - wide), log2_x, log2_y)
            touched = gather(mask, log2_x, log2_y) > 0
        result = quantize(mixed, maximum, plane.dtype).to(torch.int32)
        out.append(torch.where(touched, result, plane.to(torch.int32)).to(plane.dtype))
    return tuple(out)


def composite(
    foreground: Planes,
    background: Planes,
    mask: Tensor,
    offset: Tensor,
    premultiplied: bool,
    maximum: float,
    log2_x: int,
    log2_y: int,
) -> Planes:
    """Foreground over background in plane space; samples without mask are the background's own."""
    out = []
    for c, (front, back) in enumerate(zip(foreground, background, strict=True)):
        weight = mask if c == 0 else gather(mask, log2_x, log2_y)
        top, below = front.to(mask.dtype), back.to(mask.dtype)
        if premultiplied:
            mixed = top + (1 - weight) * (below - offset[c])
        else:
            mixed = below + weight * (top - below)
        result = quantize(mixed, maximum, back.dtype).to(torch.int32)
        out.append(torch.where(weight > 0, result, back.to(torch.int32)).to(back.dtype))
    return tuple(out)

# SPDX-License-Identifier: Apache-2.0
"""Metrics of frames against their true answers.

Pictures are float `[T,3,H,W]`, values 0 to 255; masks float `[T,1,H,W]` in [0,1]. All functions
give one float64 value for each frame, `[T]`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .protocol import VHARM, Protocol

WINDOW, SIGMA = 11, 1.5
"""Of the Gaussian window of SSIM (Wang et al., Image quality assessment: from error visibility to
structural similarity, IEEE TIP 13, 2004)."""


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over pixels and channels."""
    _check(output, target)
    return _squared(output, target).mean((1, 2, 3), dtype=torch.float64)


def fmse(output: Tensor, target: Tensor, masks: Tensor, protocol: Protocol = VHARM) -> Tensor:
    """Mean squared error of the foreground; NaN for a frame without any.

    See `Protocol.foreground` for the two definitions; for a binary mask, and an output that equals
    the target outside of it, they agree.
    """
    _check(output, target, masks)
    squared = _squared(output, target)
    if protocol.foreground == "ones":
        count = (masks == 1).sum((1, 2, 3)).double()
        area = output.shape[2] * output.shape[3]
        value = squared.mean((1, 2, 3), dtype=torch.float64) * area / count
        return torch.where(count > 0, value, math.nan)
    inside = (squared * masks).sum((1, 2, 3), dtype=torch.float64)
    return inside / (3 * masks.sum((1, 2, 3), dtype=torch.float64))


def psnr(output: Tensor, target: Tensor, protocol: Protocol = VHARM) -> Tensor:
    """Peak signal-to-noise ratio in dB; infinite for a frame without any error."""
    error = mse(output, target)
    if protocol.psnr_range == "prediction":
        low, high = torch.aminmax(output.flatten(1), dim=1)
        span = (high - low).double()
    else:
        span = torch.full_like(error, 255.0)
    return 10 * torch.log10(span**2 / error)


def ssim_map(output: Tensor, target: Tensor, protocol: Protocol = VHARM) -> Tensor:
    """Structural similarity at every pixel, mean over channels, float64 `[T,1,H,W]`.

    Frames are continued by their mirror image, edge pixels repeated. Computed in float64: a
    variance is a difference of large numbers, and co2net's constants are tiny.

    Raises:
        ValueError: frames smaller than the window.
    """
    _check(output, target)
    if min(output.shape[2:]) < WINDOW:
        height, width = output.shape[2:]
        raise ValueError(
            f"ssim: frames must be {WINDOW}x{WINDOW} pixels or larger, got {width}x{height}"
        )
    first, second = protocol.ssim_constants
    out = torch.zeros(len(output), 1, *output.shape[2:], dtype=torch.float64, device=output.device)
    for number, (frame, truth) in enumerate(zip(output, target, strict=True)):
        # A channel at a time: its planes stay in the cache.
        for x, y in zip(frame.double(), truth.double(), strict=True):
            mean_x, mean_y, product, squares = _blurred(
                torch.stack([x, y, x * y, (x * x).addcmul_(y, y)])
            )
            both = mean_x * mean_y
            means = (mean_x * mean_x).addcmul_(mean_y, mean_y)
            top = (2 * both).add_(first).mul_((2 * (product - both)).add_(second))
            bottom = (means + first).mul_((squares - means).add_(second))
            out[number, 0] += top.div_(bottom).div_(3)
    return out


def ssim(output: Tensor, target: Tensor, protocol: Protocol = VHARM) -> Tensor:
    """Mean of `ssim_map` over the pixels whose whole window lies inside the frame."""
    return ssim_of(ssim_map(output, target, protocol))


def ssim_of(similarity: Tensor) -> Tensor:
    """`ssim` of a map that is there already."""
    edge = WINDOW // 2
    return similarity[:, :, edge:-edge, edge:-edge].mean((1, 2, 3))


def fssim(
    output: Tensor, target: Tensor, masks: Tensor, protocol: Protocol = VHARM
) -> Tensor:  # fmt: skip
    """Mean of `ssim_map` over the mask; NaN for a frame without foreground."""
    _check(output, target, masks)
    return fssim_of(ssim_map(output, target, protocol), masks)


def fssim_of(similarity: Tensor, masks: Tensor) -> Tensor:
    """`fssim` of a map that is there already."""
    weight = masks.double()
    return (similarity * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def has_foreground(masks: Tensor, protocol: Protocol = VHARM) -> Tensor:
    """Which frames have a foreground as the protocol counts it, bool `[T]`."""
    if protocol.foreground == "ones":
        return (masks == 1).flatten(1).any(1)
    return (masks > 0).flatten(1).any(1)


def _squared(output: Tensor, target: Tensor) -> Tensor:
    return (output.double() - target.double()).square_()


BLOCK = 64
"""Pixels blurred together: a product with a matrix of BLOCK + WINDOW - 1 rows, most of them zero,
is many times faster than as many additions as the window has taps."""


def _gaussian() -> Tensor:
    """float64 [BLOCK + WINDOW - 1, BLOCK]: the window, one place further down in each column."""
    place = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(place**2) / (2 * SIGMA**2))
    matrix = torch.zeros(BLOCK + WINDOW - 1, BLOCK, dtype=torch.float64)
    for column in range(BLOCK):
        matrix[column : column + WINDOW, column] = weights / weights.sum()
    return matrix


_MATRIX = _gaussian()


def _blurred(planes: Tensor) -> Tensor:
    """Planes `[...,H,W]` float64 through the window, of the same size."""
    for _ in range(2):
        planes = _blurred_rows(planes).transpose(-1, -2)
    return planes


def _blurred_rows(planes: Tensor) -> Tensor:
    half, length = WINDOW // 2, planes.shape[-1]
    blocks = -(-length // BLOCK)
    ends = [planes[..., :half].flip(-1), planes, planes[..., -half:].flip(-1)]
    if blocks * BLOCK > length:
        ends.append(planes.new_zeros(*planes.shape[:-1], blocks * BLOCK - length))
    parts = torch.cat(ends, -1).unfold(-1, BLOCK + WINDOW - 1, BLOCK)
    return (parts @ _MATRIX.to(planes.device)).flatten(-2)[..., :length]


def _check(output: Tensor, target: Tensor, masks: Tensor | None = None) -> None:
    for name, tensor in (("output", output), ("target", target), ("masks", masks)):
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name}: expected a float tensor, got {kind}")
    shape = tuple(output.shape)
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(f"output: expected shape [T, 3, H, W], got {list(shape)}")
    if tuple(target.shape) != shape:
        raise ValueError(f"target: expected shape {list(shape)}, got {list(target.shape)}")
    if masks is not None and tuple(masks.shape) != (shape[0], 1, *shape[2:]):
        wanted = [shape[0], 1, *shape[2:]]
        raise ValueError(f"masks: expected shape {wanted}, got {list(masks.shape)}")

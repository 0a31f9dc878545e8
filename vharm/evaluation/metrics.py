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
    height, width = output.shape[2:]
    rows = max(1, STRIP // width)
    for number, (frame, truth) in enumerate(zip(output, target, strict=True)):
        for one, other in zip(_framed(frame.double()), _framed(truth.double()), strict=True):
            for top in range(0, height, rows):
                end = min(height, top + rows)
                x, y = (plane[top : end + WINDOW - 1] for plane in (one, other))
                out[number, 0, top:end] += _similarity(x, y, first, second).div_(3)
    return out


def _similarity(x: Tensor, y: Tensor, first: float, second: float) -> Tensor:
    """SSIM of two planes that have half a window more on each side."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    both = mean_x * mean_y
    means = (mean_x * mean_x).addcmul_(mean_y, mean_y)
    covariance = _blurred(x * y).sub_(both)
    spread = _blurred((x * x).addcmul_(y, y)).sub_(means)
    top = covariance.mul_(2).add_(second).mul_(both.mul_(2).add_(first))
    return top.div_(means.add_(first).mul_(spread.add_(second)))


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


STRIP = 16384
"""Pixels that are blurred together: they stay in the cache through all taps, and are too few for
PyTorch to wake its threads for each."""


def _gaussian() -> list[float]:
    half = WINDOW // 2
    weights = [math.exp(-((i - half) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)]
    return [weight / sum(weights) for weight in weights]


_WEIGHTS = _gaussian()


def _framed(planes: Tensor) -> Tensor:
    """`[C,H,W]` continued by half a window on each side."""
    half = WINDOW // 2
    for axis in (1, 2):
        length = planes.shape[axis]
        first, last = planes.narrow(axis, 0, half), planes.narrow(axis, length - half, half)
        planes = torch.cat([first.flip(axis), planes, last.flip(axis)], axis)
    return planes


def _blurred(plane: Tensor) -> Tensor:
    """`[H+10,W+10]` through the window, `[H,W]`."""
    half = WINDOW // 2
    for axis in (0, 1):
        length = plane.shape[axis] - 2 * half
        out = plane.narrow(axis, half, length) * _WEIGHTS[half]
        for tap in range(half):
            pair = plane.narrow(axis, tap, length) + plane.narrow(axis, 2 * half - tap, length)
            out.add_(pair, alpha=_WEIGHTS[tap])
        plane = out
    return plane


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

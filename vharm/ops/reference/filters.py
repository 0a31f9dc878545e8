# SPDX-License-Identifier: Apache-2.0
"""White-box filters in plain PyTorch (Ke et al., Harmonizer, ECCV 2022, section 3).

All functions work on float images `[N,3,H,W]` and arguments `[N]` in [-1,1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-6
TINY = 1e-9
LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709


def _per_image(x: Tensor) -> Tensor:
    return x[:, None, None, None]


def temperature(v: Tensor, x: Tensor, means: Tensor) -> Tensor:
    """Gains per channel that shift the grey-world means by |x| towards warm (x<0) or cold."""
    amount = x.abs()[:, None]
    # |x|/2 on green in both directions, |x| on red when x<0, on blue when x>0.
    zero = torch.zeros_like(amount)
    negative, positive = (x < 0)[:, None], (x > 0)[:, None]
    shift = torch.cat(
        [torch.where(negative, amount, zero), amount / 2, torch.where(positive, amount, zero)], 1
    )
    shifted = means + shift
    grey = means.mean(1, keepdim=True)
    shifted_grey = shifted.mean(1, keepdim=True)
    gain = shifted_grey / (shifted + EPSILON) + 1 - grey / (means + EPSILON)
    return v * gain[:, :, None, None]


def brightness(v: Tensor, x: Tensor, _: Tensor) -> Tensor:
    """HSV value scaled; with H and S fixed that is a scaling of RGB."""
    up = 1 / ((1 - x.clamp(min=0)) + EPSILON)
    return v * _per_image(torch.where(x >= 0, up, 1 + x))


def contrast(v: Tensor, x: Tensor, means: Tensor, *, quantized: bool = False) -> Tensor:
    """Stretches away from the mean of all channels of the filter's input."""
    positive = x.clamp(min=0)
    if quantized:
        up = 255 / (256 - torch.floor(255 * positive)) - 1
    else:
        up = 255 * positive / (256 - 255 * positive)
    gain = torch.where(x > 0, up, x)
    mean = _per_image(means.mean(1))
    return v + (v - mean) * _per_image(gain)


def saturation(v: Tensor, x: Tensor, _: Tensor) -> Tensor:
    """Stretches away from HSL lightness, never past full HSL saturation."""
    x = _per_image(x)
    high, low = v.amax(1, keepdim=True), v.amin(1, keepdim=True)
    total, spread = high + low, high - low
    light = total / 2
    s = torch.where(light < 0.5, spread / (total + EPSILON), spread / (2 - total + EPSILON))
    p = torch.where(x + s > 1, s, 1 - x)
    amount = 1 / (p + EPSILON) - 1
    return torch.where(x >= 0, v + (v - light) * amount, light + (v - light) * (1 + x))


def highlight(v: Tensor, x: Tensor, _: Tensor) -> Tensor:
    """A power of the complement: x>0 lifts, x<0 lowers, most at the bright end."""
    return 1 - ((1 - v + TINY) ** _per_image(x + 1)).clamp(0, 1)


def shadow(v: Tensor, x: Tensor, _: Tensor) -> Tensor:
    """A power of the value: x>0 lifts, x<0 lowers, most at the dark end."""
    return (v + TINY) ** _per_image(1 - x)


def exposure(v: Tensor, x: Tensor, _: Tensor) -> Tensor:
    """Two stops up or down at x = +-1 (own choice; the paper names no seventh filter)."""
    return v * _per_image(torch.exp2(2 * x))


def hue(v: Tensor, x: Tensor, _: Tensor) -> Tensor:
    """Rotation of the chroma plane by x*pi; Rec. 709 luma is kept (own choice, as exposure)."""
    return torch.einsum("nij,njhw->nihw", hue_matrix(x), v)


def hue_matrix(x: Tensor) -> Tensor:
    """[N] arguments to [N,3,3] matrices.

    With P = I - 1 w^T, the projection along grey onto the plane of zero luma, and R the rotation
    about the grey axis, the map v -> luma(v) + P R P v keeps luma by construction and fixes grey.
    """
    luma = x.new_tensor(LUMA)
    ones = torch.ones_like(luma)
    to_luma = torch.outer(ones, luma)
    projection = torch.eye(3, dtype=x.dtype, device=x.device) - to_luma
    cos, sin = torch.cos(torch.pi * x), torch.sin(torch.pi * x)
    grey = torch.full((3, 3), 1 / 3, dtype=x.dtype, device=x.device)
    cross = x.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    rotation = (
        cos[:, None, None] * eye + sin[:, None, None] * cross + (1 - cos)[:, None, None] * grey
    )
    return to_luma + projection @ rotation @ projection


FILTERS = {
    "temperature": temperature,
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "highlight": highlight,
    "shadow": shadow,
    "exposure": exposure,
    "hue": hue,
}
NEEDS_MEANS = ("temperature", "contrast")


def apply_filter(v: Tensor, name: str, x: Tensor, means: Tensor, quantized: bool) -> Tensor:
    """One filter and its clamp."""
    if name == "contrast":
        return contrast(v, x, means, quantized=quantized).clamp(0, 1)
    return FILTERS[name](v, x, means).clamp(0, 1)


def stages(
    image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[str], quantized: bool
) -> list[Tensor]:
    """The output of every filter in turn, unmasked; the image is clamped to [0,1] first."""
    outputs, v = [], image.clamp(0, 1)
    for i, name in enumerate(filters):
        v = apply_filter(v, name, arguments[:, i], statistics[:, i], quantized)
        outputs.append(v)
    return outputs


def filter_chain(
    image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[str],
    quantized: bool,
) -> Tensor:  # fmt: skip
    """`mask * chain(image) + (1 - mask) * image`, exactly `image` where the mask is 0."""
    v = image.clamp(0, 1)
    if filters:
        v = stages(image, arguments, statistics, filters, quantized)[-1]
    return torch.where(mask == 0, image, mask * v + (1 - mask) * image)


def chain_means(
    image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[str], quantized: bool
) -> Tensor:
    """Channel means [N,3] of the unmasked chain's output."""
    v = image.clamp(0, 1)
    if filters:
        v = stages(image, arguments, statistics, filters, quantized)[-1]
    return v.mean((2, 3))


def filter_chain_loss(
    image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor, targets: Tensor,
    filters: Sequence[str], quantized: bool,
) -> Tensor:  # fmt: skip
    """Losses [N,K] of every stage against `targets` [N,K,3,H,W] inside the mask."""
    weight = mask.sum((1, 2, 3)) + EPSILON
    losses = []
    outputs = stages(image, arguments, statistics, filters, quantized)
    for i, output in enumerate(outputs):
        square = (output - targets[:, i]) ** 2
        rough = (mask * torch.sqrt(square + EPSILON)).sum((1, 2, 3))
        smooth = (mask * square).sum((1, 2, 3))
        losses.append((rough + 10 * smooth) / weight)
    return torch.stack(losses, 1) if losses else arguments.new_zeros(arguments.shape)

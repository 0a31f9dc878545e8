# SPDX-License-Identifier: Apache-2.0
"""3-D look-up tables in plain PyTorch: interpolation, splatting, and the filling of empty nodes.

Images are float `[N,3,H,W]`, tables `[B,S,S,S,3]` indexed [r,g,b] with B equal to N or 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def coordinates(image: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Colours to the lower node `[N,P,3]` (int64) of their cell and the place in it, `[N,P,3]`.

    The last cell holds its upper face, so that the place is in [0,1]; it is NaN for NaN.
    """
    v = image.flatten(2).transpose(1, 2).clamp(0, 1) * (size - 1)
    node = v.detach().nan_to_num(0).floor().clamp(0, size - 2)
    return node.long(), v - node


def _strides(size: int, device: torch.device) -> Tensor:
    return torch.tensor([size * size, size, 1], device=device)


def _first(node: Tensor, lut: Tensor) -> Tensor:
    """Index `[N,P]` of each pixel's lower node in the tables laid end to end."""
    size = lut.shape[1]
    base = (node * _strides(size, node.device)).sum(-1)
    if lut.shape[0] == 1:
        return base
    return base + torch.arange(lut.shape[0], device=node.device)[:, None] * size**3


def trilinear(image: Tensor, lut: Tensor) -> Tensor:
    """The mean of a cell's eight corners, weighted by the volumes opposite."""
    n, _, height, width = image.shape
    size, table = lut.shape[1], lut.reshape(-1, 3)
    node, f = coordinates(image, size)
    first, step = _first(node, lut), _strides(size, node.device)
    out = torch.zeros_like(f)
    for corner in range(8):
        bits = [corner >> 2 & 1, corner >> 1 & 1, corner & 1]
        weight = torch.ones_like(f[..., 0])
        for axis, bit in enumerate(bits):
            weight = weight * (f[..., axis] if bit else 1 - f[..., axis])
        at = first + sum(int(bit) * step[axis] for axis, bit in enumerate(bits))
        out = out + weight[..., None] * table[at]
    return out.transpose(1, 2).reshape(n, 3, height, width)


def tetrahedral(image: Tensor, lut: Tensor) -> Tensor:
    """Walks from the lower to the upper corner along the axes, the largest place first.

    Six tetrahedra share the cell's diagonal, so greys read two nodes and stay as neutral as the
    table. Of equal places red goes before green before blue.
    """
    n, _, height, width = image.shape
    size, table = lut.shape[1], lut.reshape(-1, 3)
    node, f = coordinates(image, size)
    first, step = _first(node, lut), _strides(size, node.device)
    f, axis = f.sort(dim=-1, descending=True, stable=True)
    one = first + step[axis[..., 0]]
    two = one + step[axis[..., 1]]
    high, middle, low = f.unbind(-1)
    parts = (
        (1 - high, first), (high - middle, one), (middle - low, two), (low, first + step.sum()),
    )  # fmt: skip
    out = torch.zeros_like(f)
    for weight, at in parts:
        out = out + weight[..., None] * table[at]
    return out.transpose(1, 2).reshape(n, 3, height, width)


INTERPOLATIONS = {"tetrahedral": tetrahedral, "trilinear": trilinear}


def apply_lut(image: Tensor, lut: Tensor, mask: Tensor, interpolation: str) -> Tensor:
    """`mask * lut(image) + (1 - mask) * image`, exactly `image` where the mask is 0."""
    v = INTERPOLATIONS[interpolation](image, lut)
    return torch.where(mask == 0, image, mask * v + (1 - mask) * image)


def splat(source: Tensor, values: Tensor, mask: Tensor, size: int) -> Tensor:
    """Sums `[N,S,S,S,4]` of weighted values and of weights, by trilinear weights of the source.

    `values` is `[N,3,H,W]` and `mask` `[N,1,H,W]`. Pixels without weight, with NaN in their
    source or with values that are not finite add nothing.
    """
    n = source.shape[0]
    node, f = coordinates(source, size)
    m = mask.flatten(1)
    values = values.flatten(2).transpose(1, 2)
    m = torch.where((f + 0 * values).isnan().any(-1), torch.zeros_like(m), m)
    f = f.nan_to_num(0)
    payload = torch.cat([values, torch.ones_like(f[..., :1])], -1)
    payload = torch.where(m[..., None] > 0, payload, torch.zeros_like(payload))
    table = payload.new_zeros(n, size, size, size, 4)
    first, step = _first(node, table), _strides(size, node.device)
    sums = table.reshape(-1, 4)
    for corner in range(8):
        bits = [corner >> 2 & 1, corner >> 1 & 1, corner & 1]
        weight = m
        for axis, bit in enumerate(bits):
            weight = weight * (f[..., axis] if bit else 1 - f[..., axis])
        at = first + sum(int(bit) * step[axis] for axis, bit in enumerate(bits))
        sums = sums.index_add(0, at.flatten(), (weight[..., None] * payload).reshape(-1, 4))
    return sums.reshape(n, size, size, size, 4)


def identity(size: int, like: Tensor) -> Tensor:
    """The table `[S,S,S,3]` that changes nothing."""
    axis = torch.linspace(0, 1, size, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)


def finish(sums: Tensor, offset: bool) -> tuple[Tensor, Tensor]:
    """From `splat`'s sums to a table without holes `[N,S,S,S,3]` and its weights `[N,S,S,S]`.

    `offset` says that the splatted values were differences from the source.
    """
    weight = sums[..., 3]
    mean = sums[..., :3] / torch.where(weight > 0, weight, torch.ones_like(weight))[..., None]
    plain = identity(sums.shape[1], sums)
    change = mean if offset else mean - plain
    return plain + extend(change, weight), weight


def extend(change: Tensor, weight: Tensor) -> Tensor:
    """Fills `change` `[N,S,S,S,3]` smoothly where `weight` `[N,S,S,S]` is 0.

    Pull and push (Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4, without its
    saturation of weights): weighted means over ever larger blocks, then from the coarsest to the
    finest each empty node takes the interpolated value of the level above. Far from all data that
    is the mean change; without any data, no change.
    """
    values = (change * weight[..., None]).movedim(-1, 1)
    levels = [(values, weight[:, None])]
    while levels[-1][0].shape[2] > 1:
        value, w = levels[-1]
        levels.append((_halve(value), _halve(w)))
    full = torch.zeros_like(levels[-1][0])
    for value, w in reversed(levels):
        if full.shape[2] != value.shape[2]:
            full = F.interpolate(full, size=value.shape[2:], mode="trilinear", align_corners=False)
        full = torch.where(w > 0, value / torch.where(w > 0, w, torch.ones_like(w)), full)
    return torch.where(weight[..., None] > 0, change, full.movedim(1, -1))


def _halve(x: Tensor) -> Tensor:
    odd = x.shape[2] % 2
    return 8 * F.avg_pool3d(F.pad(x, (0, odd) * 3), 2)

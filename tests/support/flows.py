# SPDX-License-Identifier: Apache-2.0
"""Pictures and flows of the warps' tests, and grid_sample as another opinion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NAN, INF = float("nan"), float("inf")
SIZES = (1, 2, 3, 7, 13, 16, 17, 31, 33, 65)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.uint16)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(n: int, c: int, h: int, w: int, dtype: torch.dtype = torch.float32, seed: int = 0):
    v = torch.rand(n, c, h, w, generator=seeded(seed))
    if dtype.is_floating_point:
        return v.to(dtype)
    return (v * (255 if dtype == torch.uint8 else 65535)).round().to(torch.int32).to(dtype)


def motion(kind: str, n: int, h: int, w: int, seed: int = 0) -> Tensor:
    """Flows [N,2,H,W] of every sort the kernels tell apart."""
    y, x = torch.meshgrid(torch.arange(h).float(), torch.arange(w).float(), indexing="ij")
    generator = seeded(seed)
    if kind == "zero":
        return torch.zeros(n, 2, h, w)
    if kind == "constant":
        return torch.tensor([1.3, -0.6]).view(1, 2, 1, 1).repeat(n, 1, h, w)
    if kind == "smooth":
        one = torch.stack([3 * torch.sin(x / 20 + y / 9), 2 * torch.cos(x / 15 - y / 11)])
        return one[None].repeat(n, 1, 1, 1) + torch.rand(n, 2, 1, 1, generator=generator)
    if kind == "whole":
        return torch.randint(-3, 4, (n, 2, h, w), generator=generator).float()
    if kind == "outward":
        return torch.stack([x - w / 2, y - h / 2])[None].repeat(n, 1, 1, 1) * 0.7
    flow = torch.randn(n, 2, h, w, generator=generator) * max(h, w)
    flow[0, 0, 0, 0], flow[-1, 1, -1, -1] = NAN, INF
    flow[0, 0, -1, 0], flow[0, 1, 0, -1] = -INF, 1e30
    return flow


MOTIONS = ("zero", "constant", "smooth", "whole", "outward", "wild")


def relaid(layout: str, *tensors: Tensor | None) -> list[Tensor | None]:
    if layout == "NCHW":
        return list(tensors)
    return [None if t is None else t.permute(0, 2, 3, 1).contiguous() for t in tensors]


def by_grid_sample(image: Tensor, flow: Tensor, padding: str) -> Tensor:
    h, w = image.shape[2:]
    y, x = torch.meshgrid(
        torch.arange(h, dtype=flow.dtype), torch.arange(w, dtype=flow.dtype), indexing="ij"
    )
    grid = torch.stack([(x + flow[:, 0]) * 2 / (w - 1) - 1, (y + flow[:, 1]) * 2 / (h - 1) - 1], -1)
    return F.grid_sample(image, grid, padding_mode=padding, align_corners=True)

# SPDX-License-Identifier: Apache-2.0
"""Masked attention in plain PyTorch: a window around each position, all pairs, and a gate.

Tensors are float `[N,C,H,W]`; masks are bool `[N,1,H,W]` or None for all ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def offsets(window: int) -> tuple[int, int]:
    """First and last offset of a window: -2 and 1 for 4, -2 and 2 for 5."""
    return -(window // 2), window - 1 - window // 2


def softmax(scores: Tensor, admissible: Tensor, dim: int) -> Tensor:
    """Softmax over the admissible scores; all zero, with zero gradient, where there are none."""
    blocked = ~admissible
    return torch.softmax(scores.masked_fill(blocked, -torch.inf), dim).masked_fill(blocked, 0)


def only(mask: Tensor | None, tensor: Tensor) -> Tensor:
    """Zero where the mask is not set, whatever the tensor holds there."""
    return tensor if mask is None else torch.where(mask, tensor, tensor.new_zeros(()))


def neighborhood_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, key_mask: Tensor | None,
    window: int, heads: int, scale: float,
) -> Tensor:  # fmt: skip
    """Holds all `window**2` shifted copies of keys and values at once."""
    n, _, height, width = query.shape
    low, high = offsets(window)

    def around(tensor: Tensor) -> Tensor:
        """`[N,heads,C/heads,window**2,H,W]`"""
        padded = F.pad(tensor, (-low, high, -low, high))
        views = [
            padded[:, :, y : y + height, x : x + width]
            for y in range(window)
            for x in range(window)
        ]
        return torch.stack(views, 2).unflatten(1, (heads, -1))

    there = query.new_ones(n, 1, height, width) if key_mask is None else key_mask.to(query.dtype)
    admissible = around(there.expand(n, heads, height, width)).squeeze(2) > 0
    q = only(mask, query).unflatten(1, (heads, -1))
    scores = torch.einsum("ngchw,ngcohw->ngohw", q, around(only(key_mask, key))) * scale
    weights = softmax(scores, admissible, 2)
    out = torch.einsum("ngohw,ngcohw->ngchw", weights, around(only(key_mask, value)))
    return only(mask, out.flatten(1, 2))


def nonlocal_attention(
    query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
    key_mask: Tensor | None, heads: int, scale: float,
) -> Tensor:  # fmt: skip
    """Holds the whole score matrix."""

    def split(tensor: Tensor) -> Tensor:
        """`[N,heads,C/heads,P]`"""
        return tensor.flatten(2).unflatten(1, (heads, -1))

    q, k = split(only(query_mask, query)), split(only(key_mask, key))
    scores = torch.einsum("ngcp,ngcs->ngps", q, k) * scale
    admissible = torch.ones_like(scores, dtype=torch.bool)
    if key_mask is not None:
        admissible = key_mask.flatten(2)[:, :, None].expand_as(scores)
    weights = softmax(scores, admissible, -1)
    out = torch.einsum("ngps,ngcs->ngcp", weights, split(only(key_mask, value)))
    return only(query_mask, out.flatten(1, 2).unflatten(2, query.shape[2:]))


def similarity_gate(theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor) -> Tensor:
    """`mask` is soft, `[N,1,H,W]` in [0,1]."""
    gate = torch.sigmoid((theta * phi).sum(1, keepdim=True))
    return mask * feature * gate + (1 - mask) * feature


def gated_mean(neighbours: Tensor, own: Tensor, mask: Tensor, lists: int) -> Tensor:
    """`neighbours` are `[N,K,C,H,W]`, `own` `[N,C,H,W]`, `mask` soft, `[N,1,H,W]` in [0,1]."""
    own, mask = own[:, None], mask[:, None]
    inside = mask > 0
    product = only(inside, (neighbours * only(inside, own)).sum(2, keepdim=True))
    change = torch.sigmoid(product) - 1
    if mask.requires_grad:
        # The mask's own gradient is that of a gate about to close, where it is still zero too.
        outside = torch.sigmoid((neighbours * own).detach().sum(2, keepdim=True)) - 1
        change = torch.where(inside, change, outside.nan_to_num())
    gated = neighbours * (1 + mask * change)
    return gated.unflatten(1, (lists, -1)).mean(2)

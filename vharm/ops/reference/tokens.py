# SPDX-License-Identifier: Apache-2.0
"""Patches and packed tokens in plain PyTorch.

Images are `[N,C,H,W]` with H and W multiples of the patch. A token holds a patch's samples in the
order (row, column, channel); `index` numbers patches as n * P + patch, row-major in the frame.
"""

from __future__ import annotations

import torch
from torch import Tensor


def foreground_patches(mask: Tensor, patch: int) -> Tensor:
    """`[N,1,H,W]` to bool `[N,P]`: whether any sample of the patch is above 0."""
    n, _, height, width = mask.shape
    set_ = mask.view(torch.int16) != 0 if mask.dtype == torch.uint16 else mask > 0
    cut = set_.reshape(n, height // patch, patch, width // patch, patch)
    return cut.any(4).any(2).flatten(1)


def patch_index(keep: Tensor, frames_per_clip: int) -> tuple[Tensor, Tensor]:
    """Bool `[N,P]` to the numbers of the kept patches and the clips' bounds among them."""
    index = keep.flatten().nonzero()[:, 0]
    counts = keep.reshape(keep.shape[0] // frames_per_clip, -1).sum(1)
    return index, bounds(counts)


def bounds(counts: Tensor) -> Tensor:
    """Lengths `[S]` to int32 `[S+1]`: where each sequence begins, and where the last one ends."""
    cu_seqlens = counts.new_zeros(counts.shape[0] + 1, dtype=torch.int32)
    cu_seqlens[1:] = counts.cumsum(0)
    return cu_seqlens


def patchify(image: Tensor, patch: int) -> Tensor:
    """`[N,C,H,W]` to `[N*P, patch*patch*C]`."""
    n, c, height, width = image.shape
    rows, columns = height // patch, width // patch
    cut = image.reshape(n, c, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n * rows * columns, patch * patch * c)


def unpatchify(tokens: Tensor, size: tuple[int, int, int, int], patch: int) -> Tensor:
    """The inverse of `patchify` for an image of this size."""
    n, c, height, width = size
    rows, columns = height // patch, width // patch
    cut = tokens.reshape(n, rows, columns, patch, patch, c)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(size)


def pack_patches(image: Tensor, index: Tensor, patch: int) -> Tensor:
    """The patches named by `index` `[K]`, as tokens `[K, patch*patch*C]`."""
    return patchify(image, patch)[index]


def unpack_patches(
    tokens: Tensor, index: Tensor, image: Tensor, patch: int, mask: Tensor | None
) -> Tensor:
    """`image` with the patches named by `index` replaced, or blended by `mask` `[N,1,H,W]`.

    Exactly `image` where the mask is 0.
    """
    size = tuple(image.shape)
    filled = unpatchify(patchify(image, patch).index_copy(0, index, tokens), size, patch)
    if mask is None:
        return filled
    m = mask.expand(size)
    return torch.where(m == 0, image, m * filled + (1 - m) * image)


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scale: float
) -> Tensor:
    """`[K,heads,D]` each: softmax(scale q k^T) v where query and key are of the same sequence."""
    place = torch.arange(query.shape[0], device=query.device, dtype=cu_seqlens.dtype)
    sequence = torch.searchsorted(cu_seqlens[1:], place, right=True)
    other = sequence[:, None] != sequence
    scores = torch.einsum("qhd,khd->hqk", query, key) * scale
    weights = scores.masked_fill(other, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value)

# SPDX-License-Identifier: Apache-2.0
"""Masked colour moments, Gram matrices and differences of neighbours, forward and backward.

Images are `[N,3,H,W]` or `[N,H,W,3]` of any strides: float32, float16, bfloat16, or uint8 and
uint16 full scale (taken as [0,1]). Masks have one channel in the same layout: the same dtypes,
bool, or None for all ones. Results are float32 and contiguous. Every function fills its last
arguments and returns nothing; sizes must not be zero. Sums have a fixed order (partial sums in a
workspace, no atomics), so they are deterministic.

Bytes moved per pixel, with s bytes per sample and m per mask sample: `masked_moments` 3s + m where
the mask is set, `masked_moments_backward` 6s + m (with the mask's gradient + m). The workspace
adds 40 bytes per block of 1024 pixels. `patch_balance` moves 3s, its gradient 6s.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from . import _sequence_kernels as sequences
from . import _statistics_kernels as kernels
from ._common import Cut, as_pointer, cut, full_scale, image_strides, on_device_of

_PIXELS = 1024
_BLOCK_C, _BLOCK_K = 64, 32


def masked_moments(
    image: Tensor, mask: Tensor | None, nhwc: bool, mean: Tensor, covariance: Tensor,
    weight: Tensor,
) -> None:  # fmt: skip
    """Fills `mean` `[N,3]`, `covariance` `[N,3,3]` and `weight` `[N]`; zeros for an empty mask."""
    grid = _cut(image, nhwc, image if mask is None else mask)
    n = image.shape[0]
    parts = image.new_empty((n, grid.parts, kernels.SLOTS), dtype=torch.float32)
    with on_device_of(image):
        kernels.moments_kernel[(n * grid.parts,)](
            image, as_pointer(mask, image), parts, *grid.shape, *grid.strides,
            HAS_MASK=mask is not None, IMAGE_SCALE=full_scale(image), MASK_SCALE=full_scale(mask),
            BLOCK=grid.block,
        )  # fmt: skip
    _merge(parts.double(), mean, covariance, weight)


def masked_moments_backward(
    grad_mean: Tensor, grad_covariance: Tensor, grad_weight: Tensor, image: Tensor,
    mask: Tensor | None, mean: Tensor, covariance: Tensor, weight: Tensor, nhwc: bool,
    grad_image: Tensor | None, grad_mask: Tensor | None,
) -> None:  # fmt: skip
    """Gradients of `masked_moments`, from those of its three results and the results themselves.

    Fills `grad_image` (like the image) and `grad_mask` (like the mask), each None where it is not
    wanted.
    """
    inverse = torch.where(weight > 0, 1 / weight, torch.zeros_like(weight))
    constant = grad_weight - inverse * (grad_covariance * covariance).sum((1, 2))
    square = (grad_covariance + grad_covariance.transpose(1, 2)).contiguous()
    optional = (mask, grad_image, grad_mask)
    grid = _cut(image, nhwc, *(image if t is None else t for t in optional))
    with on_device_of(image):
        kernels.moments_backward_kernel[(image.shape[0] * grid.parts,)](
            image, as_pointer(mask, image), grad_mean, square, constant, mean, inverse,
            as_pointer(grad_image, image), as_pointer(grad_mask, image), *grid.shape,
            *grid.strides, HAS_MASK=mask is not None, NEED_IMAGE=grad_image is not None,
            NEED_MASK=grad_mask is not None, IMAGE_SCALE=full_scale(image),
            MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip


def gram(tokens: Tensor, cu_seqlens: Tensor, out: Tensor) -> None:
    """F^T F of the rows `cu_seqlens[s]` to `cu_seqlens[s + 1]` of `[K,C]`, into `[S,C,C]`."""
    tokens, (count, c, _) = tokens.contiguous(), out.shape
    blocks = triton.cdiv(c, _BLOCK_C)
    with on_device_of(tokens):
        sequences.gram_kernel[(count, blocks, blocks)](
            tokens, cu_seqlens, out, c, BLOCK_C=_BLOCK_C, BLOCK_K=_BLOCK_K
        )


def gram_backward(square: Tensor, tokens: Tensor, cu_seqlens: Tensor, grad_tokens: Tensor) -> None:
    """From `square` `[S,C,C]`, the gradient plus its transpose."""
    tokens, (count, c) = tokens.contiguous(), tokens.shape
    place = torch.arange(count, device=tokens.device, dtype=cu_seqlens.dtype)
    sequence = torch.searchsorted(cu_seqlens[1:].contiguous(), place, right=True)
    grid = (triton.cdiv(count, _BLOCK_K), triton.cdiv(c, _BLOCK_C))
    with on_device_of(tokens):
        sequences.gram_backward_kernel[grid](
            square, tokens, sequence, grad_tokens, count, c, BLOCK_C=_BLOCK_C, BLOCK_K=_BLOCK_K
        )


def patch_balance(image: Tensor, factor: float, nhwc: bool, out: Tensor) -> None:
    """`factor` times the sum of squared differences of neighbours, into `[N]`."""
    n, height, width, blocks = _pixels(image, nhwc)
    parts = image.new_empty((n, blocks), dtype=torch.float32)
    with on_device_of(image):
        sequences.balance_kernel[(n * blocks,)](
            image, parts, image_strides(image, nhwc), height, width, blocks,
            IMAGE_SCALE=full_scale(image), BLOCK=_PIXELS,
        )  # fmt: skip
    out.copy_(parts.double().sum(1) * factor)


def patch_balance_backward(
    grad: Tensor, image: Tensor, factor: float, nhwc: bool, grad_image: Tensor
) -> None:
    """From `grad` `[N]`."""
    n, height, width, blocks = _pixels(image, nhwc)
    with on_device_of(image):
        sequences.balance_backward_kernel[(n * blocks,)](
            grad, image, grad_image, image_strides(image, nhwc), image_strides(grad_image, nhwc),
            height, width, blocks, 2 * factor, IMAGE_SCALE=full_scale(image), BLOCK=_PIXELS,
        )  # fmt: skip


def _pixels(image: Tensor, nhwc: bool) -> tuple[int, int, int, int]:
    height, width = image.shape[1:3] if nhwc else image.shape[2:]
    return image.shape[0], height, width, triton.cdiv(height * width, _PIXELS)


def _merge(parts: Tensor, mean: Tensor, covariance: Tensor, weight: Tensor) -> None:
    """Adds up blocks `[N,P,10]`: means by weight, moments by the parallel-axis theorem."""
    w, means, moments = parts[..., :1], parts[..., 1:4], parts[..., 4:]
    total = w.sum(1)
    below = torch.where(total > 0, total, torch.ones_like(total))
    centre = (w * means).sum(1) / below
    away = means - centre[:, None]
    order = torch.tensor([[0, 1, 2], [1, 3, 4], [2, 4, 5]], device=parts.device)
    inside = moments.sum(1)[:, order]
    between = (w * away).transpose(1, 2) @ away
    mean.copy_(centre)
    covariance.copy_((inside + between) / below[..., None])
    weight.copy_(total[:, 0])


def _cut(image: Tensor, nhwc: bool, *others: Tensor) -> Cut:
    height, width = image.shape[1:3] if nhwc else image.shape[2:]
    return cut(height, width, [image_strides(t, nhwc) for t in (image, *others)], _PIXELS)

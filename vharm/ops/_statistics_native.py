# SPDX-License-Identifier: Apache-2.0
"""Calls of the statistics' C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ._native import cpu_module, image_view, mask_view, threads


def masked_moments(
    image: Tensor, mask: Tensor | None, nhwc: bool, mean: Tensor, covariance: Tensor,
    weight: Tensor,
) -> None:  # fmt: skip
    layout = "NHWC" if nhwc else "NCHW"
    cpu_module().masked_moments(
        image_view(image, layout), mask_view(mask, layout, 1.0), mean.data_ptr(),
        covariance.data_ptr(), weight.data_ptr(), threads(),
    )  # fmt: skip


def masked_moments_backward(
    grad_mean: Tensor, grad_covariance: Tensor, grad_weight: Tensor, image: Tensor,
    mask: Tensor | None, mean: Tensor, covariance: Tensor, weight: Tensor, nhwc: bool,
    grad_image: Tensor | None, grad_mask: Tensor | None,
) -> None:  # fmt: skip
    layout = "NHWC" if nhwc else "NCHW"
    cpu_module().masked_moments_backward(
        grad_mean.data_ptr(), grad_covariance.data_ptr(), grad_weight.data_ptr(),
        image_view(image, layout), mask_view(mask, layout, 1.0), mean.data_ptr(),
        covariance.data_ptr(), weight.data_ptr(),
        None if grad_image is None else image_view(grad_image, layout),
        mask_view(grad_mask, layout, 1.0), threads(),
    )  # fmt: skip


def masked_histogram(
    image: Tensor, mask: Tensor | None, bins: int, nhwc: bool, out: Tensor
) -> None:
    layout = "NHWC" if nhwc else "NCHW"
    view = image_view(image, layout), mask_view(mask, layout, 1.0)
    cpu_module().masked_histogram(*view, bins, out.data_ptr(), threads())


def gram(tokens: Tensor, cu_seqlens: Tensor, out: Tensor) -> None:
    """Tokens of other types than float32 are copied."""
    tokens, (sequences, c, _) = tokens.float().contiguous(), out.shape
    cpu_module().gram(
        tokens.data_ptr(), cu_seqlens.data_ptr(), sequences, c, out.data_ptr(), threads()
    )


def gram_backward(square: Tensor, tokens: Tensor, cu_seqlens: Tensor, grad_tokens: Tensor) -> None:
    tokens, (sequences, c, _) = tokens.float().contiguous(), square.shape
    found = grad_tokens if grad_tokens.dtype == torch.float32 else torch.empty_like(tokens)
    cpu_module().gram_backward(
        square.data_ptr(), tokens.data_ptr(), cu_seqlens.data_ptr(), sequences, c,
        found.data_ptr(), threads(),
    )  # fmt: skip
    if found is not grad_tokens:
        grad_tokens.copy_(found)


def patch_balance(image: Tensor, factor: float, nhwc: bool, out: Tensor) -> None:
    view = image_view(image, "NHWC" if nhwc else "NCHW")
    cpu_module().patch_balance(view, factor, out.data_ptr(), threads())


def patch_balance_backward(
    grad: Tensor, image: Tensor, factor: float, nhwc: bool, grad_image: Tensor
) -> None:
    layout = "NHWC" if nhwc else "NCHW"
    cpu_module().patch_balance_backward(
        grad.data_ptr(), image_view(image, layout), factor, image_view(grad_image, layout),
        threads(),
    )  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""Calls of the statistics' C++ kernels."""

from __future__ import annotations

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

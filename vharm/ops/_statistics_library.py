# SPDX-License-Identifier: Apache-2.0
"""The statistics' `torch.library` ops: from schema to the backend's kernel, with gradients.

A backend is a module with the functions `masked_moments` and `masked_moments_backward`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _backends, _statistics_native
from ._library import define
from ._native import why_not_cpp
from ._triton import triton_module, why_not_triton

_backends.register(
    "masked_moments",
    (
        _backends.Candidate("triton", why_not_triton),
        _backends.Candidate("cpp", why_not_cpp),
        _backends.Candidate("reference", lambda request: None),
    ),
)


def _kernels(backend: str) -> Any:
    """The module whose functions fill given outputs for this backend."""
    return triton_module("statistics") if backend == "triton" else _statistics_native


def _moments_run(
    image: Tensor, mask: Tensor | None, nhwc: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    mean, covariance, weight = _moments_fake(image, mask, nhwc, backend)
    if image.numel():
        _kernels(backend).masked_moments(image, mask, nhwc, mean, covariance, weight)
    else:
        for out in (mean, covariance, weight):
            out.zero_()
    return mean, covariance, weight


def _moments_fake(
    image: Tensor, mask: Tensor | None, nhwc: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    n = image.shape[0]
    return (
        image.new_empty((n, 3), dtype=torch.float32),
        image.new_empty((n, 3, 3), dtype=torch.float32),
        image.new_empty((n,), dtype=torch.float32),
    )


def _backward_run(
    grad_mean: Tensor, grad_covariance: Tensor, grad_weight: Tensor, image: Tensor,
    mask: Tensor | None, mean: Tensor, covariance: Tensor, weight: Tensor, nhwc: bool,
    need_image: bool, need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    grads = _backward_fake(
        grad_mean, grad_covariance, grad_weight, image, mask, mean, covariance, weight, nhwc,
        need_image, need_mask, backend,
    )  # fmt: skip
    if image.numel():
        _kernels(backend).masked_moments_backward(
            grad_mean.contiguous(), grad_covariance.contiguous(), grad_weight.contiguous(), image,
            mask, mean.contiguous(), covariance.contiguous(), weight.contiguous(), nhwc,
            grads[0] if need_image else None, grads[1] if need_mask else None,
        )  # fmt: skip
    return grads


def _backward_fake(
    grad_mean: Tensor, grad_covariance: Tensor, grad_weight: Tensor, image: Tensor,
    mask: Tensor | None, mean: Tensor, covariance: Tensor, weight: Tensor, nhwc: bool,
    need_image: bool, need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(image) if need_image else image.new_empty(0),
        torch.empty_like(mask) if need_mask and mask is not None else image.new_empty(0),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    image, mask, nhwc, backend = inputs
    ctx.save_for_backward(image, mask, *output)
    ctx.nhwc, ctx.backend = nhwc, backend


def _backward(
    ctx: Any, grad_mean: Tensor, grad_covariance: Tensor, grad_weight: Tensor
) -> tuple[Any, ...]:
    image, mask, mean, covariance, weight = ctx.saved_tensors
    need_image, need_mask = ctx.needs_input_grad[:2]
    grads = _backward_op(
        grad_mean, grad_covariance, grad_weight, image, mask, mean, covariance, weight, ctx.nhwc,
        need_image, need_mask, ctx.backend,
    )  # fmt: skip
    return grads[0] if need_image else None, grads[1] if need_mask else None, None, None


_backward_op = define(
    "masked_moments_backward(Tensor grad_mean, Tensor grad_covariance, Tensor grad_weight, "
    "Tensor image, Tensor? mask, Tensor mean, Tensor covariance, Tensor weight, bool nhwc, "
    "bool need_image, bool need_mask, str backend) -> (Tensor, Tensor)",
    _backward_run,
    _backward_fake,
)
masked_moments = define(
    "masked_moments(Tensor image, Tensor? mask, bool nhwc, str backend) "
    "-> (Tensor, Tensor, Tensor)",
    _moments_run,
    _moments_fake,
    backward=_backward,
    setup_context=_setup,
)

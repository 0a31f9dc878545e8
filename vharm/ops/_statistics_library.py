# SPDX-License-Identifier: Apache-2.0
"""The statistics' `torch.library` ops: from schema to the backend's kernel, with gradients.

A backend is a module with the functions `masked_moments`, `gram`, `patch_balance` and, of each, its
`_backward`. `masked_histogram` has a kernel for the CPU alone; its gradient is PyTorch's work.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _backends, _check, _statistics_native
from ._library import define
from ._native import why_not_cpp
from ._triton import triton_module, why_not_triton
from .reference import statistics as reference

CANDIDATES = (
    _backends.Candidate("triton", why_not_triton),
    _backends.Candidate("cpp", why_not_cpp),
    _backends.Candidate("reference", lambda request: None),
)
for _op in ("masked_moments", "gram", "patch_balance"):
    _backends.register(_op, CANDIDATES)
_backends.register("masked_histogram", CANDIDATES[1:])


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


# masked_histogram --------------------------------------------------------------------------------


def _histogram_run(
    image: Tensor, mask: Tensor | None, bins: int, nhwc: bool, backend: str
) -> Tensor:
    out = _histogram_fake(image, mask, bins, nhwc, backend)
    if image.numel():
        _statistics_native.masked_histogram(image, mask, bins, nhwc, out)
    else:
        out.zero_()
    return out


def _histogram_fake(
    image: Tensor, mask: Tensor | None, bins: int, nhwc: bool, backend: str
) -> Tensor:
    return image.new_empty((image.shape[0], 3, bins), dtype=torch.float32)


def _histogram_backward_run(
    grad: Tensor, image: Tensor, mask: Tensor | None, counts: Tensor, nhwc: bool,
    need_image: bool, need_mask: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    found = _histogram_backward_fake(grad, image, mask, counts, nhwc, need_image, need_mask)
    if not image.numel():
        return found
    v, m = (
        None if t is None
        else (t.permute(0, 3, 1, 2) if nhwc else t).float() / _check.full_scale(t.dtype)
        for t in (image, mask)
    )  # fmt: skip
    m = torch.ones_like(v[:, :1]) if m is None else m
    grads = reference.masked_histogram_backward(grad, v, m, counts)
    for out, value, needed in zip(found, grads, (need_image, need_mask), strict=True):
        if needed:
            out.copy_(value.permute(0, 2, 3, 1) if nhwc else value)
    return found


def _histogram_backward_fake(
    grad: Tensor, image: Tensor, mask: Tensor | None, counts: Tensor, nhwc: bool,
    need_image: bool, need_mask: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(image) if need_image else image.new_empty(0),
        torch.empty_like(mask) if need_mask and mask is not None else image.new_empty(0),
    )


def _histogram_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, mask, _, ctx.nhwc, _ = inputs
    ctx.save_for_backward(image, mask, output)


def _histogram_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    need = ctx.needs_input_grad[:2]
    grads = _histogram_backward_op(grad, *ctx.saved_tensors, ctx.nhwc, *need)
    return (*(g if needed else None for g, needed in zip(grads, need, strict=True)), *[None] * 3)


_histogram_backward_op = define(
    "masked_histogram_backward(Tensor grad, Tensor image, Tensor? mask, Tensor counts, bool nhwc, "
    "bool need_image, bool need_mask) -> (Tensor, Tensor)",
    _histogram_backward_run,
    _histogram_backward_fake,
)
masked_histogram = define(
    "masked_histogram(Tensor image, Tensor? mask, int bins, bool nhwc, str backend) -> Tensor",
    _histogram_run,
    _histogram_fake,
    backward=_histogram_backward,
    setup_context=_histogram_setup,
)


# gram --------------------------------------------------------------------------------------------


def _gram_run(tokens: Tensor, cu_seqlens: Tensor, backend: str) -> Tensor:
    out = _gram_fake(tokens, cu_seqlens, backend)
    if out.numel() and tokens.numel():
        _kernels(backend).gram(tokens, cu_seqlens.contiguous(), out)
    else:
        out.zero_()
    return out


def _gram_fake(tokens: Tensor, cu_seqlens: Tensor, backend: str) -> Tensor:
    c = tokens.shape[1]
    return tokens.new_empty((cu_seqlens.shape[0] - 1, c, c), dtype=torch.float32)


def _gram_backward_run(grad: Tensor, tokens: Tensor, cu_seqlens: Tensor, backend: str) -> Tensor:
    found = _gram_backward_fake(grad, tokens, cu_seqlens, backend)
    if found.numel():
        square = (grad + grad.transpose(1, 2)).contiguous()
        _kernels(backend).gram_backward(square, tokens, cu_seqlens.contiguous(), found)
    return found


def _gram_backward_fake(grad: Tensor, tokens: Tensor, cu_seqlens: Tensor, backend: str) -> Tensor:
    return torch.empty_like(tokens, memory_format=torch.contiguous_format)


def _gram_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.backend = inputs[2]


def _gram_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _gram_backward_op(grad, *ctx.saved_tensors, ctx.backend), None, None


_gram_backward_op = define(
    "gram_backward(Tensor grad, Tensor tokens, Tensor cu_seqlens, str backend) -> Tensor",
    _gram_backward_run,
    _gram_backward_fake,
)
gram = define(
    "gram(Tensor tokens, Tensor cu_seqlens, str backend) -> Tensor",
    _gram_run,
    _gram_fake,
    backward=_gram_backward,
    setup_context=_gram_setup,
)


# patch_balance -----------------------------------------------------------------------------------


def _balance_run(image: Tensor, factor: float, nhwc: bool, backend: str) -> Tensor:
    out = image.new_empty((image.shape[0],), dtype=torch.float32)
    if image.numel():
        _kernels(backend).patch_balance(image, factor, nhwc, out)
    else:
        out.zero_()
    return out


def _balance_backward_run(
    grad: Tensor, image: Tensor, factor: float, nhwc: bool, backend: str
) -> Tensor:
    found = torch.empty_like(image)
    if image.numel():
        kernels = _kernels(backend)
        kernels.patch_balance_backward(grad.contiguous(), image, factor, nhwc, found)
    return found


def _balance_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, *ctx.rest = inputs
    ctx.save_for_backward(image)


def _balance_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _balance_backward_op(grad, *ctx.saved_tensors, *ctx.rest), None, None, None


_balance_backward_op = define(
    "patch_balance_backward(Tensor grad, Tensor image, float factor, bool nhwc, str backend) "
    "-> Tensor",
    _balance_backward_run,
    lambda grad, image, *rest: torch.empty_like(image),
)
patch_balance = define(
    "patch_balance(Tensor image, float factor, bool nhwc, str backend) -> Tensor",
    _balance_run,
    lambda image, *rest: image.new_empty((image.shape[0],), dtype=torch.float32),
    backward=_balance_backward,
    setup_context=_balance_setup,
)

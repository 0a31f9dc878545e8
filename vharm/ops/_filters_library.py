# SPDX-License-Identifier: Apache-2.0
"""The filters' `torch.library` ops: from schema to the backend's kernel, with gradients.

The public functions have checked everything; here tensors are only allocated and handed on.
A backend is a module with the six functions named in `_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _backends, _filters_native
from ._library import define
from ._native import why_not_cpp, why_not_cuda
from ._triton import triton_module, why_not_triton

CANDIDATES = (
    _backends.Candidate("cuda", why_not_cuda),
    _backends.Candidate("triton", why_not_triton),
    _backends.Candidate("cpp", why_not_cpp),
    _backends.Candidate("reference", lambda request: None),
)
for _op in ("filter_chain", "filter_statistics", "filter_chain_loss"):
    _backends.register(_op, CANDIDATES)


def _kernels(backend: str) -> Any:
    """The module whose functions fill given outputs for this backend."""
    if backend == "triton":
        return triton_module("filters")
    return _filters_native.CPP if backend == "cpp" else _filters_native.CUDA


def _parameters(arguments: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
    return arguments.contiguous(), statistics.contiguous()


# filter_chain ------------------------------------------------------------------------------------


def _chain_run(
    image: Tensor, mask: Tensor | None, arguments: Tensor, statistics: Tensor,
    filters: Sequence[int], strength: float, nhwc: bool, quantized: bool, backend: str,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(image)
    if out.numel():
        _kernels(backend).filter_chain(
            image, mask, *_parameters(arguments, statistics), list(filters), strength, nhwc,
            quantized, out,
        )  # fmt: skip
    return out


def _chain_backward_run(
    grad: Tensor, image: Tensor, mask: Tensor | None, arguments: Tensor, statistics: Tensor,
    filters: Sequence[int], strength: float, nhwc: bool, quantized: bool, need_image: bool,
    need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    grad_image = torch.empty_like(image) if need_image else image.new_empty(0)
    grad_mask = torch.empty_like(mask) if need_mask and mask is not None else image.new_empty(0)
    grad_arguments = torch.zeros_like(arguments, memory_format=torch.contiguous_format)
    grad_statistics = torch.zeros_like(statistics, memory_format=torch.contiguous_format)
    if image.numel():
        _kernels(backend).filter_chain_backward(
            grad, image, mask, *_parameters(arguments, statistics), list(filters), strength, nhwc,
            quantized, grad_image if need_image else None,
            grad_mask if need_mask and mask is not None else None, grad_arguments, grad_statistics,
        )  # fmt: skip
    return grad_image, grad_mask, grad_arguments, grad_statistics


def _chain_backward_fake(
    grad: Tensor, image: Tensor, mask: Tensor | None, arguments: Tensor, statistics: Tensor,
    filters: Sequence[int], strength: float, nhwc: bool, quantized: bool, need_image: bool,
    need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(image) if need_image else image.new_empty(0),
        torch.empty_like(mask) if need_mask and mask is not None else image.new_empty(0),
        torch.empty_like(arguments, memory_format=torch.contiguous_format),
        torch.empty_like(statistics, memory_format=torch.contiguous_format),
    )


def _chain_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, mask, arguments, statistics, *rest = inputs
    ctx.save_for_backward(image, mask, arguments, statistics)
    ctx.rest = rest


def _chain_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    image, mask, arguments, statistics = ctx.saved_tensors
    filters, strength, nhwc, quantized, backend = ctx.rest
    need_image, need_mask, need_arguments, need_statistics = ctx.needs_input_grad[:4]
    grads = _chain_backward_op(
        grad, image, mask, arguments, statistics, filters, strength, nhwc, quantized, need_image,
        need_mask, backend,
    )  # fmt: skip
    return (
        grads[0] if need_image else None,
        grads[1] if need_mask else None,
        grads[2] if need_arguments else None,
        grads[3] if need_statistics else None,
        None, None, None, None, None,
    )  # fmt: skip


_CHAIN_ARGUMENTS = (
    "Tensor image, Tensor? mask, Tensor arguments, Tensor statistics, int[] filters, "
    "float strength, bool nhwc, bool quantized"
)
_chain_backward_op = define(
    f"filter_chain_backward(Tensor grad, {_CHAIN_ARGUMENTS}, bool need_image, bool need_mask, "
    "str backend) -> (Tensor, Tensor, Tensor, Tensor)",
    _chain_backward_run,
    _chain_backward_fake,
)
filter_chain = define(
    f"filter_chain({_CHAIN_ARGUMENTS}, str backend) -> Tensor",
    _chain_run,
    lambda image, *rest: torch.empty_like(image),
    backward=_chain_backward,
    setup_context=_chain_setup,
)


# chain_means -------------------------------------------------------------------------------------


def _means_run(
    image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[int], nhwc: bool,
    quantized: bool, backend: str,
) -> Tensor:  # fmt: skip
    out = arguments.new_zeros(image.shape[0], 3)
    if image.numel():
        _kernels(backend).chain_means(
            image, *_parameters(arguments, statistics), list(filters), nhwc, quantized, out
        )
    return out


def _means_backward_run(
    grad: Tensor, image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[int],
    nhwc: bool, quantized: bool, need_image: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    grad_image = torch.empty_like(image) if need_image else image.new_empty(0)
    grad_arguments = torch.zeros_like(arguments, memory_format=torch.contiguous_format)
    grad_statistics = torch.zeros_like(statistics, memory_format=torch.contiguous_format)
    if image.numel():
        _kernels(backend).chain_means_backward(
            grad.contiguous(), image, *_parameters(arguments, statistics), list(filters), nhwc,
            quantized, grad_image if need_image else None, grad_arguments, grad_statistics,
        )  # fmt: skip
    return grad_image, grad_arguments, grad_statistics


def _means_backward_fake(
    grad: Tensor, image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[int],
    nhwc: bool, quantized: bool, need_image: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(image) if need_image else image.new_empty(0),
        torch.empty_like(arguments, memory_format=torch.contiguous_format),
        torch.empty_like(statistics, memory_format=torch.contiguous_format),
    )


def _means_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, arguments, statistics, *rest = inputs
    ctx.save_for_backward(image, arguments, statistics)
    ctx.rest = rest


def _means_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    image, arguments, statistics = ctx.saved_tensors
    filters, nhwc, quantized, backend = ctx.rest
    need_image, need_arguments, need_statistics = ctx.needs_input_grad[:3]
    grads = _means_backward_op(
        grad, image, arguments, statistics, filters, nhwc, quantized, need_image, backend
    )
    return (
        grads[0] if need_image else None,
        grads[1] if need_arguments else None,
        grads[2] if need_statistics else None,
        None, None, None, None,
    )  # fmt: skip


_MEANS_ARGUMENTS = (
    "Tensor image, Tensor arguments, Tensor statistics, int[] filters, bool nhwc, bool quantized"
)
_means_backward_op = define(
    f"chain_means_backward(Tensor grad, {_MEANS_ARGUMENTS}, bool need_image, str backend) "
    "-> (Tensor, Tensor, Tensor)",
    _means_backward_run,
    _means_backward_fake,
)
chain_means = define(
    f"chain_means({_MEANS_ARGUMENTS}, str backend) -> Tensor",
    _means_run,
    lambda image, arguments, *rest: arguments.new_empty(image.shape[0], 3),
    backward=_means_backward,
    setup_context=_means_setup,
)


# filter_chain_loss -------------------------------------------------------------------------------


def _loss_run(
    image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor, targets: Tensor,
    filters: Sequence[int], quantized: bool, backend: str,
) -> Tensor:  # fmt: skip
    out = torch.zeros_like(arguments, memory_format=torch.contiguous_format)
    if image.numel() and filters:
        _kernels(backend).filter_chain_loss(
            image, mask, *_parameters(arguments, statistics), targets, list(filters), quantized,
            out,
        )  # fmt: skip
    return out


def _loss_backward_run(
    grad: Tensor, image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor,
    targets: Tensor, filters: Sequence[int], quantized: bool, need_image: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    grad_image = torch.empty_like(image) if need_image else image.new_empty(0)
    grad_arguments = torch.zeros_like(arguments, memory_format=torch.contiguous_format)
    grad_statistics = torch.zeros_like(statistics, memory_format=torch.contiguous_format)
    if image.numel() and filters:
        _kernels(backend).filter_chain_loss_backward(
            grad.contiguous(), image, mask, *_parameters(arguments, statistics), targets,
            list(filters), quantized, grad_image if need_image else None, grad_arguments,
            grad_statistics,
        )  # fmt: skip
    elif need_image:
        grad_image.zero_()
    return grad_image, grad_arguments, grad_statistics


def _loss_backward_fake(
    grad: Tensor, image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor,
    targets: Tensor, filters: Sequence[int], quantized: bool, need_image: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(image) if need_image else image.new_empty(0),
        torch.empty_like(arguments, memory_format=torch.contiguous_format),
        torch.empty_like(statistics, memory_format=torch.contiguous_format),
    )


def _loss_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, mask, arguments, statistics, targets, *rest = inputs
    ctx.save_for_backward(image, mask, arguments, statistics, targets)
    ctx.rest = rest


def _loss_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    image, mask, arguments, statistics, targets = ctx.saved_tensors
    filters, quantized, backend = ctx.rest
    need_image, _, need_arguments, need_statistics = ctx.needs_input_grad[:4]
    grads = _loss_backward_op(
        grad, image, mask, arguments, statistics, targets, filters, quantized, need_image, backend
    )
    return (
        grads[0] if need_image else None,
        None,
        grads[1] if need_arguments else None,
        grads[2] if need_statistics else None,
        None, None, None, None,
    )  # fmt: skip


_LOSS_ARGUMENTS = (
    "Tensor image, Tensor mask, Tensor arguments, Tensor statistics, Tensor targets, "
    "int[] filters, bool quantized"
)
_loss_backward_op = define(
    f"filter_chain_loss_backward(Tensor grad, {_LOSS_ARGUMENTS}, bool need_image, str backend) "
    "-> (Tensor, Tensor, Tensor)",
    _loss_backward_run,
    _loss_backward_fake,
)
filter_chain_loss = define(
    f"filter_chain_loss({_LOSS_ARGUMENTS}, str backend) -> Tensor",
    _loss_run,
    lambda image, mask, arguments, *rest: torch.empty_like(
        arguments, memory_format=torch.contiguous_format
    ),
    backward=_loss_backward,
    setup_context=_loss_setup,
)

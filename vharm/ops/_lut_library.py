# SPDX-License-Identifier: Apache-2.0
"""The look-up tables' `torch.library` ops: from schema to the backend's kernel, with gradients.

The public functions have checked everything; here tensors are only allocated and handed on.
A backend is a module with the functions `apply_lut`, `apply_lut_backward` and `lut_splat`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _backends, _lut_native
from ._library import define
from ._native import why_not_cpp
from ._triton import triton_module, why_not_triton

CANDIDATES = (
    _backends.Candidate("triton", why_not_triton),
    _backends.Candidate("cpp", why_not_cpp),
    _backends.Candidate("reference", lambda request: None),
)
for _op in ("apply_lut", "fit_lut", "splat_lut"):
    _backends.register(_op, CANDIDATES)


def _kernels(backend: str) -> Any:
    """The module whose functions fill given outputs for this backend."""
    return triton_module("lut") if backend == "triton" else _lut_native


# apply_lut ---------------------------------------------------------------------------------------


def _apply_run(
    image: Tensor, lut: Tensor, mask: Tensor | None, interpolation: int, strength: float,
    nhwc: bool, backend: str,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(image)
    if out.numel():
        _kernels(backend).apply_lut(
            image, lut.contiguous(), mask, interpolation, strength, nhwc, out
        )
    return out


def _apply_backward_run(
    grad: Tensor, image: Tensor, lut: Tensor, mask: Tensor | None, interpolation: int,
    strength: float, nhwc: bool, need_image: bool, need_lut: bool, need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    grads = _apply_backward_fake(
        grad, image, lut, mask, interpolation, strength, nhwc, need_image, need_lut, need_mask,
        backend,
    )  # fmt: skip
    if image.numel():
        _kernels(backend).apply_lut_backward(
            grad, image, lut.contiguous(), mask, interpolation, strength, nhwc,
            grads[0] if need_image else None, grads[1] if need_lut else None,
            grads[2] if need_mask else None,
        )  # fmt: skip
    else:
        grads[1].zero_()
    return grads


def _apply_backward_fake(
    grad: Tensor, image: Tensor, lut: Tensor, mask: Tensor | None, interpolation: int,
    strength: float, nhwc: bool, need_image: bool, need_lut: bool, need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(image) if need_image else image.new_empty(0),
        torch.empty_like(lut, memory_format=torch.contiguous_format)
        if need_lut
        else lut.new_empty(0),
        torch.empty_like(mask) if need_mask and mask is not None else image.new_empty(0),
    )


def _apply_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, lut, mask, *rest = inputs
    ctx.save_for_backward(image, lut, mask)
    ctx.rest = rest


def _apply_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    image, lut, mask = ctx.saved_tensors
    interpolation, strength, nhwc, backend = ctx.rest
    need = ctx.needs_input_grad[:3]
    grads = _apply_backward_op(
        grad, image, lut, mask, interpolation, strength, nhwc, *need, backend
    )
    return (*(g if n else None for g, n in zip(grads, need, strict=True)), None, None, None, None)


_APPLY_ARGUMENTS = "Tensor image, Tensor lut, Tensor? mask, int interpolation, float strength"
_apply_backward_op = define(
    f"apply_lut_backward(Tensor grad, {_APPLY_ARGUMENTS}, bool nhwc, bool need_image, "
    "bool need_lut, bool need_mask, str backend) -> (Tensor, Tensor, Tensor)",
    _apply_backward_run,
    _apply_backward_fake,
)
apply_lut = define(
    f"apply_lut({_APPLY_ARGUMENTS}, bool nhwc, str backend) -> Tensor",
    _apply_run,
    lambda image, *rest: torch.empty_like(image),
    backward=_apply_backward,
    setup_context=_apply_setup,
)


# lut_splat ---------------------------------------------------------------------------------------


def _splat_run(
    source: Tensor, target: Tensor, mask: Tensor | None, size: int, offset: bool, nhwc: bool,
    backend: str,
) -> Tensor:  # fmt: skip
    sums = _splat_fake(source, target, mask, size, offset, nhwc, backend)
    if source.numel():
        _kernels(backend).lut_splat(source, target, mask, size, offset, nhwc, sums)
    else:
        sums.zero_()
    return sums


def _splat_fake(
    source: Tensor, target: Tensor, mask: Tensor | None, size: int, offset: bool, nhwc: bool,
    backend: str,
) -> Tensor:  # fmt: skip
    return source.new_empty((source.shape[0], size, size, size, 4), dtype=torch.float32)


def _splat_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    raise RuntimeError(
        "vharm::lut_splat cannot be differentiated; use "
        'vharm.ops.backend("reference") for gradients of fit_lut'
    )


lut_splat = define(
    "lut_splat(Tensor source, Tensor target, Tensor? mask, int size, bool offset, bool nhwc, "
    "str backend) -> Tensor",
    _splat_run,
    _splat_fake,
    backward=_splat_backward,
)

# SPDX-License-Identifier: Apache-2.0
"""The attention family's `torch.library` ops: from schema to the backend's kernel, with gradients.

The public functions have checked everything; here tensors are only allocated and handed on.
A backend is a module with the eight functions named in this file.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _attention_native, _backends
from ._library import define
from ._native import prefault, why_not_cpp, why_not_cuda
from ._triton import triton_module, why_not_triton

CANDIDATES = (
    _backends.Candidate("cuda", why_not_cuda),
    _backends.Candidate("triton", why_not_triton),
    _backends.Candidate("cpp", why_not_cpp),
    _backends.Candidate("reference", lambda request: None),
)
for _op in ("neighborhood_attention", "nonlocal_attention", "similarity_gate", "gated_mean"):
    _backends.register(_op, CANDIDATES)


def _kernels(backend: str) -> Any:
    """The module whose functions fill given outputs for this backend."""
    if backend == "triton":
        return triton_module("attention")
    return _attention_native.CPP if backend == "cpp" else _attention_native.CUDA


def _wanted(tensor: Tensor, need: bool) -> Tensor:
    return torch.empty_like(tensor) if need else tensor.new_empty(0)


def _rows(query: Tensor, heads: int) -> Tensor:
    """Room for one float per head and position."""
    n, _, height, width = query.shape
    return query.new_empty((n, heads, height, width), dtype=torch.float32)


def _given(grads: tuple[Tensor, ...], need: tuple[bool, ...]) -> list[Tensor | None]:
    return [g if n else None for g, n in zip(grads, need, strict=True)]


# neighborhood_attention --------------------------------------------------------------------------


def _neighborhood_run(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, key_mask: Tensor | None,
    window: int, heads: int, scale: float, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    out, lse = torch.empty_like(value), _rows(query, heads)
    if out.numel():
        _kernels(backend).neighborhood_attention(
            query, key, value, mask, key_mask, window, heads, scale, out, lse
        )
    return out, lse


def _neighborhood_backward_run(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    key_mask: Tensor | None, lse: Tensor, window: int, heads: int, scale: float,
    need_query: bool, need_key: bool, need_value: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    need = (need_query, need_key, need_value)
    grads = _backward_fake(grad, query, key, value, mask, key_mask, lse, window, heads, scale,
                           *need, backend)  # fmt: skip
    if query.numel():
        _kernels(backend).neighborhood_attention_backward(
            grad, query, key, value, mask, key_mask, lse, window, heads, scale,
            torch.empty_like(lse), *_given(grads, need),
        )  # fmt: skip
    return grads


def _backward_fake(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    need_query, need_key, need_value, _ = rest[-4:]
    return _wanted(query, need_query), _wanted(key, need_key), _wanted(value, need_value)


def _neighborhood_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, window, heads, scale, backend = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, output[1])
    ctx.rest = (window, heads, scale, backend)


def _neighborhood_backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    need = ctx.needs_input_grad[:3]
    window, heads, scale, backend = ctx.rest
    grads = _neighborhood_backward_op(
        grad, *ctx.saved_tensors, window, heads, scale, *need, backend
    )
    return (*_given(grads, need), *[None] * 6)


_NEIGHBORHOOD = "Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? key_mask, "
_neighborhood_backward_op = define(
    f"neighborhood_attention_backward(Tensor grad, {_NEIGHBORHOOD}Tensor lse, int window, "
    "int heads, float scale, bool need_query, bool need_key, bool need_value, str backend) "
    "-> (Tensor, Tensor, Tensor)",
    _neighborhood_backward_run,
    _backward_fake,
)
neighborhood_attention = define(
    f"neighborhood_attention({_NEIGHBORHOOD}int window, int heads, float scale, str backend) "
    "-> (Tensor, Tensor)",
    _neighborhood_run,
    lambda query, key, value, mask, key_mask, window, heads, *rest: (
        torch.empty_like(value),
        _rows(query, heads),
    ),
    backward=_neighborhood_backward,
    setup_context=_neighborhood_setup,
)


# nonlocal_attention ------------------------------------------------------------------------------


def _nonlocal_run(
    query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
    key_mask: Tensor | None, heads: int, scale: float, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    out, lse = _nonlocal_fake(query, key, value, query_mask, key_mask, heads, scale, backend)
    out.zero_()
    lse.zero_()
    if out.numel() and value.numel():
        _kernels(backend).nonlocal_attention(
            query, key, value, query_mask, key_mask, heads, scale, out, lse
        )
    return out, lse


def _nonlocal_fake(
    query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
    key_mask: Tensor | None, heads: int, *rest: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    n, _, height, width = query.shape
    return value.new_empty((n, value.shape[1], height, width)), _rows(query, heads)


def _nonlocal_backward_run(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
    key_mask: Tensor | None, out: Tensor, lse: Tensor, heads: int, scale: float,
    need_query: bool, need_key: bool, need_value: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    need = (need_query, need_key, need_value)
    grads = tuple(_wanted(t, n).zero_() for t, n in zip((query, key, value), need, strict=True))
    if out.numel() and value.numel():
        _kernels(backend).nonlocal_attention_backward(
            grad, query, key, value, query_mask, key_mask, out, lse, heads, scale,
            *_given(grads, need),
        )  # fmt: skip
    return grads


def _nonlocal_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, heads, scale, backend = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output)
    ctx.rest = (heads, scale, backend)


def _nonlocal_backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    need = ctx.needs_input_grad[:3]
    heads, scale, backend = ctx.rest
    grads = _nonlocal_backward_op(grad, *ctx.saved_tensors, heads, scale, *need, backend)
    return (*_given(grads, need), *[None] * 5)


_NONLOCAL = "Tensor query, Tensor key, Tensor value, Tensor? query_mask, Tensor? key_mask, "
_nonlocal_backward_op = define(
    f"nonlocal_attention_backward(Tensor grad, {_NONLOCAL}Tensor out, Tensor lse, int heads, "
    "float scale, bool need_query, bool need_key, bool need_value, str backend) "
    "-> (Tensor, Tensor, Tensor)",
    _nonlocal_backward_run,
    _backward_fake,
)
nonlocal_attention = define(
    f"nonlocal_attention({_NONLOCAL}int heads, float scale, str backend) -> (Tensor, Tensor)",
    _nonlocal_run,
    _nonlocal_fake,
    backward=_nonlocal_backward,
    setup_context=_nonlocal_setup,
)


# similarity_gate ---------------------------------------------------------------------------------


def _gate_run(theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor, backend: str) -> Tensor:
    out = torch.empty_like(feature)
    if out.numel():
        if backend == "cpp":
            prefault(out)
        _kernels(backend).similarity_gate(theta, phi, feature, mask, out)
    return out


def _gate_backward_run(
    grad: Tensor, theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor, need_theta: bool,
    need_phi: bool, need_feature: bool, need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    need = (need_theta, need_phi, need_feature, need_mask)
    grads = _gate_backward_fake(grad, theta, phi, feature, mask, *need, backend)
    if mask.numel():
        if backend == "cpp":
            prefault(*grads)
        _kernels(backend).similarity_gate_backward(
            grad, theta, phi, feature, mask, *_given(grads, need)
        )
    return grads


def _gate_backward_fake(
    grad: Tensor, theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor, need_theta: bool,
    need_phi: bool, need_feature: bool, need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        _wanted(theta, need_theta), _wanted(phi, need_phi), _wanted(feature, need_feature),
        _wanted(mask, need_mask),
    )  # fmt: skip


def _gate_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, backend = inputs
    ctx.save_for_backward(*tensors)
    ctx.backend = backend


def _gate_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    need = ctx.needs_input_grad[:4]
    grads = _gate_backward_op(grad, *ctx.saved_tensors, *need, ctx.backend)
    return (*_given(grads, need), None)


_GATE = "Tensor theta, Tensor phi, Tensor feature, Tensor mask, "
_gate_backward_op = define(
    f"similarity_gate_backward(Tensor grad, {_GATE}bool need_theta, bool need_phi, "
    "bool need_feature, bool need_mask, str backend) -> (Tensor, Tensor, Tensor, Tensor)",
    _gate_backward_run,
    _gate_backward_fake,
)
similarity_gate = define(
    f"similarity_gate({_GATE}str backend) -> Tensor",
    _gate_run,
    lambda theta, phi, feature, mask, backend: torch.empty_like(feature),
    backward=_gate_backward,
    setup_context=_gate_setup,
)


# gated_mean --------------------------------------------------------------------------------------


def _mean_run(neighbours: Tensor, own: Tensor, mask: Tensor, lists: int, backend: str) -> Tensor:
    out = _mean_fake(neighbours, own, mask, lists, backend)
    if out.numel():
        if backend == "cpp":
            prefault(out)
        _kernels(backend).gated_mean(neighbours, own, mask, lists, out)
    return out


def _mean_fake(neighbours: Tensor, own: Tensor, mask: Tensor, lists: int, backend: str) -> Tensor:
    return own.new_empty((own.shape[0], lists, *own.shape[1:]))


def _mean_backward_run(
    grad: Tensor, neighbours: Tensor, own: Tensor, mask: Tensor, need_neighbours: bool,
    need_own: bool, need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    need = (need_neighbours, need_own, need_mask)
    grads = _mean_backward_fake(grad, neighbours, own, mask, *need, backend)
    if mask.numel():
        if backend == "cpp":
            prefault(*grads)
        _kernels(backend).gated_mean_backward(grad, neighbours, own, mask, *_given(grads, need))
    return grads


def _mean_backward_fake(
    grad: Tensor, neighbours: Tensor, own: Tensor, mask: Tensor, need_neighbours: bool,
    need_own: bool, need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _wanted(neighbours, need_neighbours), _wanted(own, need_own), _wanted(mask, need_mask)


def _mean_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    neighbours, own, mask, _, backend = inputs
    ctx.save_for_backward(neighbours, own, mask)
    ctx.backend = backend


def _mean_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    need = ctx.needs_input_grad[:3]
    grads = _mean_backward_op(grad, *ctx.saved_tensors, *need, ctx.backend)
    return (*_given(grads, need), None, None)


_MEAN = "Tensor neighbours, Tensor own, Tensor mask, "
_mean_backward_op = define(
    f"gated_mean_backward(Tensor grad, {_MEAN}bool need_neighbours, bool need_own, "
    "bool need_mask, str backend) -> (Tensor, Tensor, Tensor)",
    _mean_backward_run,
    _mean_backward_fake,
)
gated_mean = define(
    f"gated_mean({_MEAN}int lists, str backend) -> Tensor",
    _mean_run,
    _mean_fake,
    backward=_mean_backward,
    setup_context=_mean_setup,
)

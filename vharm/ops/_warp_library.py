# SPDX-License-Identifier: Apache-2.0
"""The warps' `torch.library` ops: from schema to the backend's kernel, with gradients.

The public functions have checked everything; here tensors are brought into one of the two layouts
the kernels know, allocated and handed on, all as views `[N,C,H,W]` of any strides. A backend is a
module with the functions `flow_warp`, `flow_warp_backward`, `temporal_loss`,
`temporal_loss_backward` and `flow_consistency`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _backends, _warp_native
from ._library import define
from ._native import prefault, why_not_cpp, why_not_cuda
from ._triton import triton_module, why_not_triton

CANDIDATES = (
    _backends.Candidate("cuda", why_not_cuda),
    _backends.Candidate("triton", why_not_triton),
    _backends.Candidate("cpp", why_not_cpp),
    _backends.Candidate("reference", lambda request: None),
)
for _op in ("flow_warp", "temporal_loss", "flow_consistency"):
    _backends.register(_op, CANDIDATES)


def _kernels(backend: str) -> Any:
    """The module whose functions fill given outputs for this backend."""
    if backend == "triton":
        return triton_module("warp")
    return _warp_native.CUDA if backend == "cuda" else _warp_native.CPP


def _planes(tensor: Tensor, nhwc: bool) -> Tensor:
    """Any layout as a view [N,C,H,W]."""
    return tensor.permute(0, 3, 1, 2) if nhwc else tensor


def _interleaved(planes: Tensor) -> bool:
    return planes.stride(3) != 1 and planes.stride(1) == 1 and planes.stride(3) >= planes.shape[1]


def _ready(tensor: Tensor, nhwc: bool) -> Tensor:
    """As [N,C,H,W] with the pixels of a row, or the channels of a pixel, side by side: a copy
    where neither is so.
    """
    planes = _planes(tensor, nhwc)
    if planes.stride(3) == 1 or _interleaved(planes):
        return planes
    return planes.contiguous()


def _like(tensor: Tensor, nhwc: bool, dtype: torch.dtype | None = None) -> Tensor:
    """A dense tensor of the same layout and kind as `_ready` gives, to be filled."""
    planes = _planes(tensor, nhwc)
    n, c, height, width = planes.shape
    if _interleaved(planes):
        out = planes.new_empty((n, height, width, c), dtype=dtype)
        return out if nhwc else out.permute(0, 3, 1, 2)
    out = planes.new_empty((n, c, height, width), dtype=dtype)
    return out.permute(0, 2, 3, 1) if nhwc else out


def _mask_like(tensor: Tensor, nhwc: bool) -> Tensor:
    n, _, height, width = _planes(tensor, nhwc).shape
    shape = (n, height, width, 1) if nhwc else (n, 1, height, width)
    return tensor.new_empty(shape, dtype=torch.bool)


def _nothing(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return tensor.new_empty(0, dtype=dtype)


# flow_warp ---------------------------------------------------------------------------------------


def _warp_fake(
    image: Tensor, flow: Tensor, border: bool, need_valid: bool, nhwc: bool, backend: str
) -> tuple[Tensor, Tensor]:
    valid = _mask_like(image, nhwc) if need_valid else _nothing(image, torch.bool)
    return _like(image, nhwc), valid


def _warp_run(
    image: Tensor, flow: Tensor, border: bool, need_valid: bool, nhwc: bool, backend: str
) -> tuple[Tensor, Tensor]:
    out, valid = _warp_fake(image, flow, border, need_valid, nhwc, backend)
    if backend == "cpp":
        prefault(out)
    if out.numel() or valid.numel():
        _kernels(backend).flow_warp(
            _ready(image, nhwc), _planes(flow, nhwc), border, _planes(out, nhwc),
            _planes(valid, nhwc) if need_valid else None,
        )  # fmt: skip
    return out, valid


def _warp_backward_fake(
    grad: Tensor, image: Tensor, flow: Tensor, border: bool, nhwc: bool, need_image: bool,
    need_flow: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return (
        _like(image, nhwc) if need_image else _nothing(image),
        _like(flow, nhwc) if need_flow else _nothing(flow),
    )


def _warp_backward_run(
    grad: Tensor, image: Tensor, flow: Tensor, border: bool, nhwc: bool, need_image: bool,
    need_flow: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    grad_image = _like(image, nhwc, torch.float32) if need_image else None  # sums are float32
    grad_flow = _like(flow, nhwc) if need_flow else None
    if backend == "cpp":
        prefault(grad_image, grad_flow)
    frame = _ready(image, nhwc)
    if grad.numel():
        _kernels(backend).flow_warp_backward(
            _as_kind(grad, frame, nhwc), frame, _planes(flow, nhwc), border,
            None if grad_image is None else _planes(grad_image, nhwc),
            None if grad_flow is None else _planes(grad_flow, nhwc),
        )  # fmt: skip
    elif grad_flow is not None:
        grad_flow.zero_()
    return (
        _nothing(image) if grad_image is None else grad_image.to(image.dtype),
        _nothing(flow) if grad_flow is None else grad_flow,
    )


def _as_kind(tensor: Tensor, frame: Tensor, nhwc: bool) -> Tensor:
    """A view [N,C,H,W] of the frame's kind of layout: a copy where it is the other kind."""
    ready = _ready(tensor, nhwc)
    if _interleaved(ready) == _interleaved(frame):
        return ready
    if _interleaved(frame):
        return ready.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return ready.contiguous()


def _warp_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    image, flow, border, _, nhwc, backend = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(image, flow)
    ctx.rest = border, nhwc, backend


def _warp_backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    image, flow = ctx.saved_tensors
    border, nhwc, backend = ctx.rest
    need = ctx.needs_input_grad[:2]
    grads = _warp_backward_op(grad, image, flow, border, nhwc, *need, backend)
    return (*(g if n else None for g, n in zip(grads, need, strict=True)), None, None, None, None)


_warp_backward_op = define(
    "flow_warp_backward(Tensor grad, Tensor image, Tensor flow, bool border, bool nhwc, "
    "bool need_image, bool need_flow, str backend) -> (Tensor, Tensor)",
    _warp_backward_run,
    _warp_backward_fake,
)
flow_warp = define(
    "flow_warp(Tensor image, Tensor flow, bool border, bool need_valid, bool nhwc, str backend) "
    "-> (Tensor, Tensor)",
    _warp_run,
    _warp_fake,
    backward=_warp_backward,
    setup_context=_warp_setup,
)


# temporal_loss -----------------------------------------------------------------------------------


def _loss_fake(
    current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor, valid: Tensor | None,
    nhwc: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    n = current.shape[0]
    return current.new_empty(n, dtype=torch.float32), current.new_empty(n, dtype=torch.float32)


def _loss_run(
    current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor, valid: Tensor | None,
    nhwc: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    loss, weight = _loss_fake(current, previous, flow, mask, valid, nhwc, backend)
    frame = _ready(current, nhwc)
    if current.numel():
        _kernels(backend).temporal_loss(
            frame, _as_kind(previous, frame, nhwc), _planes(flow, nhwc), _planes(mask, nhwc),
            None if valid is None else _planes(valid, nhwc), loss, weight,
        )  # fmt: skip
    else:
        loss.zero_()
        weight.zero_()
    return loss, weight


def _loss_backward_fake(
    grad: Tensor, current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor,
    valid: Tensor | None, weight: Tensor, nhwc: bool, need_current: bool, need_previous: bool,
    need_flow: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        _like(current, nhwc) if need_current else _nothing(current),
        _like(current, nhwc) if need_previous else _nothing(current),
        _like(flow, nhwc) if need_flow else _nothing(flow),
    )


def _loss_backward_run(
    grad: Tensor, current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor,
    valid: Tensor | None, weight: Tensor, nhwc: bool, need_current: bool, need_previous: bool,
    need_flow: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    grad_current = _like(current, nhwc) if need_current else None
    grad_previous = _like(current, nhwc, torch.float32) if need_previous else None
    grad_flow = _like(flow, nhwc) if need_flow else None
    if backend == "cpp":
        prefault(grad_current, grad_previous, grad_flow)
    frame = _ready(current, nhwc)
    if current.numel():
        # What each loss's gradient is multiplied by per squared weight and difference.
        scale = 2.0 * grad / (weight * frame.shape[1])
        scale = torch.where(weight > 0, scale, 0.0).contiguous()
        _kernels(backend).temporal_loss_backward(
            scale, frame, _as_kind(previous, frame, nhwc), _planes(flow, nhwc),
            _planes(mask, nhwc), None if valid is None else _planes(valid, nhwc),
            *(None if g is None else _planes(g, nhwc)
              for g in (grad_current, grad_previous, grad_flow)),
        )  # fmt: skip
    elif grad_flow is not None:
        grad_flow.zero_()
    return (
        _nothing(current) if grad_current is None else grad_current,
        _nothing(current) if grad_previous is None else grad_previous.to(current.dtype),
        _nothing(flow) if grad_flow is None else grad_flow,
    )


def _loss_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, nhwc, backend = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, output[1])
    ctx.rest = nhwc, backend


def _loss_backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    nhwc, backend = ctx.rest
    need = ctx.needs_input_grad[:3]
    grads = _loss_backward_op(grad, *ctx.saved_tensors, nhwc, *need, backend)
    return (*(g if n else None for g, n in zip(grads, need, strict=True)), *(None,) * 4)


_LOSS_ARGUMENTS = "Tensor current, Tensor previous, Tensor flow, Tensor mask, Tensor? valid"
_loss_backward_op = define(
    f"temporal_loss_backward(Tensor grad, {_LOSS_ARGUMENTS}, Tensor weight, bool nhwc, "
    "bool need_current, bool need_previous, bool need_flow, str backend) "
    "-> (Tensor, Tensor, Tensor)",
    _loss_backward_run,
    _loss_backward_fake,
)
temporal_loss = define(
    f"temporal_loss({_LOSS_ARGUMENTS}, bool nhwc, str backend) -> (Tensor, Tensor)",
    _loss_run,
    _loss_fake,
    backward=_loss_backward,
    setup_context=_loss_setup,
)


# flow_consistency --------------------------------------------------------------------------------


def _consistency_run(
    forward: Tensor, backward: Tensor, alpha: float, beta: float, nhwc: bool, backend: str
) -> Tensor:
    out = _mask_like(forward, nhwc)
    if out.numel():
        _kernels(backend).flow_consistency(
            _planes(forward, nhwc), _ready(backward, nhwc), alpha, beta, _planes(out, nhwc)
        )
    return out


def _consistency_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    raise RuntimeError("vharm::flow_consistency is a mask: it cannot be differentiated")


flow_consistency = define(
    "flow_consistency(Tensor forward, Tensor backward, float alpha, float beta, bool nhwc, "
    "str backend) -> Tensor",
    _consistency_run,
    lambda forward, backward, alpha, beta, nhwc, backend: _mask_like(forward, nhwc),
    backward=_consistency_backward,
)

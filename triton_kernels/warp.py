# SPDX-License-Identifier: Apache-2.0
"""Warping by a flow: images, their gradients, the temporal loss, and the consistency of flows.

Tensors are views `[N,C,H,W]` of any strides: images of any number of channels in float32, float16,
bfloat16, uint8 or uint16, flows float32 with two channels (dx, dy) in pixels, masks with one (the
same dtypes, or bool). Samples are bilinear; a NaN in a flow counts as minus infinity. Every
function fills its last arguments and returns nothing; sizes must not be zero.

Bytes moved per pixel with C channels of s bytes: `flow_warp` 2Cs + 8, `flow_warp_backward` 2Cs + 8
read, 4C (atomic additions to four taps, in the cache where the flow is smooth) + 8 written;
`temporal_loss` 2Cs + 8 and the masks; its backward as much and C(s + 4) + 8 written. Atomic
additions come in any order: gradients of the image that is sampled vary in their last bits from
run to run, and are refused under `torch.use_deterministic_algorithms(True)`.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from . import _warp_kernels as kernels
from ._common import as_pointer, full_scale, on_device_of

_PIXELS = 256


def flow_warp(image: Tensor, flow: Tensor, border: bool, out: Tensor, valid: Tensor | None) -> None:
    """`out(p) = image(p + flow(p))`.

    Args:
        image: any number of channels.
        flow: (dx, dy) in pixels.
        border: taps outside are the nearest pixel inside; else 0.
        out: like the image in shape and dtype; integers are rounded half to even.
        valid: bool `[N,1,H,W]`, where the sample lies inside the frame, or None.
    """
    grid, sizes, block = _grid(out)
    with on_device_of(image):
        kernels.warp_kernel[grid](
            image, flow, out, as_pointer(valid, out), *sizes, image.stride(), flow.stride(),
            out.stride(), _strides(valid, out), BORDER=border, NEED_VALID=valid is not None,
            ROUND=not out.is_floating_point(), BLOCK=block,
        )  # fmt: skip


def flow_warp_backward(
    grad: Tensor, image: Tensor, flow: Tensor, border: bool, grad_image: Tensor | None,
    grad_flow: Tensor | None,
) -> None:  # fmt: skip
    """Gradients of `flow_warp`: `grad_image` and `grad_flow` float32, each None if not wanted."""
    if grad_image is not None:
        _refuse_atomics("flow_warp_backward: the gradient of image")
        grad_image.zero_()
    grid, sizes, block = _grid(grad)
    with on_device_of(image):
        kernels.warp_backward_kernel[grid](
            grad, image, flow, as_pointer(grad_image, flow), as_pointer(grad_flow, flow), *sizes,
            grad.stride(), image.stride(), flow.stride(), _strides(grad_image, flow),
            _strides(grad_flow, flow), BORDER=border, NEED_IMAGE=grad_image is not None,
            NEED_FLOW=grad_flow is not None, BLOCK=block,
        )  # fmt: skip


def temporal_loss(
    current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor, valid: Tensor | None,
    loss: Tensor, weight: Tensor,
) -> None:  # fmt: skip
    """`loss = sum w^2 (current - warped previous)^2 / (C sum w)` and `weight = sum w`, both `[N]`.

    `w = mask * valid` where the sample lies inside the frame, else 0; `loss` is 0 where `weight`
    is. Sums are taken per program and then over programs, always in the same order.
    """
    grid, sizes, block = _grid(current)
    n, channels = current.shape[:2]
    sums = flow.new_empty((n, grid[0] // n, 2))
    with on_device_of(current):
        kernels.loss_kernel[grid](
            current, previous, flow, as_pointer(mask, flow), as_pointer(valid, flow), sums, *sizes,
            current.stride(), previous.stride(), flow.stride(), mask.stride(),
            _strides(valid, flow), HAS_VALID=valid is not None, MASK_SCALE=full_scale(mask),
            VALID_SCALE=full_scale(valid), BLOCK=block,
        )  # fmt: skip
    squares, total = sums.double().sum(1).unbind(1)
    weight.copy_(total)
    some = total > 0
    loss.copy_(torch.where(some, squares / (channels * torch.where(some, total, 1)), 0))


def temporal_loss_backward(
    scale: Tensor, current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor,
    valid: Tensor | None, grad_current: Tensor | None, grad_previous: Tensor | None,
    grad_flow: Tensor | None,
) -> None:  # fmt: skip
    """Gradients of `temporal_loss`, each None if not wanted.

    `scale` `[N]` is the loss's gradient times `2 / (C sum w)`; `grad_current` is like the image,
    `grad_previous` and `grad_flow` are float32.
    """
    if grad_previous is not None:
        _refuse_atomics("temporal_loss_backward: the gradient of previous")
        grad_previous.zero_()
    grid, sizes, block = _grid(current)
    grads = (grad_current, grad_previous, grad_flow)
    with on_device_of(current):
        kernels.loss_backward_kernel[grid](
            scale, current, previous, flow, as_pointer(mask, flow), as_pointer(valid, flow),
            *(as_pointer(g, flow) for g in grads), *sizes, current.stride(), previous.stride(),
            flow.stride(), mask.stride(), _strides(valid, flow),
            *(_strides(g, flow) for g in grads), HAS_VALID=valid is not None,
            MASK_SCALE=full_scale(mask), VALID_SCALE=full_scale(valid),
            NEED_CURRENT=grad_current is not None, NEED_PREVIOUS=grad_previous is not None,
            NEED_FLOW=grad_flow is not None, BLOCK=block,
        )  # fmt: skip


def flow_consistency(
    forward: Tensor, backward: Tensor, alpha: float, beta: float, out: Tensor
) -> None:
    """`out` (bool): `|f + b|^2 < alpha (|f|^2 + |b|^2) + beta`, b the backward flow at p + f(p)."""
    grid, (_, *sizes), block = _grid(forward)
    with on_device_of(forward):
        kernels.consistency_kernel[grid](
            forward, backward, as_pointer(out, out), alpha, beta, *sizes, forward.stride(),
            backward.stride(), out.stride(), BLOCK=block,
        )  # fmt: skip


def _grid(like: Tensor) -> tuple[tuple[int], tuple[int, int, int, int], int]:
    """The grid, the kernels' arguments channels, height, width and blocks, and the block."""
    n, channels, height, width = like.shape
    block = min(_PIXELS, max(32, triton.next_power_of_2(width)))
    blocks = triton.cdiv(width, block)
    return (n * height * blocks,), (channels, height, width, blocks), block


def _strides(tensor: Tensor | None, instead: Tensor) -> tuple[int, ...]:
    return (instead if tensor is None else tensor).stride()


def _refuse_atomics(what: str) -> None:
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(
            f"{what} has no deterministic Triton kernel, and "
            "torch.use_deterministic_algorithms(True) is set"
        )

# SPDX-License-Identifier: Apache-2.0
"""Warping by optical flow: images, the temporal loss, and which pixels have a partner at all.

A flow is `[N,2,H,W]` (or `[N,H,W,2]`) = (dx, dy) in pixels, x to the right, y down; pixel centres
are at whole coordinates (`align_corners=True` in PyTorch's words). A NaN in a flow counts as minus
infinity: the sample is outside the frame.

Bytes moved per pixel in float32 with C channels: `flow_warp` 4C + 8 read and 4C written, backward
8C + 8 read and 4C + 8 written; `temporal_loss` 8C + 12 read, backward the same and 8C written.
Source rows are read again from the cache, as long as the flow is smooth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _backends, _check, _warp_library
from .reference import warp as reference

PADDINGS = ("zeros", "border")


def flow_warp(
    image: Tensor, flow: Tensor, *, padding: str = "zeros", return_valid: bool = False,
    layout: str = "NCHW",
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
    """Samples an image where a flow points: `out(p) = image(p + flow(p))`, bilinear.

    Args:
        image: `[N,C,H,W]` (or `[N,H,W,C]`), any C, uint8, uint16 or float of any range. Layouts
            other than planar rows or interleaved channels are copied first.
        flow: `[N,2,H,W]` (or `[N,H,W,2]`) float, (dx, dy) in pixels; computed in float32 (float64
            with a float64 image).
        padding: what taps outside the frame count as: "zeros", or "border" for the nearest pixel
            inside. Displacements that are infinite or NaN (minus infinity) are outside as well.
        return_valid: also return where the sample lies inside `[0,W-1] x [0,H-1]`.
        layout: "NCHW" or "NHWC".

    Returns:
        A tensor like `image`; integers are rounded half to even. With `return_valid` also a bool
        mask `[N,1,H,W]` (or `[N,H,W,1]`). Gradients flow to `image` (a scatter, deterministic on
        the CPU whatever the thread count) and to `flow`: the slope of the cell to the right and
        below, from which the weights are also taken.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "flow_warp"
    _check.has_layout(op, layout)
    _check.has_dtype(op, "image", image, _check.IMAGE_DTYPES)
    shape = ("N", "C", "H", "W") if layout == "NCHW" else ("N", "H", "W", "C")
    _check.has_shape(op, "image", image, shape)
    _check_flow(op, "flow", flow, image, layout)
    if padding not in PADDINGS:
        raise ValueError(f"{op}: padding must be one of {', '.join(PADDINGS)}; got {padding!r}")
    border, nhwc = padding == "border", layout == "NHWC"
    chosen = _backends.choose(op, image.device, image.dtype)
    if chosen == "reference":
        out, valid = _reference_warp(image, flow, border, layout)
    else:
        out, valid = _warp_library.flow_warp(
            image, flow.float(), border, return_valid, nhwc, chosen
        )
    return (out, valid) if return_valid else out


def temporal_loss(
    current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor, *, valid: Tensor | None = None,
    layout: str = "NCHW",
) -> Tensor:  # fmt: skip
    """How much a region changes from one frame to the next, motion taken out; the warp is fused in.

    `loss = sum_p (w(p))^2 mean_c (current_c(p) - previous_c(p + flow(p)))^2 / sum_p w(p)`, with
    `w = mask * valid`, and 0 where the warp leaves the frame (so no padding is ever seen) and where
    a NaN stands in the flow. For a binary mask that is the mean over the foreground pixels N_F
    that have a partner, and over channels; multiply by C for the sum over channels. An image
    whose w is 0 everywhere has the loss 0. What lies where w is 0 is not read, NaN included.

    Args:
        current: `[N,C,H,W]` (or `[N,H,W,C]`), float.
        previous: the frame before it, of the same shape and dtype.
        flow: `[N,2,H,W]` (or `[N,H,W,2]`) float, from the current frame to the previous one.
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale, or float in [0,1].
        valid: like `mask`: 0 where pixels are occluded (`flow_consistency` gives one).
        layout: "NCHW" or "NHWC".

    Returns:
        One loss per image, `[N]` float32 (float64 for float64 images). Gradients flow to
        `current`, `previous` and `flow`, not to the masks: asking for that is an error (except on
        the reference backend). Nothing of the images' size is kept for the backward pass.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: the regional temporal loss of Huang et al., Temporally Coherent Video Harmonization
    Using Adversarial Networks, IEEE TIP 29, 2020, without its factor lambda.
    """
    op = "temporal_loss"
    _check.has_layout(op, layout)
    _check.has_dtype(op, "current", current, _check.FLOAT_DTYPES)
    shape = ("N", "C", "H", "W") if layout == "NCHW" else ("N", "H", "W", "C")
    _check.has_shape(op, "current", current, shape)
    _check.has_dtype(op, "previous", previous, (current.dtype,))
    _check.has_shape(op, "previous", previous, tuple(current.shape))
    _check.on_device(op, "previous", previous, current.device)
    _check_flow(op, "flow", flow, current, layout)
    n, height, width = _extent(current, layout)
    _check.mask(op, mask, (n, height, width), layout, current.device)
    if valid is not None:
        _check.mask(op, valid, (n, height, width), layout, current.device, name="valid")
    chosen = _backends.choose(op, current.device, current.dtype)
    if chosen == "reference":
        return _reference_loss(current, previous, flow, mask, valid, layout)
    _refuse_gradient(op, mask=mask, valid=valid)
    loss, _ = _warp_library.temporal_loss(
        current, previous, flow.float(), _narrow(mask), _narrow(valid), layout == "NHWC", chosen
    )
    return loss


def flow_consistency(
    forward: Tensor, backward: Tensor, *, alpha: float = 0.01, beta: float = 0.5,
    layout: str = "NCHW",
) -> Tensor:  # fmt: skip
    """Where a forward and a backward flow agree; elsewhere the pixel is occluded.

    A pixel is consistent if `|f + b(p+f)|^2 < alpha (|f|^2 + |b(p+f)|^2) + beta` and p + f lies
    inside the frame, with f the forward and b the backward flow, sampled bilinearly.

    Args:
        forward: `[N,2,H,W]` (or `[N,H,W,2]`) float, from frame A to frame B, in pixels.
        backward: from frame B to frame A, the same shape and dtype.
        alpha: share of the displacements' squares that is let pass, 0 or more.
        beta: what is let pass besides, in square pixels, 0 or more.
        layout: "NCHW" or "NHWC".

    Returns:
        bool `[N,1,H,W]` (or `[N,H,W,1]`) at A's pixels: True where they are seen in B too (`valid`
        of `temporal_loss`), False where they are occluded. No gradient.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Sundaram, Brox, Keutzer, Dense point trajectories by GPU-accelerated large displacement
    optical flow, ECCV 2010, equation 5; the constants also in Meister et al., UnFlow, AAAI 2018.
    """
    op = "flow_consistency"
    _check.has_layout(op, layout)
    _check.has_dtype(op, "forward", forward, _check.FLOAT_DTYPES)
    shape = ("N", 2, "H", "W") if layout == "NCHW" else ("N", "H", "W", 2)
    _check.has_shape(op, "forward", forward, shape)
    _check.has_dtype(op, "backward", backward, (forward.dtype,))
    _check.has_shape(op, "backward", backward, tuple(forward.shape))
    _check.on_device(op, "backward", backward, forward.device)
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not isinstance(value, (int, float)):
            raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
        if not 0 <= value < float("inf"):
            raise ValueError(f"{op}: {name} must be finite and not negative, got {value}")
    forward, backward = forward.detach(), backward.detach()
    chosen = _backends.choose(op, forward.device, forward.dtype)
    if chosen == "reference":
        wide = torch.float64 if forward.dtype == torch.float64 else torch.float32
        found = reference.flow_consistency(
            _nchw(forward, layout).to(wide), _nchw(backward, layout).to(wide), alpha, beta
        )
        return _relayout(found, layout)
    return _warp_library.flow_consistency(
        forward.float(), backward.float(), float(alpha), float(beta), layout == "NHWC", chosen
    )


def _extent(image: Tensor, layout: str) -> tuple[int, int, int]:
    n, *rest = image.shape
    return (n, *rest[1:]) if layout == "NCHW" else (n, *rest[:2])


def _check_flow(op: str, name: str, flow: Tensor, image: Tensor, layout: str) -> None:
    _check.has_dtype(op, name, flow, _check.FLOAT_DTYPES)
    n, height, width = _extent(image, layout)
    _check.has_shape(
        op, name, flow, (n, 2, height, width) if layout == "NCHW" else (n, height, width, 2)
    )
    _check.on_device(op, name, flow, image.device)


def _refuse_gradient(op: str, **tensors: Tensor | None) -> None:
    if not torch.is_grad_enabled():
        return
    for name, tensor in tensors.items():
        if tensor is not None and tensor.requires_grad:
            raise ValueError(
                f"{op}: {name} must not require a gradient; it gets none. Detach it, or use "
                'vharm.ops.backend("reference")'
            )


def _narrow(mask: Tensor | None) -> Tensor | None:
    return mask.float() if mask is not None and mask.dtype == torch.float64 else mask


def _nchw(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "NCHW" else tensor.permute(0, 3, 1, 2)


def _relayout(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "NCHW" else tensor.permute(0, 2, 3, 1)


def _wide(image: Tensor) -> torch.dtype:
    return torch.float64 if image.dtype == torch.float64 else torch.float32


def _reference_warp(
    image: Tensor, flow: Tensor, border: bool, layout: str
) -> tuple[Tensor, Tensor]:
    wide = _wide(image)
    v, f = _nchw(image, layout).to(wide), _nchw(flow, layout).to(wide)
    out, valid = reference.flow_warp(v, f, border)
    if not image.is_floating_point():
        out = out.round().to(torch.int32)
    return _relayout(out.to(image.dtype), layout), _relayout(valid, layout)


def _unit(mask: Tensor, wide: torch.dtype, layout: str) -> Tensor:
    return (_nchw(mask, layout).to(wide) / _check.full_scale(mask.dtype)).clamp(0, 1)


def _reference_loss(
    current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor, valid: Tensor | None,
    layout: str,
) -> Tensor:  # fmt: skip
    wide = _wide(current)
    weight = _unit(mask, wide, layout)
    if valid is not None:
        weight = weight * _unit(valid, wide, layout)
    frames = (_nchw(t, layout).to(wide) for t in (current, previous, flow))
    return reference.temporal_loss(*frames, weight)

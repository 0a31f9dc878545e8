# SPDX-License-Identifier: Apache-2.0
"""The kernels behind `warp.py`: one program per row of an image and block of its pixels.

Arguments named `*_at` are a tensor's strides (image, channel, row, pixel).
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode

# Whole numbers up to here are exact in float32; a larger displacement leaves any frame.
_FAR = tl.constexpr(16777216.0)
# Adding and taking away 1.5 * 2^23 rounds |x| < 2^22 to an integer, half to even.
_ROUNDER = tl.constexpr(12582912.0)


@triton.jit
def _locate(height, blocks, width, BLOCK: tl.constexpr):
    """Image, row and pixels of this program, and which of the pixels exist."""
    program = tl.program_id(0)
    whole = program // blocks
    n = (whole // height).to(tl.int64)
    y = whole % height
    x = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    return n, y, x, x < width


@triton.jit
def _tap(displacement, pixel, size):
    """The first of two taps along an axis, from -2 to size, and the way to the second.

    A NaN counts as minus infinity.
    """
    d = tl.where(displacement > -_FAR, displacement, -_FAR)
    d = tl.where(d < _FAR, d, _FAR)
    whole = tl.floor(d)
    at = tl.minimum(tl.maximum(pixel + whole.to(tl.int32), -2), size)
    return at, d - whole


@triton.jit
def _route(flow, flow_at, n, y, x, keep, height, width):
    """First taps and ways in both axes, and where the sample lies inside the frame."""
    place = flow + n * flow_at[0] + y.to(tl.int64) * flow_at[2] + x.to(tl.int64) * flow_at[3]
    dx = tl.load(place, mask=keep, other=0.0)
    dy = tl.load(place + flow_at[1], mask=keep, other=0.0)
    u, fx = _tap(dx, x, width)
    v, fy = _tap(dy, y, height)
    right, below = u + (fx > 0.0).to(tl.int32), v + (fy > 0.0).to(tl.int32)
    inside = (u >= 0) & (right < width) & (v >= 0) & (below < height)
    return u, v, fx, fy, inside & keep, dx, dy


@triton.jit
def _address(at, u, v, keep, height, width, BORDER: tl.constexpr):
    """Offset of a tap in its plane, and whether there is anything to read."""
    if BORDER:
        u = tl.minimum(tl.maximum(u, 0), width - 1)
        v = tl.minimum(tl.maximum(v, 0), height - 1)
    else:
        keep = keep & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return v.to(tl.int64) * at[2] + u.to(tl.int64) * at[3], keep


@triton.jit
def _read(plane, at, u, v, keep, height, width, BORDER: tl.constexpr):
    offset, exists = _address(at, u, v, keep, height, width, BORDER)
    return tl.load(plane + offset, mask=exists, other=0).to(tl.float32)


@triton.jit
def _corners(plane, at, u, v, keep, height, width, BORDER: tl.constexpr):
    """The four taps: upper left and right, lower left and right."""
    return (
        _read(plane, at, u, v, keep, height, width, BORDER),
        _read(plane, at, u + 1, v, keep, height, width, BORDER),
        _read(plane, at, u, v + 1, keep, height, width, BORDER),
        _read(plane, at, u + 1, v + 1, keep, height, width, BORDER),
    )


@triton.jit
def _mix(a, b, c, d, fx, fy):
    left, right = a + fy * (c - a), b + fy * (d - b)
    return left + fx * (right - left)


@triton.jit
def _slopes(a, b, c, d, fx, fy):
    upper, left = b - a, c - a
    return upper + fy * ((d - c) - upper), left + fx * ((d - b) - left)


@triton.jit
def _add(plane, at, u, v, value, keep, height, width, BORDER: tl.constexpr):
    offset, exists = _address(at, u, v, keep, height, width, BORDER)
    tl.atomic_add(plane + offset, value, mask=exists, sem="relaxed")


@triton.jit
def _scatter(plane, at, u, v, fx, fy, g, keep, height, width, BORDER: tl.constexpr):
    """A gradient to the four taps it came from."""
    lower = g * fy
    upper = g - lower
    _add(plane, at, u, v, upper * (1.0 - fx), keep, height, width, BORDER)
    _add(plane, at, u + 1, v, upper * fx, keep, height, width, BORDER)
    _add(plane, at, u, v + 1, lower * (1.0 - fx), keep, height, width, BORDER)
    _add(plane, at, u + 1, v + 1, lower * fx, keep, height, width, BORDER)


@triton.jit
def _own(tensor, at, n, y, x):
    """Address of this program's own pixels, channel 0."""
    return tensor + n * at[0] + y.to(tl.int64) * at[2] + x.to(tl.int64) * at[3]


@triton.jit
def warp_kernel(
    image, flow, out, valid, channels, height, width, blocks, image_at, flow_at, out_at, valid_at,
    BORDER: tl.constexpr, NEED_VALID: tl.constexpr, ROUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, y, x, keep = _locate(height, blocks, width, BLOCK)
    u, v, fx, fy, inside, _, _ = _route(flow, flow_at, n, y, x, keep, height, width)
    if NEED_VALID:
        tl.store(_own(valid, valid_at, n, y, x), inside.to(tl.uint8), mask=keep)
    plane, to = image + n * image_at[0], _own(out, out_at, n, y, x)
    for _ in range(channels):
        a, b, c, d = _corners(plane, image_at, u, v, keep, height, width, BORDER)
        value = _mix(a, b, c, d, fx, fy)
        if ROUND:
            whole = (value + _ROUNDER) - _ROUNDER
            tl.store(to, whole.to(tl.int32).to(out.dtype.element_ty), mask=keep)
        else:
            tl.store(to, value.to(out.dtype.element_ty), mask=keep)
        plane += image_at[1]
        to += out_at[1]


@triton.jit
def warp_backward_kernel(
    grad, image, flow, grad_image, grad_flow, channels, height, width, blocks, grad_at, image_at,
    flow_at, grad_image_at, grad_flow_at, BORDER: tl.constexpr, NEED_IMAGE: tl.constexpr,
    NEED_FLOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, y, x, keep = _locate(height, blocks, width, BLOCK)
    u, v, fx, fy, _, _, _ = _route(flow, flow_at, n, y, x, keep, height, width)
    gx, gy = tl.zeros_like(fx), tl.zeros_like(fx)
    plane, own = image + n * image_at[0], _own(grad, grad_at, n, y, x)
    target = grad_image + n * grad_image_at[0]
    for _ in range(channels):
        g = tl.load(own, mask=keep, other=0).to(tl.float32)
        if NEED_FLOW:
            a, b, c, d = _corners(plane, image_at, u, v, keep, height, width, BORDER)
            sx, sy = _slopes(a, b, c, d, fx, fy)
            gx += g * sx
            gy += g * sy
        if NEED_IMAGE:
            _scatter(target, grad_image_at, u, v, fx, fy, g, keep, height, width, BORDER)
        plane += image_at[1]
        own += grad_at[1]
        target += grad_image_at[1]
    if NEED_FLOW:
        to = _own(grad_flow, grad_flow_at, n, y, x)
        tl.store(to, gx, mask=keep)
        tl.store(to + grad_flow_at[1], gy, mask=keep)


@triton.jit
def _unit_mask(mask, mask_at, n, y, x, keep, SCALE: tl.constexpr):
    value = decode(tl.load(_own(mask, mask_at, n, y, x), mask=keep, other=0), SCALE)
    return tl.minimum(tl.maximum(value, 0.0), 1.0)


@triton.jit
def loss_kernel(
    current, previous, flow, mask, valid, sums, channels, height, width, blocks, current_at,
    previous_at, flow_at, mask_at, valid_at, HAS_VALID: tl.constexpr, MASK_SCALE: tl.constexpr,
    VALID_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Partial sums [programs, 2]: squares, weight."""
    n, y, x, keep = _locate(height, blocks, width, BLOCK)
    u, v, fx, fy, inside, _, _ = _route(flow, flow_at, n, y, x, keep, height, width)
    w = tl.where(inside, _unit_mask(mask, mask_at, n, y, x, keep, MASK_SCALE), 0.0)
    if HAS_VALID:
        w *= _unit_mask(valid, valid_at, n, y, x, keep, VALID_SCALE)
    counts = w > 0.0
    total = tl.zeros_like(w)
    plane, own = previous + n * previous_at[0], _own(current, current_at, n, y, x)
    for _ in range(channels):
        a, b, c, d = _corners(plane, previous_at, u, v, counts, height, width, True)
        e = w * (tl.load(own, mask=counts, other=0).to(tl.float32) - _mix(a, b, c, d, fx, fy))
        total += e * e
        plane += previous_at[1]
        own += current_at[1]
    program = tl.program_id(0)
    tl.store(sums + 2 * program, tl.sum(total, 0))
    tl.store(sums + 2 * program + 1, tl.sum(w, 0))


@triton.jit
def loss_backward_kernel(
    scale, current, previous, flow, mask, valid, grad_current, grad_previous, grad_flow, channels,
    height, width, blocks, current_at, previous_at, flow_at, mask_at, valid_at, grad_current_at,
    grad_previous_at, grad_flow_at, HAS_VALID: tl.constexpr, MASK_SCALE: tl.constexpr,
    VALID_SCALE: tl.constexpr, NEED_CURRENT: tl.constexpr, NEED_PREVIOUS: tl.constexpr,
    NEED_FLOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, y, x, keep = _locate(height, blocks, width, BLOCK)
    u, v, fx, fy, inside, _, _ = _route(flow, flow_at, n, y, x, keep, height, width)
    w = tl.where(inside, _unit_mask(mask, mask_at, n, y, x, keep, MASK_SCALE), 0.0)
    if HAS_VALID:
        w *= _unit_mask(valid, valid_at, n, y, x, keep, VALID_SCALE)
    counts = w > 0.0
    factor = tl.load(scale + n) * w * w
    gx, gy = tl.zeros_like(w), tl.zeros_like(w)
    plane, own = previous + n * previous_at[0], _own(current, current_at, n, y, x)
    to = _own(grad_current, grad_current_at, n, y, x)
    target = grad_previous + n * grad_previous_at[0]
    for _ in range(channels):
        a, b, c, d = _corners(plane, previous_at, u, v, counts, height, width, True)
        e = tl.load(own, mask=counts, other=0).to(tl.float32) - _mix(a, b, c, d, fx, fy)
        g = tl.where(counts, factor * e, 0.0)
        if NEED_CURRENT:
            tl.store(to, g.to(grad_current.dtype.element_ty), mask=keep)
        if NEED_PREVIOUS:
            _scatter(target, grad_previous_at, u, v, fx, fy, -g, counts, height, width, True)
        if NEED_FLOW:
            sx, sy = _slopes(a, b, c, d, fx, fy)
            gx -= g * sx
            gy -= g * sy
        plane += previous_at[1]
        own += current_at[1]
        to += grad_current_at[1]
        target += grad_previous_at[1]
    if NEED_FLOW:
        place = _own(grad_flow, grad_flow_at, n, y, x)
        tl.store(place, gx, mask=keep)
        tl.store(place + grad_flow_at[1], gy, mask=keep)


@triton.jit
def consistency_kernel(
    forward, backward, out, alpha, beta, height, width, blocks, forward_at, backward_at, out_at,
    BLOCK: tl.constexpr,
):  # fmt: skip
    n, y, x, keep = _locate(height, blocks, width, BLOCK)
    u, v, fx, fy, inside, dx, dy = _route(forward, forward_at, n, y, x, keep, height, width)
    plane = backward + n * backward_at[0]
    a, b, c, d = _corners(plane, backward_at, u, v, keep, height, width, True)
    bx = _mix(a, b, c, d, fx, fy)
    a, b, c, d = _corners(plane + backward_at[1], backward_at, u, v, keep, height, width, True)
    by = _mix(a, b, c, d, fx, fy)
    gap = (dx + bx) * (dx + bx) + (dy + by) * (dy + by)
    size = (dx * dx + dy * dy) + (bx * bx + by * by)
    agree = inside & (gap < alpha * size + beta)
    tl.store(_own(out, out_at, n, y, x), agree.to(tl.uint8), mask=keep)

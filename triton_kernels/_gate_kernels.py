# SPDX-License-Identifier: Apache-2.0
"""The kernels behind `attention.py`'s gates.

Arguments named `*_at` are a tensor's strides (image, channel, line, pixel), `*_step` that from one
of a stack to the next. A program handles BLOCK pixels of one line; that of a stack holds all its
channels at once, padded to the power of two CHANNELS.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, load_plane, locate


@triton.jit
def _weight(mask, mask_at, n, line, pixel, inside, MASK_SCALE: tl.constexpr):
    """The mask's samples, full scale to 1, as they are and clamped."""
    raw = decode(load_plane(mask, mask_at, n, line, pixel, inside), MASK_SCALE)
    return raw, tl.minimum(tl.maximum(raw, 0.0), 1.0)


# one feature map ---------------------------------------------------------------------------------


@triton.jit
def _channel(data, strides, n, c, line, pixel, keep):
    """Float32 samples of one channel."""
    at = data + n * strides[0] + c * strides[1] + line * strides[2] + pixel * strides[3]
    return tl.load(at, mask=keep, other=0.0).to(tl.float32)


@triton.jit
def _store_channel(data, strides, n, c, line, pixel, keep, values):
    at = data + n * strides[0] + c * strides[1] + line * strides[2] + pixel * strides[3]
    tl.store(at, values.to(data.dtype.element_ty), mask=keep)


@triton.jit
def _agreement(theta, theta_at, phi, phi_at, n, line, pixel, keep, C, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], tl.float32)
    for c in range(C):
        a = _channel(theta, theta_at, n, c, line, pixel, keep)
        total += a * _channel(phi, phi_at, n, c, line, pixel, keep)
    return tl.sigmoid(total)


@triton.jit
def gate_kernel(
    theta, phi, feature, mask, out, embedding, channels, lines, pixels, blocks,
    theta_at, phi_at, feature_at, mask_at, out_at, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, _ = locate(lines, pixels, blocks, BLOCK)
    _, weight = _weight(mask, mask_at, n, line, pixel, inside, MASK_SCALE)
    keep = weight > 0
    factor = tl.full([BLOCK], 1.0, tl.float32)
    if tl.max(keep.to(tl.int32), 0) != 0:
        gate = _agreement(theta, theta_at, phi, phi_at, n, line, pixel, keep, embedding, BLOCK)
        factor = tl.where(keep, 1.0 + weight * (gate - 1.0), 1.0)
    for c in range(channels):
        f = _channel(feature, feature_at, n, c, line, pixel, inside)
        _store_channel(out, out_at, n, c, line, pixel, inside, f * factor)


@triton.jit
def gate_backward_kernel(
    grad, theta, phi, feature, mask, grad_theta, grad_phi, grad_feature, grad_mask, embedding,
    channels, lines, pixels, blocks, grad_at, theta_at, phi_at, feature_at, mask_at,
    grad_theta_at, grad_phi_at, grad_feature_at, grad_mask_at,
    NEED_THETA: tl.constexpr, NEED_PHI: tl.constexpr, NEED_FEATURE: tl.constexpr,
    NEED_MASK: tl.constexpr, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, _ = locate(lines, pixels, blocks, BLOCK)
    raw, weight = _weight(mask, mask_at, n, line, pixel, inside, MASK_SCALE)
    keep = weight > 0
    gate = _agreement(theta, theta_at, phi, phi_at, n, line, pixel, inside, embedding, BLOCK)
    factor = tl.where(keep, 1.0 + weight * (gate - 1.0), 1.0)
    product = tl.zeros([BLOCK], tl.float32)
    for c in range(channels):
        g = _channel(grad, grad_at, n, c, line, pixel, inside)
        product += g * _channel(feature, feature_at, n, c, line, pixel, inside)
        if NEED_FEATURE:
            _store_channel(grad_feature, grad_feature_at, n, c, line, pixel, inside, g * factor)
    if NEED_MASK:
        passes = (raw >= 0.0) & (raw <= 1.0)
        to_mask = tl.where(passes, product * (gate - 1.0), 0.0)
        _store_channel(grad_mask, grad_mask_at, n, 0, line, pixel, inside, to_mask)
    slope = tl.where(keep, weight * product * gate * (1.0 - gate), 0.0)
    if NEED_THETA:
        for c in range(embedding):
            p = _channel(phi, phi_at, n, c, line, pixel, inside)
            _store_channel(grad_theta, grad_theta_at, n, c, line, pixel, inside, slope * p)
    if NEED_PHI:
        for c in range(embedding):
            t = _channel(theta, theta_at, n, c, line, pixel, inside)
            _store_channel(grad_phi, grad_phi_at, n, c, line, pixel, inside, slope * t)


# stacks ------------------------------------------------------------------------------------------


@triton.jit
def _offsets(strides, n, row, line, pixel):
    """Of a tile of all channels, from a stack's first sample."""
    place = n * strides[0] + line * strides[2] + pixel * strides[3]
    return row * strides[1] + place[None, :]


@triton.jit
def mean_kernel(
    neighbours, own, mask, out, channels, lists, share, lines, pixels, blocks,
    neighbours_at, own_at, mask_at, out_at, neighbours_step, out_step,
    CHANNELS: tl.constexpr, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, _ = locate(lines, pixels, blocks, BLOCK)
    _, weight = _weight(mask, mask_at, n, line, pixel, inside, MASK_SCALE)
    keep = weight > 0
    row = tl.arange(0, CHANNELS)[:, None].to(tl.int64)
    there = (row < channels) & inside[None, :]
    known = there & keep[None, :]
    current = tl.load(own + _offsets(own_at, n, row, line, pixel), mask=known, other=0.0)
    current = current.to(tl.float32)
    from_at = _offsets(neighbours_at, n, row, line, pixel)
    to_at = _offsets(out_at, n, row, line, pixel)
    source, target = neighbours, out
    for _list in range(lists):
        total = tl.zeros([CHANNELS, BLOCK], tl.float32)
        for _one in range(share):
            w = tl.load(source + from_at, mask=there, other=0.0).to(tl.float32)
            gate = tl.sigmoid(tl.sum(w * current, 0))
            total += w * tl.where(keep, 1.0 + weight * (gate - 1.0), 1.0)[None, :]
            source += neighbours_step
        tl.store(target + to_at, (total / share).to(out.dtype.element_ty), mask=there)
        target += out_step


@triton.jit
def mean_backward_kernel(
    grad, neighbours, own, mask, grad_neighbours, grad_own, grad_mask, channels, lists, share,
    lines, pixels, blocks, grad_at, neighbours_at, own_at, mask_at, grad_neighbours_at,
    grad_own_at, grad_mask_at, grad_step, neighbours_step, grad_neighbours_step,
    NEED_NEIGHBOURS: tl.constexpr, NEED_OWN: tl.constexpr, NEED_MASK: tl.constexpr,
    CHANNELS: tl.constexpr, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, _ = locate(lines, pixels, blocks, BLOCK)
    raw, weight = _weight(mask, mask_at, n, line, pixel, inside, MASK_SCALE)
    keep = weight > 0
    row = tl.arange(0, CHANNELS)[:, None].to(tl.int64)
    there = (row < channels) & inside[None, :]
    # Outside the mask only the mask's own gradient needs the products.
    known = there if NEED_MASK else there & keep[None, :]
    current = tl.load(own + _offsets(own_at, n, row, line, pixel), mask=known, other=0.0)
    current = current.to(tl.float32)
    grad_from = _offsets(grad_at, n, row, line, pixel)
    from_at = _offsets(neighbours_at, n, row, line, pixel)
    to_at = _offsets(grad_neighbours_at, n, row, line, pixel)
    source, target, given = neighbours, grad_neighbours, grad
    total = tl.zeros([CHANNELS, BLOCK], tl.float32)
    to_mask = tl.zeros([BLOCK], tl.float32)
    for _list in range(lists):
        g = tl.load(given + grad_from, mask=there, other=0.0).to(tl.float32) / share
        for _one in range(share):
            w = tl.load(source + from_at, mask=known, other=0.0).to(tl.float32)
            gate = tl.sigmoid(tl.sum(w * current, 0))
            product = tl.sum(w * g, 0)
            slope = (weight * product * gate * (1.0 - gate))[None, :]
            if NEED_NEIGHBOURS:
                factor = tl.where(keep, 1.0 + weight * (gate - 1.0), 1.0)[None, :]
                part = tl.where(keep[None, :], slope * current, 0.0)
                values = (g * factor + part).to(grad_neighbours.dtype.element_ty)
                tl.store(target + to_at, values, mask=there)
                target += grad_neighbours_step
            if NEED_OWN:
                total += tl.where(keep[None, :], slope * w, 0.0)
            if NEED_MASK:
                to_mask += product * (gate - 1.0)
            source += neighbours_step
        given += grad_step
    if NEED_OWN:
        values = total.to(grad_own.dtype.element_ty)
        tl.store(grad_own + _offsets(grad_own_at, n, row, line, pixel), values, mask=there)
    if NEED_MASK:
        to_mask = tl.where((raw >= 0.0) & (raw <= 1.0), to_mask, 0.0)
        _store_channel(grad_mask, grad_mask_at, n, 0, line, pixel, inside, to_mask)

# SPDX-License-Identifier: Apache-2.0
"""The kernels behind `attention.py`'s neighbourhoods.

Arguments named `*_at` are a tensor's strides (image, channel, line, pixel). Scores are to the base
2: `factor` is scale * log2(e). A neighbourhood program handles BLOCK positions of one line, one
head of DQ query and DV value channels, padded to the powers of two PQ and PV. Keys gather from the
queries that see them: nothing is added to by two programs.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import load_plane

# neighbourhoods ----------------------------------------------------------------------------------


@triton.jit
def _place(height, width, blocks, heads, BLOCK: tl.constexpr):
    """Image, head, line and pixels of this program."""
    program = tl.program_id(0)
    whole = program // blocks
    y = whole % height
    head = whole // height % heads
    n = (whole // height // heads).to(tl.int64)
    x = program % blocks * BLOCK + tl.arange(0, BLOCK)
    return n, head.to(tl.int64), y, x


@triton.jit
def _exists(y, x, height, width):
    """Which pixels of a line lie in the image."""
    line = y + tl.zeros_like(x)
    return (x >= 0) & (x < width) & (line >= 0) & (line < height)


@triton.jit
def _tile(data, strides, n, first, y, x, keep, D: tl.constexpr, P: tl.constexpr):
    """`[BLOCK,P]` float32: channels first .. first + D of some pixels, zeros elsewhere."""
    c = tl.arange(0, P)
    at = data + n * strides[0] + y.to(tl.int64) * strides[2]
    at = at + (x.to(tl.int64) * strides[3])[:, None] + ((first + c) * strides[1])[None, :]
    return tl.load(at, mask=keep[:, None] & (c < D)[None, :], other=0.0).to(tl.float32)


@triton.jit
def _store_tile(data, strides, n, first, y, x, keep, values, D: tl.constexpr, P: tl.constexpr):
    c = tl.arange(0, P)
    at = data + n * strides[0] + y.to(tl.int64) * strides[2]
    at = at + (x.to(tl.int64) * strides[3])[:, None] + ((first + c) * strides[1])[None, :]
    tl.store(at, values.to(data.dtype.element_ty), mask=keep[:, None] & (c < D)[None, :])


@triton.jit
def _is_set(mask, strides, n, y, x, inside, HAS_MASK: tl.constexpr):
    if HAS_MASK:
        return inside & (load_plane(mask, strides, n, y.to(tl.int64), x.to(tl.int64), inside) > 0)
    else:
        return inside


@triton.jit
def _rows(n, head, heads, y, x, height, width):
    """Where a head's positions lie in a contiguous `[N,heads,H,W]`."""
    return ((n * heads + head) * height + y) * width + x


@triton.jit
def window_kernel(
    query, key, value, mask, key_mask, out, lse, factor, height, width, blocks, heads,
    query_at, key_at, value_at, mask_at, key_mask_at, out_at,
    WINDOW: tl.constexpr, DQ: tl.constexpr, PQ: tl.constexpr, DV: tl.constexpr, PV: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_KEY_MASK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, head, y, x = _place(height, width, blocks, heads, BLOCK)
    inside = x < width
    keep = _is_set(mask, mask_at, n, y, x, inside, HAS_MASK)
    total = tl.zeros([BLOCK, PV], tl.float32)
    logarithm = tl.zeros([BLOCK], tl.float32)
    if tl.max(keep.to(tl.int32), 0) != 0:
        q = _tile(query, query_at, n, head * DQ, y, x, keep, DQ, PQ) * factor
        most = tl.zeros([BLOCK], tl.float32) - 3e38
        weights = tl.zeros([BLOCK], tl.float32)
        found = tl.zeros([BLOCK], tl.int32)
        for offset in range(WINDOW * WINDOW):
            ky = y + (offset // WINDOW - WINDOW // 2)
            kx = x + (offset % WINDOW - WINDOW // 2)
            there = keep & _exists(ky, kx, height, width)
            there = _is_set(key_mask, key_mask_at, n, ky, kx, there, HAS_KEY_MASK)
            k = _tile(key, key_at, n, head * DQ, ky, kx, there, DQ, PQ)
            score = tl.where(there, tl.sum(q * k, 1), float("-inf"))
            top = tl.maximum(most, score)
            weight = tl.exp2(score - top)
            shrink = tl.exp2(most - top)
            v = _tile(value, value_at, n, head * DV, ky, kx, there, DV, PV)
            total = total * shrink[:, None] + weight[:, None] * v
            weights = weights * shrink + weight
            found = found | there.to(tl.int32)
            most = top
        some = found != 0
        weights = tl.where(some, weights, 1.0)
        total = tl.where(some[:, None], total / weights[:, None], 0.0)
        logarithm = tl.where(some, most + tl.log2(weights), 0.0)
    _store_tile(out, out_at, n, head * DV, y, x, inside, total, DV, PV)
    tl.store(lse + _rows(n, head, heads, y, x, height, width), logarithm, mask=inside)


@triton.jit
def window_query_kernel(
    grad, query, key, value, mask, key_mask, lse, inner, grad_query, factor, scale, height, width,
    blocks, heads, grad_at, query_at, key_at, value_at, mask_at, key_mask_at, grad_query_at,
    WINDOW: tl.constexpr, DQ: tl.constexpr, PQ: tl.constexpr, DV: tl.constexpr, PV: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_KEY_MASK: tl.constexpr, NEED_QUERY: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The query's gradient, and `inner`, the mean slope by the weights."""
    n, head, y, x = _place(height, width, blocks, heads, BLOCK)
    inside = x < width
    keep = _is_set(mask, mask_at, n, y, x, inside, HAS_MASK)
    at = _rows(n, head, heads, y, x, height, width)
    mean = tl.zeros([BLOCK], tl.float32)
    total = tl.zeros([BLOCK, PQ], tl.float32)
    if tl.max(keep.to(tl.int32), 0) != 0:
        q = _tile(query, query_at, n, head * DQ, y, x, keep, DQ, PQ) * factor
        g = _tile(grad, grad_at, n, head * DV, y, x, keep, DV, PV)
        logarithm = tl.load(lse + at, mask=keep, other=0.0)
        keys = tl.zeros([BLOCK, PQ], tl.float32)
        for offset in range(WINDOW * WINDOW):
            ky = y + (offset // WINDOW - WINDOW // 2)
            kx = x + (offset % WINDOW - WINDOW // 2)
            there = keep & _exists(ky, kx, height, width)
            there = _is_set(key_mask, key_mask_at, n, ky, kx, there, HAS_KEY_MASK)
            k = _tile(key, key_at, n, head * DQ, ky, kx, there, DQ, PQ)
            v = _tile(value, value_at, n, head * DV, ky, kx, there, DV, PV)
            weight = tl.where(there, tl.exp2(tl.sum(q * k, 1) - logarithm), 0.0)
            slope = weight * tl.sum(g * v, 1)
            mean += slope
            total += slope[:, None] * k
            keys += weight[:, None] * k
        total = (total - mean[:, None] * keys) * scale
    if NEED_QUERY:
        _store_tile(grad_query, grad_query_at, n, head * DQ, y, x, inside, total, DQ, PQ)
    tl.store(inner + at, mean, mask=inside)


@triton.jit
def window_key_kernel(
    grad, query, key, value, mask, key_mask, lse, inner, grad_key, grad_value, factor, scale,
    height, width, blocks, heads, grad_at, query_at, key_at, value_at, mask_at, key_mask_at,
    grad_key_at, grad_value_at,
    WINDOW: tl.constexpr, DQ: tl.constexpr, PQ: tl.constexpr, DV: tl.constexpr, PV: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_KEY_MASK: tl.constexpr, NEED_KEY: tl.constexpr,
    NEED_VALUE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The own positions are keys; the queries that see them lie at the negative offsets."""
    n, head, y, x = _place(height, width, blocks, heads, BLOCK)
    inside = x < width
    keep = _is_set(key_mask, key_mask_at, n, y, x, inside, HAS_KEY_MASK)
    to_key = tl.zeros([BLOCK, PQ], tl.float32)
    to_value = tl.zeros([BLOCK, PV], tl.float32)
    if tl.max(keep.to(tl.int32), 0) != 0:
        k = _tile(key, key_at, n, head * DQ, y, x, keep, DQ, PQ) * factor
        v = _tile(value, value_at, n, head * DV, y, x, keep, DV, PV)
        for offset in range(WINDOW * WINDOW):
            qy = y - (offset // WINDOW - WINDOW // 2)
            qx = x - (offset % WINDOW - WINDOW // 2)
            there = keep & _exists(qy, qx, height, width)
            there = _is_set(mask, mask_at, n, qy, qx, there, HAS_MASK)
            if tl.max(there.to(tl.int32), 0) != 0:
                at = _rows(n, head, heads, qy, qx, height, width)
                logarithm = tl.load(lse + at, mask=there, other=0.0)
                q = _tile(query, query_at, n, head * DQ, qy, qx, there, DQ, PQ)
                g = _tile(grad, grad_at, n, head * DV, qy, qx, there, DV, PV)
                weight = tl.where(there, tl.exp2(tl.sum(q * k, 1) - logarithm), 0.0)
                if NEED_KEY:
                    mean = tl.load(inner + at, mask=there, other=0.0)
                    slope = weight * (tl.sum(g * v, 1) - mean) * scale
                    to_key += slope[:, None] * q
                if NEED_VALUE:
                    to_value += weight[:, None] * g
    if NEED_KEY:
        _store_tile(grad_key, grad_key_at, n, head * DQ, y, x, inside, to_key, DQ, PQ)
    if NEED_VALUE:
        _store_tile(grad_value, grad_value_at, n, head * DV, y, x, inside, to_value, DV, PV)

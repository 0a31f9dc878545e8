# SPDX-License-Identifier: Apache-2.0
"""Attention between the set positions of two masks, behind `attention.py`.

A program handles BLOCK set positions of one side, one head, and walks over the other side's in
steps of OTHER. `*_index` `[N,size]` holds an image's positions, the set ones first, `*_count` how
many are set: a program behind the last one ends at once, so nobody waits to learn the numbers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _positions(index, count, n, size, first, BLOCK: tl.constexpr):
    """BLOCK set positions from the first-th on, and which of them exist."""
    i = first + tl.arange(0, BLOCK)
    keep = i < tl.load(count + n)
    return tl.load(index + n * size + i, mask=keep, other=0), keep


@triton.jit
def _at(strides, n, first, position, width, P: tl.constexpr):
    """Offsets `[BLOCK,P]` of P channels."""
    y, x = (position // width).to(tl.int64), (position % width).to(tl.int64)
    c = first + tl.arange(0, P)
    pixel = n * strides[0] + y * strides[2] + x * strides[3]
    return pixel[:, None] + (c * strides[1])[None, :]


@triton.jit
def _tile(data, strides, n, first, position, width, keep, D: tl.constexpr, P: tl.constexpr):
    """`[BLOCK,P]` float32, zeros behind the last position and the last channel."""
    there = keep[:, None] & (tl.arange(0, P) < D)[None, :]
    at = data + _at(strides, n, first, position, width, P)
    return tl.load(at, mask=there, other=0.0).to(tl.float32)


@triton.jit
def _store_tile(data, strides, n, first, position, width, keep, values, D: tl.constexpr,
                P: tl.constexpr):  # fmt: skip
    there = keep[:, None] & (tl.arange(0, P) < D)[None, :]
    at = data + _at(strides, n, first, position, width, P)
    tl.store(at, values.to(data.dtype.element_ty), mask=there)


@triton.jit
def _product(a, b):
    """The product of a and b transposed, in full float32."""
    return tl.dot(a, tl.trans(b), input_precision="ieee")


@triton.jit
def pairs_kernel(
    query, key, value, query_index, query_count, key_index, key_count, out, lse, factor,
    query_size, query_width, key_size, key_width, heads, query_at, key_at, value_at, out_at,
    DQ: tl.constexpr, PQ: tl.constexpr, DV: tl.constexpr, PV: tl.constexpr, BLOCK: tl.constexpr,
    OTHER: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK
    n, head = (tl.program_id(1) // heads).to(tl.int64), (tl.program_id(1) % heads).to(tl.int64)
    keys = tl.load(key_count + n)
    if (first < tl.load(query_count + n)) & (keys > 0):
        own, keep = _positions(query_index, query_count, n, query_size, first, BLOCK)
        q = _tile(query, query_at, n, head * DQ, own, query_width, keep, DQ, PQ) * factor
        most = tl.zeros([BLOCK], tl.float32) - 3e38
        weights = tl.zeros([BLOCK], tl.float32)
        total = tl.zeros([BLOCK, PV], tl.float32)
        for start in range(0, keys, OTHER):
            other, there = _positions(key_index, key_count, n, key_size, start, OTHER)
            k = _tile(key, key_at, n, head * DQ, other, key_width, there, DQ, PQ)
            score = tl.where(there[None, :], _product(q, k), float("-inf"))
            top = tl.maximum(most, tl.max(score, 1))
            weight = tl.exp2(score - top[:, None])
            shrink = tl.exp2(most - top)
            v = _tile(value, value_at, n, head * DV, other, key_width, there, DV, PV)
            total = total * shrink[:, None] + tl.dot(weight, v, input_precision="ieee")
            weights = weights * shrink + tl.sum(weight, 1)
            most = top
        total = total / weights[:, None]
        _store_tile(out, out_at, n, head * DV, own, query_width, keep, total, DV, PV)
        tl.store(lse + (n * heads + head) * query_size + own, most + tl.log2(weights), mask=keep)


@triton.jit
def pairs_query_kernel(
    grad, query, key, value, query_index, query_count, key_index, key_count, out, lse, inner,
    grad_query, factor, scale, query_size, query_width, key_size, key_width, heads, grad_at,
    query_at, key_at, value_at, out_at, grad_query_at,
    DQ: tl.constexpr, PQ: tl.constexpr, DV: tl.constexpr, PV: tl.constexpr,
    NEED_QUERY: tl.constexpr, BLOCK: tl.constexpr, OTHER: tl.constexpr,
):  # fmt: skip
    """The query's gradient, and `inner`, the gradient times the result."""
    first = tl.program_id(0) * BLOCK
    n, head = (tl.program_id(1) // heads).to(tl.int64), (tl.program_id(1) % heads).to(tl.int64)
    keys = tl.load(key_count + n)
    if (first < tl.load(query_count + n)) & (keys > 0):
        own, keep = _positions(query_index, query_count, n, query_size, first, BLOCK)
        g = _tile(grad, grad_at, n, head * DV, own, query_width, keep, DV, PV)
        result = _tile(out, out_at, n, head * DV, own, query_width, keep, DV, PV)
        mean = tl.sum(g * result, 1)
        rows = (n * heads + head) * query_size + own
        tl.store(inner + rows, mean, mask=keep)
        if NEED_QUERY:
            q = _tile(query, query_at, n, head * DQ, own, query_width, keep, DQ, PQ) * factor
            logarithm = tl.load(lse + rows, mask=keep, other=0.0)
            total = tl.zeros([BLOCK, PQ], tl.float32)
            for start in range(0, keys, OTHER):
                other, there = _positions(key_index, key_count, n, key_size, start, OTHER)
                k = _tile(key, key_at, n, head * DQ, other, key_width, there, DQ, PQ)
                v = _tile(value, value_at, n, head * DV, other, key_width, there, DV, PV)
                weight = tl.exp2(_product(q, k) - logarithm[:, None])
                both = keep[:, None] & there[None, :]
                slope = tl.where(both, weight * (_product(g, v) - mean[:, None]) * scale, 0.0)
                total += tl.dot(slope, k, input_precision="ieee")
            at = grad_query_at
            _store_tile(grad_query, at, n, head * DQ, own, query_width, keep, total, DQ, PQ)


@triton.jit
def pairs_key_kernel(
    grad, query, key, value, query_index, query_count, key_index, key_count, lse, inner, grad_key,
    grad_value, factor, scale, query_size, query_width, key_size, key_width, heads, grad_at,
    query_at, key_at, value_at, grad_key_at, grad_value_at,
    DQ: tl.constexpr, PQ: tl.constexpr, DV: tl.constexpr, PV: tl.constexpr,
    NEED_KEY: tl.constexpr, NEED_VALUE: tl.constexpr, BLOCK: tl.constexpr, OTHER: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK
    n, head = (tl.program_id(1) // heads).to(tl.int64), (tl.program_id(1) % heads).to(tl.int64)
    queries = tl.load(query_count + n)
    if (first < tl.load(key_count + n)) & (queries > 0):
        own, keep = _positions(key_index, key_count, n, key_size, first, BLOCK)
        k = _tile(key, key_at, n, head * DQ, own, key_width, keep, DQ, PQ) * factor
        v = _tile(value, value_at, n, head * DV, own, key_width, keep, DV, PV)
        to_key = tl.zeros([BLOCK, PQ], tl.float32)
        to_value = tl.zeros([BLOCK, PV], tl.float32)
        for start in range(0, queries, OTHER):
            other, there = _positions(query_index, query_count, n, query_size, start, OTHER)
            rows = (n * heads + head) * query_size + other
            logarithm = tl.load(lse + rows, mask=there, other=0.0)
            q = _tile(query, query_at, n, head * DQ, other, query_width, there, DQ, PQ)
            g = _tile(grad, grad_at, n, head * DV, other, query_width, there, DV, PV)
            both = keep[:, None] & there[None, :]
            weight = tl.where(both, tl.exp2(_product(k, q) - logarithm[None, :]), 0.0)
            if NEED_KEY:
                mean = tl.load(inner + rows, mask=there, other=0.0)
                slope = weight * (_product(v, g) - mean[None, :]) * scale
                to_key += tl.dot(slope, q, input_precision="ieee")
            if NEED_VALUE:
                to_value += tl.dot(weight, g, input_precision="ieee")
        if NEED_KEY:
            _store_tile(grad_key, grad_key_at, n, head * DQ, own, key_width, keep, to_key, DQ, PQ)
        if NEED_VALUE:
            at = grad_value_at
            _store_tile(grad_value, at, n, head * DV, own, key_width, keep, to_value, DV, PV)

# SPDX-License-Identifier: Apache-2.0
"""The kernels behind `filters.py`: one program per image and block of pixels.

`lines`, `pixels` and `blocks` are a `Cut`'s; arguments named `*_at` are a tensor's strides (image,
channel, line, pixel). `sums` are workspaces `[N, slots, programs per image]` that start at zero.
FILTERS holds K codes of 4 bits each, the first lowest: Triton before 3.4 cannot index a constant
tuple.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, encode, load_plane, load_rgb, locate, store_rgb, unit, unit_gate
from ._filter_stages import (
    EPSILON,
    SLOTS,
    coefficients,
    load_parameters,
    pull,
    pull_parameters,
    stage,
)

_SLOTS = tl.constexpr(SLOTS)


# shared by the kernels ---------------------------------------------------------------------------


@triton.jit
def _run(
    r, g, b, arguments, statistics, n,
    FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr,
):  # fmt: skip
    """All stages' inputs and the last one's output, a flat tuple of 3 (K + 1) blocks."""
    values = (r, g, b)
    for i in tl.static_range(K):
        x, m_r, m_g, m_b = load_parameters(arguments, statistics, n, i, K)
        k0, k1, k2 = coefficients(x, m_r, m_g, m_b, (FILTERS >> (4 * i)) & 15, QUANTIZED)
        r, g, b = stage(r, g, b, k0, k1, k2, (FILTERS >> (4 * i)) & 15)
        values = values + (r, g, b)  # noqa: RUF005 (Triton has no unpacking into a tuple)
    return values


@triton.jit
def _pull_stage(
    values, d_r, d_g, d_b, arguments, statistics, sums, n, part, parts,
    INDEX: tl.constexpr, FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr,
):  # fmt: skip
    """Gradient of stage INDEX's output to its input; its slots go to `sums` `[N,3K,parts]`."""
    x, m_r, m_g, m_b = load_parameters(arguments, statistics, n, INDEX, K)
    k0, k1, k2 = coefficients(x, m_r, m_g, m_b, (FILTERS >> (4 * INDEX)) & 15, QUANTIZED)
    at = sums + (n * K + INDEX) * _SLOTS * parts + part
    r, g, b = values[3 * INDEX], values[3 * INDEX + 1], values[3 * INDEX + 2]
    return pull(r, g, b, d_r, d_g, d_b, k0, k1, k2, at, parts, (FILTERS >> (4 * INDEX)) & 15)


@triton.jit
def _pull_all(
    values, d_r, d_g, d_b, arguments, statistics, sums, n, part, parts,
    FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr,
):  # fmt: skip
    for i in tl.static_range(K - 1, -1, -1):
        d_r, d_g, d_b = _pull_stage(
            values, d_r, d_g, d_b, arguments, statistics, sums, n, part, parts, i, FILTERS, K,
            QUANTIZED,
        )  # fmt: skip
    return d_r, d_g, d_b


@triton.jit
def _any(condition):
    return tl.max(condition.to(tl.int32), 0) != 0


# kernels -----------------------------------------------------------------------------------------


@triton.jit
def chain_kernel(
    image, mask, arguments, statistics, out, strength, lines, pixels, blocks, image_at, mask_at,
    out_at, FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr,
    HAS_MASK: tl.constexpr, IMAGE_SCALE: tl.constexpr, MASK_SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, _ = locate(lines, pixels, blocks, BLOCK)
    r, g, b = load_rgb(image, image_at, n, line, pixel, inside)
    weight = tl.zeros([BLOCK], tl.float32) + strength
    if HAS_MASK:
        weight *= decode(load_plane(mask, mask_at, n, line, pixel, inside), MASK_SCALE)
    if _any(weight != 0):
        v_r, v_g, v_b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
        values = _run(
            unit(v_r), unit(v_g), unit(v_b), arguments, statistics, n, FILTERS, K, QUANTIZED
        )
        rest = 1 - weight
        o_r = encode(weight * values[3 * K] + rest * v_r, r, IMAGE_SCALE)
        o_g = encode(weight * values[3 * K + 1] + rest * v_g, g, IMAGE_SCALE)
        o_b = encode(weight * values[3 * K + 2] + rest * v_b, b, IMAGE_SCALE)
        r = tl.where(weight == 0, r, o_r)
        g = tl.where(weight == 0, g, o_g)
        b = tl.where(weight == 0, b, o_b)
    store_rgb(out, out_at, n, line, pixel, inside, r, g, b)


@triton.jit
def chain_backward_kernel(
    grad, image, mask, arguments, statistics, grad_image, grad_mask, sums, strength, lines, pixels,
    blocks, grad_at, image_at, mask_at, grad_image_at, grad_mask_at,
    FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr, HAS_MASK: tl.constexpr,
    NEED_IMAGE: tl.constexpr, NEED_MASK: tl.constexpr, IMAGE_SCALE: tl.constexpr,
    MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, part = locate(lines, pixels, blocks, BLOCK)
    g_r, g_g, g_b = load_rgb(grad, grad_at, n, line, pixel, inside)
    g_r, g_g, g_b = decode(g_r, 1.0), decode(g_g, 1.0), decode(g_b, 1.0)
    weight = tl.where(inside, tl.zeros([BLOCK], tl.float32) + strength, 0.0)
    if HAS_MASK:
        weight *= decode(load_plane(mask, mask_at, n, line, pixel, inside), MASK_SCALE)
    keep = weight != 0
    to_mask = tl.zeros([BLOCK], tl.float32)
    if _any(keep):
        # Pixels that do not count are 0, not what the image holds: 0 * NaN would reach the sums.
        r, g, b = load_rgb(image, image_at, n, line, pixel, keep)
        r, g, b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
        values = _run(unit(r), unit(g), unit(b), arguments, statistics, n, FILTERS, K, QUANTIZED)
        if NEED_MASK:
            to_mask = g_r * (values[3 * K] - r)
            to_mask += g_g * (values[3 * K + 1] - g)
            to_mask += g_b * (values[3 * K + 2] - b)
            to_mask = tl.where(keep, to_mask * strength, 0.0)
        d_r = tl.where(keep, weight * g_r, 0.0)
        d_g = tl.where(keep, weight * g_g, 0.0)
        d_b = tl.where(keep, weight * g_b, 0.0)
        d_r, d_g, d_b = _pull_all(
            values, d_r, d_g, d_b, arguments, statistics, sums, n, part, lines * blocks, FILTERS, K,
            QUANTIZED,
        )  # fmt: skip
        rest = 1 - weight
        g_r = tl.where(keep, unit_gate(r, d_r) + rest * g_r, g_r)
        g_g = tl.where(keep, unit_gate(g, d_g) + rest * g_g, g_g)
        g_b = tl.where(keep, unit_gate(b, d_b) + rest * g_b, g_b)
    if NEED_IMAGE:
        store_rgb(grad_image, grad_image_at, n, line, pixel, inside, g_r, g_g, g_b)
    if NEED_MASK:
        at = grad_mask + n * grad_mask_at[0] + line * grad_mask_at[2] + pixel * grad_mask_at[3]
        tl.store(at, to_mask, mask=inside)


@triton.jit
def means_kernel(
    image, arguments, statistics, sums, lines, pixels, blocks, image_at,
    FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr, IMAGE_SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, part = locate(lines, pixels, blocks, BLOCK)
    r, g, b = load_rgb(image, image_at, n, line, pixel, inside)
    r, g, b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
    values = _run(unit(r), unit(g), unit(b), arguments, statistics, n, FILTERS, K, QUANTIZED)
    parts = lines * blocks
    at = sums + n * 3 * parts + part
    for c in tl.static_range(3):
        tl.store(at + c * parts, tl.sum(tl.where(inside, values[3 * K + c], 0.0)))


@triton.jit
def means_backward_kernel(
    grad, image, arguments, statistics, grad_image, sums, share, lines, pixels, blocks, image_at,
    grad_image_at, FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr,
    NEED_IMAGE: tl.constexpr, IMAGE_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, part = locate(lines, pixels, blocks, BLOCK)
    r, g, b = load_rgb(image, image_at, n, line, pixel, inside)
    r, g, b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
    values = _run(unit(r), unit(g), unit(b), arguments, statistics, n, FILTERS, K, QUANTIZED)
    d_r = tl.where(inside, tl.load(grad + n * 3) * share, 0.0)
    d_g = tl.where(inside, tl.load(grad + n * 3 + 1) * share, 0.0)
    d_b = tl.where(inside, tl.load(grad + n * 3 + 2) * share, 0.0)
    d_r, d_g, d_b = _pull_all(
        values, d_r, d_g, d_b, arguments, statistics, sums, n, part, lines * blocks, FILTERS, K,
        QUANTIZED,
    )  # fmt: skip
    if NEED_IMAGE:
        d_r, d_g, d_b = unit_gate(r, d_r), unit_gate(g, d_g), unit_gate(b, d_b)
        store_rgb(grad_image, grad_image_at, n, line, pixel, inside, d_r, d_g, d_b)


@triton.jit
def loss_kernel(
    image, mask, arguments, statistics, targets, sums, lines, pixels, blocks, image_at, mask_at,
    targets_at, stage_step, FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr,
    IMAGE_SCALE: tl.constexpr, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, part = locate(lines, pixels, blocks, BLOCK)
    weight = decode(load_plane(mask, mask_at, n, line, pixel, inside), MASK_SCALE)
    keep = weight != 0
    parts = lines * blocks
    at = sums + n * (K + 1) * parts + part
    if _any(keep):
        r, g, b = load_rgb(image, image_at, n, line, pixel, keep)
        r, g, b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
        values = _run(unit(r), unit(g), unit(b), arguments, statistics, n, FILTERS, K, QUANTIZED)
        target = targets
        for i in tl.static_range(K):
            wanted = load_rgb(target, targets_at, n, line, pixel, keep)
            total = tl.zeros([BLOCK], tl.float32)
            for c in tl.static_range(3):
                off = values[3 * (i + 1) + c] - decode(wanted[c], 1.0)
                square = off * off
                total += tl.sqrt(square + EPSILON) + 10 * square
            tl.store(at + i * parts, tl.sum(tl.where(keep, weight * total, 0.0)))
            target += stage_step
        tl.store(at + K * parts, tl.sum(weight))


@triton.jit
def loss_backward_kernel(
    grad, image, mask, arguments, statistics, targets, grad_image, sums, lines, pixels, blocks,
    image_at, mask_at, targets_at, grad_image_at, stage_step,
    FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr, NEED_IMAGE: tl.constexpr,
    IMAGE_SCALE: tl.constexpr, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, part = locate(lines, pixels, blocks, BLOCK)
    weight = decode(load_plane(mask, mask_at, n, line, pixel, inside), MASK_SCALE)
    keep = weight != 0
    d_r = tl.zeros([BLOCK], tl.float32)
    d_g, d_b = d_r, d_r
    if _any(keep):
        r, g, b = load_rgb(image, image_at, n, line, pixel, keep)
        r, g, b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
        values = _run(unit(r), unit(g), unit(b), arguments, statistics, n, FILTERS, K, QUANTIZED)
        target = targets
        for i in tl.static_range(K - 1, -1, -1):
            t_r, t_g, t_b = load_rgb(target, targets_at, n, line, pixel, keep)
            scale = tl.where(keep, weight * tl.load(grad + n * K + i), 0.0)
            d_r += _loss_slope(values[3 * (i + 1)], t_r, scale)
            d_g += _loss_slope(values[3 * (i + 1) + 1], t_g, scale)
            d_b += _loss_slope(values[3 * (i + 1) + 2], t_b, scale)
            d_r, d_g, d_b = _pull_stage(
                values, d_r, d_g, d_b, arguments, statistics, sums, n, part, lines * blocks, i,
                FILTERS, K, QUANTIZED,
            )  # fmt: skip
            target -= stage_step
        d_r, d_g, d_b = unit_gate(r, d_r), unit_gate(g, d_g), unit_gate(b, d_b)
    if NEED_IMAGE:
        store_rgb(grad_image, grad_image_at, n, line, pixel, inside, d_r, d_g, d_b)


@triton.jit
def _loss_slope(value, target, scale):
    off = value - decode(target, 1.0)
    return scale * (off / tl.sqrt(off * off + EPSILON) + 20 * off)


@triton.jit
def parameters_kernel(
    sums, arguments, statistics, grad_arguments, grad_statistics,
    FILTERS: tl.constexpr, K: tl.constexpr, QUANTIZED: tl.constexpr,
):  # fmt: skip
    """One program per image: from `sums` `[N,3K]` float64 to the parameters' gradients."""
    n = tl.program_id(0).to(tl.int64)
    for i in tl.static_range(K):
        x, m_r, m_g, m_b = load_parameters(arguments, statistics, n, i, K)
        d, e_r, e_g, e_b = pull_parameters(
            x.to(tl.float64), m_r.to(tl.float64), m_g.to(tl.float64), m_b.to(tl.float64),
            sums + (n * K + i) * _SLOTS, (FILTERS >> (4 * i)) & 15, QUANTIZED,
        )  # fmt: skip
        tl.store(grad_arguments + n * K + i, d.to(tl.float32))
        means = grad_statistics + (n * K + i) * 3
        tl.store(means, e_r.to(tl.float32))
        tl.store(means + 1, e_g.to(tl.float32))
        tl.store(means + 2, e_b.to(tl.float32))

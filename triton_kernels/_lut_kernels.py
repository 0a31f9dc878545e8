# SPDX-License-Identifier: Apache-2.0
"""The kernels behind `lut.py`: one program per image and block of pixels.

`lines`, `pixels` and `blocks` are a `Cut`'s; arguments named `*_at` are a tensor's strides (image,
channel, line, pixel). `lut_step` is the step from one image's table to the next, 0 for one table
that serves all. SIZE is the table's number of nodes along an axis.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, encode, load_plane, load_rgb, locate, store_rgb, unit, unit_gate

# cells and nodes ---------------------------------------------------------------------------------


@triton.jit
def _coordinate(v, SIZE: tl.constexpr):
    """The lower node of the cell, and the place in it from 0 to 1, NaN for NaN."""
    x = unit(v) * (SIZE - 1)
    # The last cell holds its upper face; a NaN compares false and is given node 0.
    node = tl.where(x >= 0.0, tl.floor(x), 0.0)
    node = tl.minimum(node, SIZE - 2.0)
    return node.to(tl.int32), x - node


@triton.jit
def _cell(r, g, b, SIZE: tl.constexpr):
    n_r, f_r = _coordinate(r, SIZE)
    n_g, f_g = _coordinate(g, SIZE)
    n_b, f_b = _coordinate(b, SIZE)
    return (n_r * SIZE + n_g) * SIZE + n_b, f_r, f_g, f_b


@triton.jit
def _path(f_r, f_g, f_b, SIZE: tl.constexpr):
    """Steps to the second and third node, and the places from the largest to the smallest.

    Of equal places red goes before green before blue. A NaN ends up in the largest.
    """
    rg, rb, gb = f_r >= f_g, f_r >= f_b, f_g >= f_b
    one = tl.where(rg & rb, SIZE * SIZE, tl.where(gb, SIZE, 1))
    two = tl.where(gb & rb, SIZE * SIZE + SIZE, tl.where(rg, SIZE * SIZE + 1, SIZE + 1))
    small, large = tl.minimum(f_r, f_g), tl.maximum(f_r, f_g)
    rest = tl.minimum(large, f_b)
    high = tl.maximum(large, f_b) + 0.0 * (f_r + f_g + f_b)
    return one, two, high, tl.maximum(small, rest), tl.minimum(small, rest)


@triton.jit
def _corner(first, f_r, f_g, f_b, SIZE: tl.constexpr, CORNER: tl.constexpr):
    """Node and trilinear weight of one of a cell's eight corners; the bits of CORNER are r g b."""
    node = first + (CORNER // 4) * SIZE * SIZE + (CORNER // 2 % 2) * SIZE + CORNER % 2
    w_r = f_r if CORNER // 4 == 1 else 1.0 - f_r
    w_g = f_g if CORNER // 2 % 2 == 1 else 1.0 - f_g
    w_b = f_b if CORNER % 2 == 1 else 1.0 - f_b
    return node, w_r * w_g * w_b


@triton.jit
def _colour(lut, node, keep):
    at = lut + node * 3
    return (
        tl.load(at, mask=keep, other=0.0),
        tl.load(at + 1, mask=keep, other=0.0),
        tl.load(at + 2, mask=keep, other=0.0),
    )


@triton.jit
def _interpolate(lut, r, g, b, keep, SIZE: tl.constexpr, KIND: tl.constexpr):
    first, f_r, f_g, f_b = _cell(r, g, b, SIZE)
    if KIND == 0:
        one, two, high, mid, low = _path(f_r, f_g, f_b, SIZE)
        a_r, a_g, a_b = _colour(lut, first, keep)
        b_r, b_g, b_b = _colour(lut, first + one, keep)
        c_r, c_g, c_b = _colour(lut, first + two, keep)
        d_r, d_g, d_b = _colour(lut, first + (SIZE * SIZE + SIZE + 1), keep)
        w0, w1, w2 = 1.0 - high, high - mid, mid - low
        o_r = w0 * a_r + w1 * b_r + w2 * c_r + low * d_r
        o_g = w0 * a_g + w1 * b_g + w2 * c_g + low * d_g
        o_b = w0 * a_b + w1 * b_b + w2 * c_b + low * d_b
    else:
        o_r, o_g, o_b = tl.zeros_like(r), tl.zeros_like(r), tl.zeros_like(r)
        for corner in tl.static_range(8):
            node, w = _corner(first, f_r, f_g, f_b, SIZE, corner)
            c_r, c_g, c_b = _colour(lut, node, keep)
            o_r += w * c_r
            o_g += w * c_g
            o_b += w * c_b
    return o_r, o_g, o_b


# gradients ---------------------------------------------------------------------------------------


@triton.jit
def _along(lut, node, g_r, g_g, g_b, keep):
    """The node's colour times the gradient."""
    c_r, c_g, c_b = _colour(lut, node, keep)
    return g_r * c_r + g_g * c_g + g_b * c_b


@triton.jit
def _add_node(grad_lut, node, w, g_r, g_g, g_b, keep):
    at = grad_lut + node * 3
    tl.atomic_add(at, w * g_r, mask=keep, sem="relaxed")
    tl.atomic_add(at + 1, w * g_g, mask=keep, sem="relaxed")
    tl.atomic_add(at + 2, w * g_b, mask=keep, sem="relaxed")


@triton.jit
def _pick(rank, first, second, third):
    return tl.where(rank == 0, first, tl.where(rank == 1, second, third))


@triton.jit
def _slopes(
    lut, grad_lut, r, g, b, g_r, g_g, g_b, keep,
    SIZE: tl.constexpr, KIND: tl.constexpr, NEED_LUT: tl.constexpr,
):  # fmt: skip
    """Gradient times colour, and its slope by each channel per cell; adds to the table's gradient.

    The gradients given are already weighted by the mask.
    """
    first, f_r, f_g, f_b = _cell(r, g, b, SIZE)
    if KIND == 0:
        one, two, high, mid, low = _path(f_r, f_g, f_b, SIZE)
        last = first + (SIZE * SIZE + SIZE + 1)
        a0 = _along(lut, first, g_r, g_g, g_b, keep)
        a1 = _along(lut, first + one, g_r, g_g, g_b, keep)
        a2 = _along(lut, first + two, g_r, g_g, g_b, keep)
        a3 = _along(lut, last, g_r, g_g, g_b, keep)
        w0, w1, w2 = 1.0 - high, high - mid, mid - low
        value = w0 * a0 + w1 * a1 + w2 * a2 + low * a3
        rg, rb, gb = f_r >= f_g, f_r >= f_b, f_g >= f_b
        d_r = _pick(2 - rg.to(tl.int32) - rb.to(tl.int32), a1 - a0, a2 - a1, a3 - a2)
        d_g = _pick(1 + rg.to(tl.int32) - gb.to(tl.int32), a1 - a0, a2 - a1, a3 - a2)
        d_b = _pick(rb.to(tl.int32) + gb.to(tl.int32), a1 - a0, a2 - a1, a3 - a2)
        if NEED_LUT:
            _add_node(grad_lut, first, w0, g_r, g_g, g_b, keep)
            _add_node(grad_lut, first + one, w1, g_r, g_g, g_b, keep)
            _add_node(grad_lut, first + two, w2, g_r, g_g, g_b, keep)
            _add_node(grad_lut, last, low, g_r, g_g, g_b, keep)
    else:
        value, d_r = tl.zeros_like(r), tl.zeros_like(r)
        d_g, d_b = tl.zeros_like(r), tl.zeros_like(r)
        for corner in tl.static_range(8):
            node, w = _corner(first, f_r, f_g, f_b, SIZE, corner)
            a = _along(lut, node, g_r, g_g, g_b, keep)
            value += w * a
            w_r = f_r if corner // 4 == 1 else 1.0 - f_r
            w_g = f_g if corner // 2 % 2 == 1 else 1.0 - f_g
            w_b = f_b if corner % 2 == 1 else 1.0 - f_b
            d_r += (a if corner // 4 == 1 else -a) * w_g * w_b
            d_g += (a if corner // 2 % 2 == 1 else -a) * w_r * w_b
            d_b += (a if corner % 2 == 1 else -a) * w_r * w_g
            if NEED_LUT:
                _add_node(grad_lut, node, w, g_r, g_g, g_b, keep)
    return value, d_r, d_g, d_b


# kernels -----------------------------------------------------------------------------------------


@triton.jit
def apply_kernel(
    image, mask, lut, out, strength, lut_step, lines, pixels, blocks, image_at, mask_at, out_at,
    SIZE: tl.constexpr, KIND: tl.constexpr, HAS_MASK: tl.constexpr, IMAGE_SCALE: tl.constexpr,
    MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, _ = locate(lines, pixels, blocks, BLOCK)
    r, g, b = load_rgb(image, image_at, n, line, pixel, inside)
    weight = tl.where(inside, tl.zeros([BLOCK], tl.float32) + strength, 0.0)
    if HAS_MASK:
        weight *= decode(load_plane(mask, mask_at, n, line, pixel, inside), MASK_SCALE)
    keep = weight != 0
    if tl.max(keep.to(tl.int32), 0) != 0:
        v_r, v_g, v_b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
        c_r, c_g, c_b = _interpolate(lut + n * lut_step, v_r, v_g, v_b, keep, SIZE, KIND)
        rest = 1.0 - weight
        r = tl.where(keep, encode(weight * c_r + rest * v_r, r, IMAGE_SCALE), r)
        g = tl.where(keep, encode(weight * c_g + rest * v_g, g, IMAGE_SCALE), g)
        b = tl.where(keep, encode(weight * c_b + rest * v_b, b, IMAGE_SCALE), b)
    store_rgb(out, out_at, n, line, pixel, inside, r, g, b)


@triton.jit
def apply_backward_kernel(
    grad, image, mask, lut, grad_image, grad_lut, grad_mask, strength, lut_step, lines, pixels,
    blocks, grad_at, image_at, mask_at, grad_image_at, grad_mask_at,
    SIZE: tl.constexpr, KIND: tl.constexpr, HAS_MASK: tl.constexpr, NEED_IMAGE: tl.constexpr,
    NEED_LUT: tl.constexpr, NEED_MASK: tl.constexpr, IMAGE_SCALE: tl.constexpr,
    MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, inside, _ = locate(lines, pixels, blocks, BLOCK)
    g_r, g_g, g_b = load_rgb(grad, grad_at, n, line, pixel, inside)
    g_r, g_g, g_b = decode(g_r, 1.0), decode(g_g, 1.0), decode(g_b, 1.0)
    weight = tl.where(inside, tl.zeros([BLOCK], tl.float32) + strength, 0.0)
    if HAS_MASK:
        weight *= decode(load_plane(mask, mask_at, n, line, pixel, inside), MASK_SCALE)
    keep = weight != 0
    to_mask = tl.zeros([BLOCK], tl.float32)
    if tl.max(keep.to(tl.int32), 0) != 0:
        r, g, b = load_rgb(image, image_at, n, line, pixel, keep)
        r, g, b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
        value, d_r, d_g, d_b = _slopes(
            lut + n * lut_step, grad_lut + n * lut_step, r, g, b, weight * g_r, weight * g_g,
            weight * g_b, keep, SIZE, KIND, NEED_LUT,
        )  # fmt: skip
        if NEED_MASK:
            # The slopes' gradients hold the weight once, and so does their value.
            change = value / tl.where(keep, weight, 1.0) - (g_r * r + g_g * g + g_b * b)
            to_mask = tl.where(keep, change * strength, 0.0)
        rest = 1.0 - weight
        cells = SIZE - 1.0
        g_r = tl.where(keep, unit_gate(r, d_r) * cells + rest * g_r, g_r)
        g_g = tl.where(keep, unit_gate(g, d_g) * cells + rest * g_g, g_g)
        g_b = tl.where(keep, unit_gate(b, d_b) * cells + rest * g_b, g_b)
    if NEED_IMAGE:
        store_rgb(grad_image, grad_image_at, n, line, pixel, inside, g_r, g_g, g_b)
    if NEED_MASK:
        at = grad_mask + n * grad_mask_at[0] + line * grad_mask_at[2] + pixel * grad_mask_at[3]
        tl.store(at, to_mask, mask=inside)


@triton.jit
def splat_kernel(
    source, target, mask, sums, lines, pixels, blocks, source_at, target_at, mask_at,
    SIZE: tl.constexpr, OFFSET: tl.constexpr, HAS_MASK: tl.constexpr, IMAGE_SCALE: tl.constexpr,
    MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, line, pixel, keep, _ = locate(lines, pixels, blocks, BLOCK)
    weight = tl.zeros([BLOCK], tl.float32) + 1.0
    if HAS_MASK:
        weight = decode(load_plane(mask, mask_at, n, line, pixel, keep), MASK_SCALE)
        keep = keep & (weight > 0)
    if tl.max(keep.to(tl.int32), 0) != 0:
        r, g, b = load_rgb(source, source_at, n, line, pixel, keep)
        r, g, b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
        t_r, t_g, t_b = load_rgb(target, target_at, n, line, pixel, keep)
        t_r, t_g, t_b = decode(t_r, IMAGE_SCALE), decode(t_g, IMAGE_SCALE), decode(t_b, IMAGE_SCALE)
        if OFFSET:
            t_r, t_g, t_b = t_r - r, t_g - g, t_b - b
        first, f_r, f_g, f_b = _cell(r, g, b, SIZE)
        # NaN where a place is NaN or a value is not finite.
        sound = f_r + f_g + f_b + 0.0 * (t_r + t_g + t_b)
        keep = keep & (sound == sound)
        table = sums + n * (SIZE * SIZE * SIZE * 4)
        for corner in tl.static_range(8):
            node, w = _corner(first, f_r, f_g, f_b, SIZE, corner)
            w *= weight
            at = table + node * 4
            tl.atomic_add(at, w * t_r, mask=keep, sem="relaxed")
            tl.atomic_add(at + 1, w * t_g, mask=keep, sem="relaxed")
            tl.atomic_add(at + 2, w * t_b, mask=keep, sem="relaxed")
            tl.atomic_add(at + 3, w, mask=keep, sem="relaxed")

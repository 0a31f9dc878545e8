# SPDX-License-Identifier: Apache-2.0
"""The kernels behind `tokens.py`: one program per patch and block of its samples.

Arguments named `*_at` are a tensor's strides (image, channel, row, column); `columns` is patches
per row of patches, `patches` per frame, `total` in the batch; `width` is samples per token.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, encode


@triton.jit
def _corner(number, patches, columns, PATCH: tl.constexpr):
    """Image, row and column at which a numbered patch begins; 64 bits, as offsets need."""
    number = number.to(tl.int64)
    rest = number % patches
    return number // patches, rest // columns * PATCH, rest % columns * PATCH


@triton.jit
def foreground_kernel(
    mask, out, mask_at, patches, columns, PATCH: tl.constexpr, BLOCK: tl.constexpr
):
    n, top, left = _corner(tl.program_id(0), patches, columns, PATCH)
    found = tl.zeros([BLOCK], tl.int32)
    for start in range(0, PATCH * PATCH, BLOCK):
        pixel = start + tl.arange(0, BLOCK)
        y, x = top + pixel // PATCH, left + pixel % PATCH
        at = mask + n * mask_at[0] + y * mask_at[2] + x * mask_at[3]
        value = tl.load(at, mask=pixel < PATCH * PATCH, other=0)
        found = tl.maximum(found, (value > 0).to(tl.int32))
    tl.store(out + tl.program_id(0), tl.max(found, 0).to(tl.uint8))


@triton.jit
def pack_kernel(
    image, index, mask, tokens, image_at, mask_at, patches, columns, total, channels, width,
    PATCH: tl.constexpr, MOVE: tl.constexpr, HAS_MASK: tl.constexpr, IMAGE_SCALE: tl.constexpr,
    TOKEN_SCALE: tl.constexpr, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Numbers that name no patch give zeros."""
    token = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    number = tl.load(index + token)
    exists = (number >= 0) & (number < total)
    n, top, left = _corner(tl.where(exists, number, 0), patches, columns, PATCH)
    c, pixel = (e % channels).to(tl.int64), e // channels
    y, x = top + pixel // PATCH, left + pixel % PATCH
    keep = e < tl.where(exists, width, 0)
    at = image + n * image_at[0] + c * image_at[1] + y * image_at[2] + x * image_at[3]
    raw = tl.load(at, mask=keep, other=0)
    to = tokens + token * width + e
    if MOVE:
        tl.store(to, raw, mask=e < width)
    else:
        value = decode(raw, IMAGE_SCALE)
        if HAS_MASK:
            at = mask + n * mask_at[0] + y * mask_at[2] + x * mask_at[3]
            m = decode(tl.load(at, mask=keep, other=0), MASK_SCALE)
            value = tl.where(m > 0, m * value, 0.0)
        like = tl.zeros([BLOCK], tokens.dtype.element_ty)
        tl.store(to, encode(value, like, TOKEN_SCALE), mask=e < width)


@triton.jit
def unpack_kernel(
    tokens, slots, image, mask, out, image_at, mask_at, out_at, patches, columns, channels, width,
    PATCH: tl.constexpr, NHWC: tl.constexpr, MOVE: tl.constexpr, HAS_TOKENS: tl.constexpr,
    HAS_IMAGE: tl.constexpr, HAS_MASK: tl.constexpr, IMAGE_SCALE: tl.constexpr,
    TOKEN_SCALE: tl.constexpr, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Samples are taken in the output's own order, so that its stores lie side by side."""
    n, top, left = _corner(tl.program_id(0), patches, columns, PATCH)
    e = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = e < width
    if NHWC:
        c, pixel = e % channels, e // channels
    else:
        c, pixel = e // (PATCH * PATCH), e % (PATCH * PATCH)
    y, x, c64 = top + pixel // PATCH, left + pixel % PATCH, c.to(tl.int64)
    slot = tl.load(slots + tl.program_id(0))
    kept = e < tl.where(slot >= 0, width, 0)
    result = tl.zeros([BLOCK], out.dtype.element_ty)
    if HAS_IMAGE:
        at = image + n * image_at[0] + c64 * image_at[1] + y * image_at[2] + x * image_at[3]
        needed = inside if HAS_MASK else e < tl.where(slot >= 0, 0, width)
        result = tl.load(at, mask=needed, other=0)
    if HAS_TOKENS or HAS_MASK:
        if HAS_TOKENS:
            raw = tl.load(tokens + slot * width + pixel * channels + c, mask=kept, other=0)
        else:
            raw = tl.zeros([BLOCK], tl.float32)
        if MOVE:
            changed = raw
        else:
            value = decode(raw, TOKEN_SCALE)
            if HAS_MASK:
                at = mask + n * mask_at[0] + y * mask_at[2] + x * mask_at[3]
                m = decode(tl.load(at, mask=kept, other=0), MASK_SCALE)
                value = m * value + (1.0 - m) * decode(result, IMAGE_SCALE)
                kept = kept & (m > 0)
            changed = encode(value, result, IMAGE_SCALE)
        result = tl.where(kept, changed, result)
    to = out + n * out_at[0] + c64 * out_at[1] + y * out_at[2] + x * out_at[3]
    tl.store(to, result, mask=inside)


@triton.jit
def mask_gradient_kernel(
    grad, tokens, index, image, mask, out, grad_at, image_at, mask_at, out_at, patches, columns,
    total, channels, width, PATCH: tl.constexpr, IMAGE_SCALE: tl.constexpr,
    TOKEN_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum over channels of grad * (token - image), where the mask is above 0."""
    token = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    number = tl.load(index + token)
    exists = (number >= 0) & (number < total)
    n, top, left = _corner(tl.where(exists, number, 0), patches, columns, PATCH)
    y, x = top + pixel // PATCH, left + pixel % PATCH
    keep = pixel < tl.where(exists, PATCH * PATCH, 0)
    sums = tl.zeros([BLOCK], tl.float32)
    for c in range(0, channels):
        at = grad + n * grad_at[0] + c * grad_at[1] + y * grad_at[2] + x * grad_at[3]
        g = tl.load(at, mask=keep, other=0).to(tl.float32)
        at = image + n * image_at[0] + c * image_at[1] + y * image_at[2] + x * image_at[3]
        v = decode(tl.load(at, mask=keep, other=0), IMAGE_SCALE)
        at = tokens + token * width + pixel * channels + c
        sums += g * (decode(tl.load(at, mask=keep, other=0), TOKEN_SCALE) - v)
    m = tl.load(mask + n * mask_at[0] + y * mask_at[2] + x * mask_at[3], mask=keep, other=0)
    to = out + n * out_at[0] + y * out_at[2] + x * out_at[3]
    tl.store(to, tl.where(m > 0, sums, 0.0), mask=keep)

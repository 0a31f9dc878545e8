# SPDX-License-Identifier: Apache-2.0
"""The kernels of `statistics.py` for Gram matrices and for differences of neighbouring pixels."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode


@triton.jit
def gram_kernel(tokens, cu_seqlens, out, channels, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr):
    """One block of F^T F of one sequence."""
    s = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    j = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    begin, end = tl.load(cu_seqlens + s), tl.load(cu_seqlens + s + 1)
    sums = tl.zeros([BLOCK_C, BLOCK_C], tl.float32)
    for start in range(begin, end, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        row = tokens + k.to(tl.int64)[:, None] * channels
        there = (k < end)[:, None]
        a = tl.load(row + i[None, :], mask=there & (i < channels)[None, :], other=0)
        b = tl.load(row + j[None, :], mask=there & (j < channels)[None, :], other=0)
        sums = tl.dot(tl.trans(a), b, sums, input_precision="ieee")
    at = out + s * channels * channels + i.to(tl.int64)[:, None] * channels + j[None, :]
    tl.store(at, sums, mask=(i < channels)[:, None] & (j < channels)[None, :])


@triton.jit
def gram_backward_kernel(
    square, tokens, sequence, out, count, channels, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr
):
    """Rows of tokens times their own sequence's matrix `square`."""
    k = tl.program_id(0).to(tl.int64) * BLOCK_K + tl.arange(0, BLOCK_K)
    j = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = tl.program_id(0).to(tl.int64) * BLOCK_K
    low = tl.load(sequence + first)
    high = tl.load(sequence + tl.minimum(first + BLOCK_K, count) - 1)
    own = tl.load(sequence + k, mask=k < count, other=-1)
    sums = tl.zeros([BLOCK_K, BLOCK_C], tl.float32)
    for s in range(low, high + 1):
        for start in range(0, channels, BLOCK_C):
            c = start + tl.arange(0, BLOCK_C)
            keep = (own == s)[:, None] & (c < channels)[None, :]
            a = tl.load(tokens + k[:, None] * channels + c[None, :], mask=keep, other=0)
            at = square + s * channels * channels + c[:, None] * channels + j[None, :]
            inside = (c < channels)[:, None] & (j < channels)[None, :]
            b = tl.load(at, mask=inside, other=0)
            sums = tl.dot(a.to(tl.float32), b, sums, input_precision="ieee")
    at = out + k[:, None] * channels + j[None, :]
    tl.store(at, sums, mask=(k < count)[:, None] & (j < channels)[None, :])


@triton.jit
def balance_kernel(
    image, parts, image_at, height, width, blocks, IMAGE_SCALE: tl.constexpr, BLOCK: tl.constexpr
):
    """A block's sum of squared differences to the right and downwards."""
    n = (tl.program_id(0) // blocks).to(tl.int64)
    e = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y, x = e // width, e % width
    inside = y < height
    sums = tl.zeros([BLOCK], tl.float32)
    for c in tl.static_range(3):
        at = image + n * image_at[0] + c * image_at[1] + y * image_at[2] + x * image_at[3]
        v = decode(tl.load(at, mask=inside, other=0), IMAGE_SCALE)
        across, down = inside & (x + 1 < width), y + 1 < height
        right = decode(tl.load(at + image_at[3], mask=across, other=0), IMAGE_SCALE)
        below = decode(tl.load(at + image_at[2], mask=down, other=0), IMAGE_SCALE)
        right, below = tl.where(across, right - v, 0.0), tl.where(down, below - v, 0.0)
        sums += right * right + below * below
    tl.store(parts + tl.program_id(0), tl.sum(sums, 0))


@triton.jit
def balance_backward_kernel(
    grad, image, out, image_at, out_at, height, width, blocks, factor, IMAGE_SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """`factor` grad (differences to the four neighbours that there are)."""
    n = (tl.program_id(0) // blocks).to(tl.int64)
    e = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y, x = e // width, e % width
    inside = y < height
    scale = factor * tl.load(grad + n)
    for c in tl.static_range(3):
        at = image + n * image_at[0] + c * image_at[1] + y * image_at[2] + x * image_at[3]
        v = decode(tl.load(at, mask=inside, other=0), IMAGE_SCALE)
        left_in, right_in = inside & (x > 0), inside & (x + 1 < width)
        up_in, down_in = inside & (y > 0), y + 1 < height
        left = decode(tl.load(at - image_at[3], mask=left_in, other=0), IMAGE_SCALE)
        right = decode(tl.load(at + image_at[3], mask=right_in, other=0), IMAGE_SCALE)
        up = decode(tl.load(at - image_at[2], mask=up_in, other=0), IMAGE_SCALE)
        down = decode(tl.load(at + image_at[2], mask=down_in, other=0), IMAGE_SCALE)
        total = tl.where(left_in, v - left, 0.0) + tl.where(right_in, v - right, 0.0)
        total += tl.where(up_in, v - up, 0.0) + tl.where(down_in, v - down, 0.0)
        to = out + n * out_at[0] + c * out_at[1] + y * out_at[2] + x * out_at[3]
        tl.store(to, scale * total, mask=inside)

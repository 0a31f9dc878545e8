# SPDX-License-Identifier: Apache-2.0
"""The kernels behind `statistics.py`: one program per image and block of pixels.

`lines`, `pixels` and `blocks` are a `Cut`'s; arguments named `*_at` are a tensor's strides (image,
channel, line, pixel).
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import decode, load_plane, load_rgb, locate, store_rgb

SLOTS = 10
_SLOTS = tl.constexpr(SLOTS)


@triton.jit
def moments_kernel(
    image, mask, parts, lines, pixels, blocks, image_at, mask_at,
    HAS_MASK: tl.constexpr, IMAGE_SCALE: tl.constexpr, MASK_SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A block's weight, mean (3) and centred moments rr rg rb gg gb bb, into `[programs,10]`.

    Centred within the block, so that float32 is enough; blocks are merged in float64 later.
    """
    n, line, pixel, keep, _ = locate(lines, pixels, blocks, BLOCK)
    m = tl.where(keep, tl.zeros([BLOCK], tl.float32) + 1.0, 0.0)
    if HAS_MASK:
        m = decode(load_plane(mask, mask_at, n, line, pixel, keep), MASK_SCALE)
        keep = keep & (m > 0)
    # Pixels that do not count are 0, not what the image holds: 0 * NaN would reach the sums.
    r, g, b = load_rgb(image, image_at, n, line, pixel, keep)
    r, g, b = decode(r, IMAGE_SCALE), decode(g, IMAGE_SCALE), decode(b, IMAGE_SCALE)
    weight = tl.sum(m, 0)
    below = tl.where(weight > 0, weight, 1.0)
    m_r, m_g, m_b = tl.sum(m * r, 0) / below, tl.sum(m * g, 0) / below, tl.sum(m * b, 0) / below
    r, g, b = r - m_r, g - m_g, b - m_b
    at = parts + tl.program_id(0).to(tl.int64) * _SLOTS
    tl.store(at, weight)
    tl.store(at + 1, m_r)
    tl.store(at + 2, m_g)
    tl.store(at + 3, m_b)
    tl.store(at + 4, tl.sum(m * r * r, 0))
    tl.store(at + 5, tl.sum(m * r * g, 0))
    tl.store(at + 6, tl.sum(m * r * b, 0))
    tl.store(at + 7, tl.sum(m * g * g, 0))
    tl.store(at + 8, tl.sum(m * g * b, 0))
    tl.store(at + 9, tl.sum(m * b * b, 0))


@triton.jit
def moments_backward_kernel(
    image, mask, linear, square, constant, mean, inverse, grad_image, grad_mask, lines, pixels,
    blocks, image_at, mask_at, grad_image_at, grad_mask_at,
    HAS_MASK: tl.constexpr, NEED_IMAGE: tl.constexpr, NEED_MASK: tl.constexpr,
    IMAGE_SCALE: tl.constexpr, MASK_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """With d the colour less its mean, l `linear`, H `square`: `m/W (l + H d)` for the image, and
    `(l d + d H d / 2)/W + constant` for the mask.
    """
    n, line, pixel, inside, _ = locate(lines, pixels, blocks, BLOCK)
    m = tl.zeros([BLOCK], tl.float32) + 1.0
    if HAS_MASK:
        m = decode(load_plane(mask, mask_at, n, line, pixel, inside), MASK_SCALE)
    r, g, b = load_rgb(image, image_at, n, line, pixel, inside)
    r = decode(r, IMAGE_SCALE) - tl.load(mean + 3 * n)
    g = decode(g, IMAGE_SCALE) - tl.load(mean + 3 * n + 1)
    b = decode(b, IMAGE_SCALE) - tl.load(mean + 3 * n + 2)
    h = square + 9 * n
    h_rr, h_rg, h_rb = tl.load(h), tl.load(h + 1), tl.load(h + 2)
    h_gg, h_gb, h_bb = tl.load(h + 4), tl.load(h + 5), tl.load(h + 8)
    l_r, l_g, l_b = (
        tl.load(linear + 3 * n), tl.load(linear + 3 * n + 1), tl.load(linear + 3 * n + 2),
    )  # fmt: skip
    s_r = h_rr * r + h_rg * g + h_rb * b
    s_g = h_rg * r + h_gg * g + h_gb * b
    s_b = h_rb * r + h_gb * g + h_bb * b
    scale = tl.load(inverse + n)
    if NEED_MASK:
        slope = l_r * r + l_g * g + l_b * b + 0.5 * (s_r * r + s_g * g + s_b * b)
        value = tl.where(scale > 0, slope * scale, 0.0) + tl.load(constant + n)
        at = grad_mask + n * grad_mask_at[0] + line * grad_mask_at[2] + pixel * grad_mask_at[3]
        tl.store(at, value, mask=inside)
    if NEED_IMAGE:
        share = m * scale
        store_rgb(
            grad_image, grad_image_at, n, line, pixel, inside,
            tl.where(share > 0, share * (l_r + s_r), 0.0),
            tl.where(share > 0, share * (l_g + s_g), 0.0),
            tl.where(share > 0, share * (l_b + s_b), 0.0),
        )  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""The white-box filters on one pixel each: forward, gradient, and gradient of their coefficients.

A filter first turns its argument and global means into a few scalars, its coefficients (`k0`,
`k1`, `k2` below), which are the same for every pixel of an image:

    temperature           gains of red, green, blue
    brightness, exposure  gain
    contrast              gain, mean
    saturation            argument
    highlight, shadow     exponent
    hue                   cosine, sine

`pull` sums gradients over pixels with respect to the coefficients, in up to three slots, and
`pull_parameters` takes them on to arguments and means. Formulas: Ke et al., Harmonizer, ECCV 2022,
section 3; exposure (two stops) and hue (rotation that keeps Rec. 709 luma) are additions.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import unit, unit_gate

NAMES = (
    "temperature", "brightness", "contrast", "saturation", "highlight", "shadow", "exposure", "hue",
)  # fmt: skip
"""Filters in the order of their codes."""

SLOTS = 3

TEMPERATURE = tl.constexpr(0)
BRIGHTNESS = tl.constexpr(1)
CONTRAST = tl.constexpr(2)
SATURATION = tl.constexpr(3)
HIGHLIGHT = tl.constexpr(4)
SHADOW = tl.constexpr(5)
EXPOSURE = tl.constexpr(6)
HUE = tl.constexpr(7)

EPSILON = tl.constexpr(1e-6)
TINY = tl.constexpr(1e-9)
PI = tl.constexpr(3.141592653589793)
LN2 = tl.constexpr(0.6931471805599453)
ROOT_THIRD = tl.constexpr(0.5773502691896258)
LUMA_R = tl.constexpr(0.2126)
LUMA_G = tl.constexpr(0.7152)
LUMA_B = tl.constexpr(0.0722)


@triton.jit
def load_parameters(arguments, statistics, n, INDEX: tl.constexpr, K: tl.constexpr):
    """Argument and channel means of filter INDEX of image n."""
    at = n * K + INDEX
    means = statistics + at * 3
    return tl.load(arguments + at), tl.load(means), tl.load(means + 1), tl.load(means + 2)


@triton.jit
def _shifts(x):
    """What temperature adds to the means of red, green and blue."""
    amount = tl.abs(x)
    return tl.where(x < 0, amount, 0.0), amount / 2, tl.where(x > 0, amount, 0.0)


@triton.jit
def coefficients(x, m_r, m_g, m_b, CODE: tl.constexpr, QUANTIZED: tl.constexpr):
    """Three scalars per image; those a filter does not use repeat its argument."""
    a, b, c = x, x, x
    if CODE == TEMPERATURE:
        add_r, add_g, add_b = _shifts(x)
        s_r, s_g, s_b = m_r + add_r, m_g + add_g, m_b + add_b
        grey, shifted = (m_r + m_g + m_b) / 3, (s_r + s_g + s_b) / 3
        a = shifted / (s_r + EPSILON) + 1 - grey / (m_r + EPSILON)
        b = shifted / (s_g + EPSILON) + 1 - grey / (m_g + EPSILON)
        c = shifted / (s_b + EPSILON) + 1 - grey / (m_b + EPSILON)
    elif CODE == BRIGHTNESS:
        a = tl.where(x >= 0, 1 / ((1 - tl.maximum(x, 0.0)) + EPSILON), 1 + x)
    elif CODE == CONTRAST:
        up = tl.maximum(x, 0.0)
        if QUANTIZED:
            up = 255 / (256 - tl.floor(255 * up)) - 1
        else:
            up = 255 * up / (256 - 255 * up)
        a = tl.where(x > 0, up, x)
        b = (m_r + m_g + m_b) / 3
    elif CODE == HIGHLIGHT:
        a = x + 1
    elif CODE == SHADOW:
        a = 1 - x
    elif CODE == EXPOSURE:
        a = tl.exp2(2 * x)
    elif CODE == HUE:
        a, b = tl.cos(x * PI), tl.sin(x * PI)
    return a, b, c


@triton.jit
def _power(base, exponent):
    """`base ** exponent` for base > 0."""
    return tl.exp2(exponent * tl.log2(base))


@triton.jit
def _off_grey(r, g, b):
    """Luma, and what is left of the colour without it."""
    luma = r * LUMA_R + g * LUMA_G + b * LUMA_B
    return luma, r - luma, g - luma, b - luma


@triton.jit
def _off_grey_transposed(r, g, b):
    """The channels' sum, and the transpose of `_off_grey`'s projection."""
    total = r + g + b
    return total, r - total * LUMA_R, g - total * LUMA_G, b - total * LUMA_B


@triton.jit
def _rotated(r, g, b, along, across, grey):
    """`along` * colour + `across` * (grey axis x colour) + `grey` * mean: a rotation about grey."""
    rest = grey * (r + g + b) / 3
    turn = across * ROOT_THIRD
    return (
        along * r + turn * (b - g) + rest,
        along * g + turn * (r - b) + rest,
        along * b + turn * (g - r) + rest,
    )


@triton.jit
def _hsl(r, g, b):
    """Lightness and saturation of HSL, with the extremes they come from."""
    high = tl.maximum(tl.maximum(r, g), b)
    low = tl.minimum(tl.minimum(r, g), b)
    total, spread = high + low, high - low
    light = total / 2
    room = tl.where(light < 0.5, total + EPSILON, 2 - total + EPSILON)
    return high, low, light, spread, room


@triton.jit
def _stretch(x, saturation):
    """Saturation's p for x >= 0, and whether it is the pixel's own saturation."""
    full = x + saturation > 1
    return tl.where(full, saturation, 1 - x), full


@triton.jit
def unclamped(r, g, b, k0, k1, k2, CODE: tl.constexpr):
    """A filter before its clamp; `k0`, `k1`, `k2` are its coefficients."""
    if CODE == TEMPERATURE:
        r, g, b = r * k0, g * k1, b * k2
    elif CODE == CONTRAST:
        r, g, b = r + (r - k1) * k0, g + (g - k1) * k0, b + (b - k1) * k0
    elif CODE == SATURATION:
        _, _, light, spread, room = _hsl(r, g, b)
        p, _ = _stretch(k0, spread / room)
        up = 1 / (p + EPSILON) - 1
        # x >= 0 stretches from the colour itself, x < 0 from the lightness.
        gain = tl.where(k0 >= 0, up, 1 + k0)
        r = tl.where(k0 >= 0, r, light) + (r - light) * gain
        g = tl.where(k0 >= 0, g, light) + (g - light) * gain
        b = tl.where(k0 >= 0, b, light) + (b - light) * gain
    elif CODE == HIGHLIGHT:
        r = 1 - unit(_power(1 - r + TINY, k0))
        g = 1 - unit(_power(1 - g + TINY, k0))
        b = 1 - unit(_power(1 - b + TINY, k0))
    elif CODE == SHADOW:
        r, g, b = _power(r + TINY, k0), _power(g + TINY, k0), _power(b + TINY, k0)
    elif CODE == HUE:
        luma, r, g, b = _off_grey(r, g, b)
        r, g, b = _rotated(r, g, b, k0, k1, 1 - k0)
        _, r, g, b = _off_grey(r, g, b)
        r, g, b = r + luma, g + luma, b + luma
    else:
        r, g, b = r * k0, g * k0, b * k0
    return r, g, b


@triton.jit
def stage(r, g, b, k0, k1, k2, CODE: tl.constexpr):
    """A filter and its clamp."""
    r, g, b = unclamped(r, g, b, k0, k1, k2, CODE)
    return unit(r), unit(g), unit(b)


@triton.jit
def _pull_power(base, exponent, gradient):
    """Gradients of `_power` with respect to the base and the exponent."""
    log = tl.log2(base)
    to_base = gradient * exponent * tl.exp2((exponent - 1) * log)
    return to_base, gradient * tl.exp2(exponent * log) * (log * LN2)


@triton.jit
def _count(r, g, b, value):
    """How many channels equal `value`."""
    return (r == value).to(tl.float32) + (g == value).to(tl.float32) + (b == value).to(tl.float32)


@triton.jit
def _pull_saturation(r, g, b, d_r, d_g, d_b, x):
    """Gradients of saturation with respect to the colour and x; equal extremes share evenly."""
    high, low, light, spread, room = _hsl(r, g, b)
    p, full = _stretch(x, spread / room)
    up = 1 / (p + EPSILON) - 1
    rising = x >= 0
    total = d_r + d_g + d_b
    off_light = d_r * (r - light) + d_g * (g - light) + d_b * (b - light)
    d_p = tl.where(rising, -off_light / ((p + EPSILON) * (p + EPSILON)), 0.0)
    d_s = tl.where(full, d_p, 0.0)
    d_x = tl.where(rising, tl.where(full, 0.0, -d_p), off_light)
    gain = tl.where(rising, 1 + up, 1 + x)
    d_light = total * tl.where(rising, -up, -x)
    d_spread = d_s / room
    slope = d_s * spread / (room * room)
    d_total = tl.where(light < 0.5, -slope, slope) + d_light / 2
    share_high = (d_total + d_spread) / _count(r, g, b, high)
    share_low = (d_total - d_spread) / _count(r, g, b, low)
    d_r = d_r * gain + tl.where(r == high, share_high, 0.0) + tl.where(r == low, share_low, 0.0)
    d_g = d_g * gain + tl.where(g == high, share_high, 0.0) + tl.where(g == low, share_low, 0.0)
    d_b = d_b * gain + tl.where(b == high, share_high, 0.0) + tl.where(b == low, share_low, 0.0)
    return d_r, d_g, d_b, d_x


@triton.jit
def _pull_hue(r, g, b, d_r, d_g, d_b, cosine, sine):
    """Gradients of hue with respect to the colour and x."""
    _, v_r, v_g, v_b = _off_grey(r, g, b)
    t_r, t_g, t_b = _rotated(v_r, v_g, v_b, -sine * PI, cosine * PI, sine * PI)
    total, d_r, d_g, d_b = _off_grey_transposed(d_r, d_g, d_b)
    d_x = d_r * t_r + d_g * t_g + d_b * t_b
    d_r, d_g, d_b = _rotated(d_r, d_g, d_b, cosine, -sine, 1 - cosine)
    _, d_r, d_g, d_b = _off_grey_transposed(d_r, d_g, d_b)
    return d_r + total * LUMA_R, d_g + total * LUMA_G, d_b + total * LUMA_B, d_x


@triton.jit
def pull(r, g, b, d_r, d_g, d_b, k0, k1, k2, sums, step, CODE: tl.constexpr):
    """Pulls the gradient of a filter's clamped output, `d_*`, back to its input `r, g, b`.

    `d_*` are 0 for pixels that do not count. The sum over this program's pixels for slot 0 goes to
    `sums`, those for the next slots `step` further each.
    """
    # A power of a base in (0,1] to an exponent >= 0 never meets the clamp, whatever its rounding.
    if CODE != HIGHLIGHT and CODE != SHADOW:
        u_r, u_g, u_b = unclamped(r, g, b, k0, k1, k2, CODE)
        d_r, d_g, d_b = unit_gate(u_r, d_r), unit_gate(u_g, d_g), unit_gate(u_b, d_b)
    if CODE == TEMPERATURE:
        tl.store(sums, tl.sum(d_r * r))
        tl.store(sums + step, tl.sum(d_g * g))
        tl.store(sums + 2 * step, tl.sum(d_b * b))
        d_r, d_g, d_b = d_r * k0, d_g * k1, d_b * k2
    elif CODE == CONTRAST:
        tl.store(sums, tl.sum(d_r * (r - k1) + d_g * (g - k1) + d_b * (b - k1)))
        tl.store(sums + step, tl.sum(-k0 * (d_r + d_g + d_b)))
        d_r, d_g, d_b = d_r * (1 + k0), d_g * (1 + k0), d_b * (1 + k0)
    elif CODE == SATURATION:
        d_r, d_g, d_b, d_x = _pull_saturation(r, g, b, d_r, d_g, d_b, k0)
        tl.store(sums, tl.sum(d_x))
    elif CODE == HIGHLIGHT:
        d_r, x_r = _pull_power(1 - r + TINY, k0, d_r)
        d_g, x_g = _pull_power(1 - g + TINY, k0, d_g)
        d_b, x_b = _pull_power(1 - b + TINY, k0, d_b)
        tl.store(sums, tl.sum(-(x_r + x_g + x_b)))
    elif CODE == SHADOW:
        d_r, x_r = _pull_power(r + TINY, k0, d_r)
        d_g, x_g = _pull_power(g + TINY, k0, d_g)
        d_b, x_b = _pull_power(b + TINY, k0, d_b)
        tl.store(sums, tl.sum(x_r + x_g + x_b))
    elif CODE == HUE:
        d_r, d_g, d_b, d_x = _pull_hue(r, g, b, d_r, d_g, d_b, k0, k1)
        tl.store(sums, tl.sum(d_x))
    else:
        tl.store(sums, tl.sum(d_r * r + d_g * g + d_b * b))
        d_r, d_g, d_b = d_r * k0, d_g * k0, d_b * k0
    return d_r, d_g, d_b


@triton.jit
def _pull_temperature(x, m_r, m_g, m_b, d_r, d_g, d_b):
    """Gradients of the three gains with respect to x and the means."""
    add_r, add_g, add_b = _shifts(x)
    s_r, s_g, s_b = m_r + add_r, m_g + add_g, m_b + add_b
    grey, shifted = (m_r + m_g + m_b) / 3, (s_r + s_g + s_b) / 3
    i_r, i_g, i_b = 1 / (s_r + EPSILON), 1 / (s_g + EPSILON), 1 / (s_b + EPSILON)
    j_r, j_g, j_b = 1 / (m_r + EPSILON), 1 / (m_g + EPSILON), 1 / (m_b + EPSILON)
    every = (d_r * i_r + d_g * i_g + d_b * i_b) / 3
    to_r = every - d_r * shifted * i_r * i_r
    to_g = every - d_g * shifted * i_g * i_g
    to_b = every - d_b * shifted * i_b * i_b
    before = (d_r * j_r + d_g * j_g + d_b * j_b) / 3
    d_x = tl.where(x > 0, to_b + to_g / 2, tl.where(x < 0, -to_r - to_g / 2, 0.0))
    return (
        d_x,
        to_r - before + d_r * grey * j_r * j_r,
        to_g - before + d_g * grey * j_g * j_g,
        to_b - before + d_b * grey * j_b * j_b,
    )


@triton.jit
def pull_parameters(x, m_r, m_g, m_b, sums, CODE: tl.constexpr, QUANTIZED: tl.constexpr):
    """From the slots' totals (three float64 at `sums`) to gradients of argument and means."""
    d = tl.load(sums)
    e_r, e_g, e_b = d * 0, d * 0, d * 0
    if CODE == TEMPERATURE:
        d, e_r, e_g, e_b = _pull_temperature(
            x, m_r, m_g, m_b, d, tl.load(sums + 1), tl.load(sums + 2)
        )
    elif CODE == BRIGHTNESS:
        gain = 1 / ((1 - tl.maximum(x, 0.0)) + EPSILON)
        d = d * tl.where(x >= 0, gain * gain, 1.0)
    elif CODE == CONTRAST:
        room = 256 - 255 * tl.maximum(x, 0.0)
        slope = 0.0 if QUANTIZED else 255 * 256 / (room * room)
        d = d * tl.where(x > 0, slope, 1.0)
        e_r = tl.load(sums + 1) / 3
        e_g, e_b = e_r, e_r
    elif CODE == SHADOW:
        d = -d
    elif CODE == EXPOSURE:
        d = d * (2 * LN2) * tl.exp2(2 * x)
    return d, e_r, e_g, e_b

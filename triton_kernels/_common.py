# SPDX-License-Identifier: Apache-2.0
"""What the kernels share: how images are cut into programs, and how samples become numbers.

A program handles up to BLOCK pixels of one line of one image, so that the only divisions are
scalar ones. Where all tensors of a call allow it, an image is one single line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

Strides = tuple[int, int, int, int]
"""Steps in elements: image, channel, line, pixel."""

# Adding and taking away 1.5 * 2^23 rounds |x| < 2^22 to an integer, half to even.
_ROUNDER = tl.constexpr(12582912.0)


class Cut(NamedTuple):
    """An image batch cut into lines and blocks."""

    lines: int
    pixels: int
    blocks: int
    block: int
    strides: tuple[Strides, ...]

    @property
    def parts(self) -> int:
        """Programs per image."""
        return self.lines * self.blocks

    @property
    def shape(self) -> tuple[int, int, int]:
        """The kernels' arguments: lines per image, pixels per line, blocks per line."""
        return self.lines, self.pixels, self.blocks


def image_strides(tensor: Tensor, nhwc: bool) -> Strides:
    """Strides of an image batch or a mask batch in either layout."""
    n, a, b, c = tensor.stride()
    return (n, c, a, b) if nhwc else (n, a, b, c)


def cut(height: int, width: int, strides: Sequence[Strides], largest: int) -> Cut:
    """Chooses lines and blocks for tensors of one height and width.

    Args:
        height: rows of the images.
        width: pixels in a row.
        strides: of every tensor the kernel touches; the first decides which axis is walked along.
        largest: pixels per program at most, a power of two.
    """
    lines, pixels, views = height, width, list(strides)
    if pixels == 1 or (lines > 1 and views[0][2] < views[0][3]):
        lines, pixels = pixels, lines
        views = [(n, c, x, y) for n, c, y, x in views]
    if lines == 1 or all(y == pixels * x for _, _, y, x in views):
        lines, pixels = 1, lines * pixels
        views = [(n, c, 0, x) for n, c, _, x in views]
    block = min(largest, max(32, triton.next_power_of_2(pixels)))
    return Cut(lines, pixels, triton.cdiv(pixels, block), block, tuple(views))


def full_scale(tensor: Tensor | None) -> float:
    """The sample value that means 1."""
    if tensor is None:
        return 1.0
    return {torch.uint8: 255.0, torch.uint16: 65535.0}.get(tensor.dtype, 1.0)


def as_pointer(tensor: Tensor | None, instead: Tensor) -> Tensor:
    """A tensor to hand to a kernel: bool as bytes, and anything at all for None."""
    if tensor is None:
        return instead
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor


def on_device_of(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Makes the tensor's GPU current: Triton launches on the current device and stream."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


@triton.jit
def locate(lines, pixels, blocks, BLOCK: tl.constexpr):
    """Image, line and pixels of this program, which of those exist, and its place in its image."""
    program = tl.program_id(0)
    whole = program // blocks
    # 64 bits: 87 frames of 4K RGB have more than 2^31 samples.
    n = (whole // lines).to(tl.int64)
    line = (whole % lines).to(tl.int64)
    first = (program % blocks).to(tl.int64) * BLOCK
    pixel = first + tl.arange(0, BLOCK)
    return n, line, pixel, pixel < pixels, program - n * lines * blocks


@triton.jit
def load_rgb(image, strides, n, line, pixel, keep):
    """Raw samples of the three channels, 0 where not `keep`."""
    red = image + n * strides[0] + line * strides[2] + pixel * strides[3]
    green = red + strides[1]
    blue = green + strides[1]
    return (
        tl.load(red, mask=keep, other=0),
        tl.load(green, mask=keep, other=0),
        tl.load(blue, mask=keep, other=0),
    )


@triton.jit
def store_rgb(image, strides, n, line, pixel, keep, r, g, b):
    """Stores three channels; float samples are cast to a float tensor's type."""
    red = image + n * strides[0] + line * strides[2] + pixel * strides[3]
    green = red + strides[1]
    blue = green + strides[1]
    tl.store(red, r, mask=keep)
    tl.store(green, g, mask=keep)
    tl.store(blue, b, mask=keep)


@triton.jit
def load_plane(plane, strides, n, line, pixel, keep):
    """Raw samples of a tensor with one channel, 0 where not `keep`."""
    at = plane + n * strides[0] + line * strides[2] + pixel * strides[3]
    return tl.load(at, mask=keep, other=0)


@triton.jit
def decode(raw, SCALE: tl.constexpr):
    """Samples to float32, full scale to 1."""
    value = raw.to(tl.float32)
    if SCALE != 1.0:
        value = value / SCALE
    return value


@triton.jit
def encode(value, like, SCALE: tl.constexpr):
    """float32 to samples of the type of `like`; integers are rounded half to even and clamped."""
    if SCALE != 1.0:
        whole = (value * SCALE + _ROUNDER) - _ROUNDER
        return tl.minimum(tl.maximum(whole, 0.0), SCALE).to(tl.int32).to(like.dtype)
    else:
        return value.to(like.dtype)


@triton.jit
def unit(value):
    """Clamp to [0,1]; NaN stays NaN."""
    low = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(low, 1.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def unit_gate(value, gradient):
    """Gradient of `unit`: passes inside and at equality."""
    return tl.where((value >= 0.0) & (value <= 1.0), gradient, 0.0)

# SPDX-License-Identifier: Apache-2.0
"""3-D look-up tables: applied in one fused pass, their gradients, and splatting.

Images are `[N,3,H,W]` or `[N,H,W,3]` of any strides: float32, float16, bfloat16, or uint8 and
uint16 full scale. Masks have one channel in the same layout: the same dtypes, bool, or None for
all ones. Tables are `[B,S,S,S,3]` indexed [r,g,b], B being 1 or N, S from 2 to 129, float32,
contiguous, over [0,1]. Every function fills its last arguments and returns nothing; sizes must not
be zero.

Bytes moved per pixel, with s bytes per sample and m per mask sample: `apply_lut` 6s + m,
`apply_lut_backward` 9s + m (with the mask's gradient + m), `lut_splat` 6s + m where the mask is
set. Beside that come 4 (tetrahedral) or 8 (trilinear) reads of 12 bytes from the table, which the
second cache level holds, and as many atomic additions for gradients; `lut_splat` adds 8 times 16.
Atomic additions come in any order: the table's gradient and the splat's sums vary in their last
bits from run to run, and are refused under `torch.use_deterministic_algorithms(True)`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _lut_kernels as kernels
from ._common import Cut, as_pointer, cut, full_scale, image_strides, on_device_of

_PIXELS = 512


def apply_lut(
    image: Tensor, lut: Tensor, mask: Tensor | None, interpolation: int, strength: float,
    nhwc: bool, out: Tensor,
) -> None:  # fmt: skip
    """`out = M * lut(image) + (1 - M) * image`, the image bit for bit where M is 0.

    Args:
        image: RGB batch; a NaN makes its whole pixel NaN.
        lut: tables.
        mask: one-channel batch, or None; M is the mask times `strength`.
        interpolation: 0 tetrahedral, 1 trilinear.
        strength: 0 to 1.
        nhwc: the layout of image, mask and out.
        out: like the image in shape and dtype, any strides. Integers are clamped and rounded half
            to even, floats are not clamped.
    """
    grid = _cut(image, nhwc, image if mask is None else mask, out)
    image_at, mask_at, out_at = grid.strides
    with on_device_of(image):
        kernels.apply_kernel[(image.shape[0] * grid.parts,)](
            image, as_pointer(mask, image), lut, out, float(strength), _step(lut), *grid.shape,
            image_at, mask_at, out_at, SIZE=lut.shape[1], KIND=interpolation,
            HAS_MASK=mask is not None, IMAGE_SCALE=full_scale(image), MASK_SCALE=full_scale(mask),
            BLOCK=grid.block,
        )  # fmt: skip


def apply_lut_backward(
    grad: Tensor, image: Tensor, lut: Tensor, mask: Tensor | None, interpolation: int,
    strength: float, nhwc: bool, grad_image: Tensor | None, grad_lut: Tensor | None,
    grad_mask: Tensor | None,
) -> None:  # fmt: skip
    """Gradients of `apply_lut`; where M is 0 the mask and the table get none.

    Takes the gradient of `out` (like the image, any strides) and `apply_lut`'s arguments, and
    fills `grad_image` (like the image), `grad_lut` (like `lut`) and `grad_mask` (like the mask),
    each None where it is not wanted.
    """
    if grad_lut is not None:
        _refuse_atomics("apply_lut_backward: the gradient of lut")
        grad_lut.zero_()
    wanted = (mask, grad_image, grad_mask)
    grid = _cut(image, nhwc, *(image if t is None else t for t in (*wanted, grad)))
    image_at, mask_at, grad_image_at, grad_mask_at, grad_at = grid.strides
    with on_device_of(image):
        kernels.apply_backward_kernel[(image.shape[0] * grid.parts,)](
            grad, image, as_pointer(mask, image), lut, as_pointer(grad_image, image),
            as_pointer(grad_lut, lut), as_pointer(grad_mask, image), float(strength), _step(lut),
            *grid.shape, grad_at, image_at, mask_at, grad_image_at, grad_mask_at,
            SIZE=lut.shape[1], KIND=interpolation, HAS_MASK=mask is not None,
            NEED_IMAGE=grad_image is not None, NEED_LUT=grad_lut is not None,
            NEED_MASK=grad_mask is not None, IMAGE_SCALE=full_scale(image),
            MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip


def lut_splat(
    source: Tensor, target: Tensor, mask: Tensor | None, size: int, offset: bool, nhwc: bool,
    sums: Tensor,
) -> None:  # fmt: skip
    """Trilinear splat of the target's colours onto the nodes around the source's.

    Args:
        source: RGB batch, clamped to [0,1].
        target: like the source in shape and dtype, any strides.
        mask: one-channel batch, or None.
        size: nodes along an axis.
        offset: splat `target - source` instead.
        nhwc: the layout.
        sums: `[N,S,S,S,4]` float32, contiguous: sums of weighted colours and of weights. Pixels
            with NaN in the source, or colours that are not finite, add nothing.
    """
    _refuse_atomics("lut_splat")
    sums.zero_()
    grid = _cut(source, nhwc, target, source if mask is None else mask)
    with on_device_of(source):
        kernels.splat_kernel[(source.shape[0] * grid.parts,)](
            source, target, as_pointer(mask, source), sums, *grid.shape, *grid.strides, SIZE=size,
            OFFSET=bool(offset), HAS_MASK=mask is not None, IMAGE_SCALE=full_scale(source),
            MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip


def _cut(image: Tensor, nhwc: bool, *others: Tensor) -> Cut:
    height, width = image.shape[1:3] if nhwc else image.shape[2:]
    return cut(height, width, [image_strides(t, nhwc) for t in (image, *others)], _PIXELS)


def _step(lut: Tensor) -> int:
    return lut[0].numel() if lut.shape[0] > 1 else 0


def _refuse_atomics(what: str) -> None:
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(
            f"{what} has no deterministic Triton kernel, and "
            "torch.use_deterministic_algorithms(True) is set"
        )

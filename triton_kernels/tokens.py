# SPDX-License-Identifier: Apache-2.0
"""Patches of frames as packed tokens, and back.

Images are `[N,C,H,W]` or `[N,H,W,C]` of any strides, H and W multiples of the patch: float32,
float16, bfloat16, or uint8 and uint16 full scale (taken as [0,1]). Tokens are contiguous
`[K, patch*patch*C]`, samples in the order (row, column, channel). Masks have one channel: the same
dtypes, or bool. `index` `[K]` int64 numbers patches row by row, frame after frame; `slots` `[N*P]`
int64 says for each patch which token it takes, -1 for none. Every function fills its last argument
and returns nothing; sizes must not be zero. No atomics: results are deterministic.

Bytes moved, with S bytes per sample: `pack` 2 S per kept sample; `unpack` 2 S per sample of the
image (a mask adds its own bytes and the image's under it).
"""

from __future__ import annotations

import triton
from torch import Tensor

from . import _tokens_kernels as kernels
from ._common import as_pointer, full_scale, image_strides, on_device_of

_BLOCK = 1024
_NO_STRIDES = (0, 0, 0, 0)


def foreground_patches(mask: Tensor, patch: int, nhwc: bool, out: Tensor) -> None:
    """Whether any pixel of a patch is above 0, into bool `[N,P]`."""
    patches, columns, _ = _grid(mask, patch, nhwc)
    block = _block(patch * patch)
    with on_device_of(mask):
        kernels.foreground_kernel[(out.numel(),)](
            as_pointer(mask, mask), as_pointer(out, out), image_strides(mask, nhwc), patches,
            columns, PATCH=patch, BLOCK=block,
        )  # fmt: skip


def pack(
    image: Tensor, index: Tensor, mask: Tensor | None, patch: int, nhwc: bool, tokens: Tensor
) -> None:
    """The patches of `index`, each sample times the mask where there is one."""
    patches, columns, channels = _grid(image, patch, nhwc)
    width = tokens.shape[1]
    block = _block(width)
    with on_device_of(image):
        kernels.pack_kernel[(index.numel(), triton.cdiv(width, block))](
            image, index, as_pointer(mask, image), tokens, image_strides(image, nhwc),
            _strides(mask, nhwc), patches, columns, image.shape[0] * patches, channels, width,
            PATCH=patch, MOVE=mask is None and image.dtype == tokens.dtype,
            HAS_MASK=mask is not None, IMAGE_SCALE=full_scale(image),
            TOKEN_SCALE=full_scale(tokens), MASK_SCALE=full_scale(mask), BLOCK=block,
        )  # fmt: skip


def unpack(
    tokens: Tensor | None, slots: Tensor, image: Tensor | None, mask: Tensor | None, patch: int,
    nhwc: bool, out: Tensor,
) -> None:  # fmt: skip
    """Tokens (None: zeros) over an image (None: zeros), blended by the mask; out may be image."""
    patches, columns, channels = _grid(out, patch, nhwc)
    width = channels * patch * patch
    block = _block(width)
    same = tokens is not None and tokens.dtype == out.dtype
    with on_device_of(out):
        kernels.unpack_kernel[(slots.numel(), triton.cdiv(width, block))](
            as_pointer(tokens, out), slots, as_pointer(image, out), as_pointer(mask, out), out,
            _strides(image, nhwc), _strides(mask, nhwc), image_strides(out, nhwc), patches,
            columns, channels, width, PATCH=patch, NHWC=nhwc, MOVE=mask is None and same,
            HAS_TOKENS=tokens is not None, HAS_IMAGE=image is not None, HAS_MASK=mask is not None,
            IMAGE_SCALE=full_scale(out), TOKEN_SCALE=full_scale(tokens),
            MASK_SCALE=full_scale(mask), BLOCK=block,
        )  # fmt: skip


def mask_gradient(
    grad: Tensor, tokens: Tensor, index: Tensor, image: Tensor, mask: Tensor, patch: int,
    nhwc: bool, out: Tensor,
) -> None:  # fmt: skip
    """The mask's gradient of `unpack` in the patches of `index`; elsewhere `out` stays."""
    patches, columns, channels = _grid(image, patch, nhwc)
    block = _block(patch * patch)
    with on_device_of(image):
        kernels.mask_gradient_kernel[(index.numel(), triton.cdiv(patch * patch, block))](
            grad, tokens, index, image, as_pointer(mask, image), out, image_strides(grad, nhwc),
            image_strides(image, nhwc), image_strides(mask, nhwc), image_strides(out, nhwc),
            patches, columns, image.shape[0] * patches, channels, tokens.shape[1], PATCH=patch,
            IMAGE_SCALE=full_scale(image), TOKEN_SCALE=full_scale(tokens), BLOCK=block,
        )  # fmt: skip


def _grid(image: Tensor, patch: int, nhwc: bool) -> tuple[int, int, int]:
    """Patches per frame, patches per row of patches, channels."""
    _n, a, b, c = image.shape
    channels, height, width = (c, a, b) if nhwc else (a, b, c)
    return (height // patch) * (width // patch), width // patch, channels


def _block(size: int) -> int:
    return min(_BLOCK, triton.next_power_of_2(size))


def _strides(tensor: Tensor | None, nhwc: bool) -> tuple[int, int, int, int]:
    return _NO_STRIDES if tensor is None else image_strides(tensor, nhwc)

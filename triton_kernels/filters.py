# SPDX-License-Identifier: Apache-2.0
"""White-box filter chains: one fused pass over the pixels, forward and backward.

Filters are codes, places in `NAMES`. Images are `[N,3,H,W]` or `[N,H,W,3]` of any strides:
float32, float16, bfloat16 in [0,1] (values outside are clamped where the mask is set), uint8 or
uint16 full scale. Masks have one channel in the same layout: the same dtypes, bool, or None for
all ones. `arguments` `[N,K]` in [-1,1] and `statistics` `[N,K,3]` are float32, contiguous and on
the image's device. Every function fills its last arguments and returns nothing; sizes must not be
zero. Backward passes recompute the chain, and sum parameter gradients in a fixed order (partial
sums in a workspace, no atomics), so they are deterministic.

Bytes moved per pixel, with s bytes per sample and m per mask sample: `filter_chain` 6s + m,
`filter_chain_backward` 9s + m (with the mask's gradient + m), `chain_means` 3s,
`chain_means_backward` 6s, `filter_chain_loss` 3s + m + 3sK where the mask is set,
`filter_chain_loss_backward` 3s more. Workspaces add 12K bytes per block of 256 pixels (128
where K is above 8).

Source: Ke et al., Harmonizer, ECCV 2022, section 3 and eq. 11.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _filter_kernels as kernels
from ._common import Cut, as_pointer, cut, full_scale, image_strides, on_device_of
from ._filter_stages import NAMES, SLOTS

MAX_FILTERS = 16
_FORWARD_PIXELS = 512


def filter_chain(
    image: Tensor, mask: Tensor | None, arguments: Tensor, statistics: Tensor,
    filters: Sequence[int], strength: float, nhwc: bool, quantized: bool, out: Tensor,
) -> None:  # fmt: skip
    """`out = M * chain(image) + (1 - M) * image`, the image bit for bit where M is 0.

    Args:
        image: RGB batch.
        mask: one-channel batch, or None; M is the mask times `strength`.
        arguments: `[N,K]`.
        statistics: `[N,K,3]`, the channel means of each filter's input.
        filters: K codes, at most 16.
        strength: 0 to 1.
        nhwc: the layout of image, mask and out.
        quantized: contrast gain floored to 8 bits, as in the released implementation.
        out: like the image in shape and dtype, any strides.
    """
    filters = _checked(image, arguments, statistics, filters)
    grid = _cut(image, nhwc, _FORWARD_PIXELS, image if mask is None else mask, out)
    image_at, mask_at, out_at = grid.strides
    with on_device_of(image):
        kernels.chain_kernel[(image.shape[0] * grid.parts,)](
            image, as_pointer(mask, image), arguments, statistics, out, float(strength),
            *grid.shape, image_at, mask_at, out_at, FILTERS=pack(filters), K=len(filters),
            QUANTIZED=bool(quantized), HAS_MASK=mask is not None, IMAGE_SCALE=full_scale(image),
            MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip


def filter_chain_backward(
    grad: Tensor, image: Tensor, mask: Tensor | None, arguments: Tensor, statistics: Tensor,
    filters: Sequence[int], strength: float, nhwc: bool, quantized: bool,
    grad_image: Tensor | None, grad_mask: Tensor | None, grad_arguments: Tensor,
    grad_statistics: Tensor,
) -> None:  # fmt: skip
    """Gradients of `filter_chain`; where M is 0 the mask and the parameters get none.

    Takes the gradient of `out` (like the image, any strides) and `filter_chain`'s arguments, and
    fills `grad_image` (like the image) and `grad_mask` (like the mask), each None where it is not
    wanted, and `grad_arguments` `[N,K]` and `grad_statistics` `[N,K,3]`, float32 and contiguous.
    """
    filters = _checked(image, arguments, statistics, filters)
    optional = (mask, grad_image, grad_mask)
    views = (image if tensor is None else tensor for tensor in (*optional, grad))
    grid = _cut(image, nhwc, _backward_pixels(filters), *views)
    image_at, mask_at, grad_image_at, grad_mask_at, grad_at = grid.strides
    with on_device_of(image):
        sums = _workspace(image, SLOTS * len(filters), grid)
        kernels.chain_backward_kernel[(image.shape[0] * grid.parts,)](
            grad, image, as_pointer(mask, image), arguments, statistics,
            as_pointer(grad_image, image), as_pointer(grad_mask, image), sums, float(strength),
            *grid.shape, grad_at, image_at, mask_at, grad_image_at, grad_mask_at,
            FILTERS=pack(filters), K=len(filters), QUANTIZED=bool(quantized),
            HAS_MASK=mask is not None, NEED_IMAGE=grad_image is not None,
            NEED_MASK=grad_mask is not None,
            IMAGE_SCALE=full_scale(image), MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip
        _pull_parameters(
            sums, arguments, statistics, filters, quantized, grad_arguments, grad_statistics
        )


def chain_means(
    image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[int], nhwc: bool,
    quantized: bool, out: Tensor,
) -> None:  # fmt: skip
    """Channel means `[N,3]` of the unmasked chain's output, into float32 `out`.

    The other arguments are `filter_chain`'s; K may be 0.
    """
    filters = _checked(image, arguments, statistics, filters)
    grid = _cut(image, nhwc, _FORWARD_PIXELS)
    with on_device_of(image):
        sums = _workspace(image, 3, grid)
        kernels.means_kernel[(image.shape[0] * grid.parts,)](
            image, arguments, statistics, sums, *grid.shape, *grid.strides, FILTERS=pack(filters),
            K=len(filters), QUANTIZED=bool(quantized), IMAGE_SCALE=full_scale(image),
            BLOCK=grid.block,
        )  # fmt: skip
        out.copy_(sums.sum(2, dtype=torch.float64) / (grid.lines * grid.pixels))


def chain_means_backward(
    grad: Tensor, image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[int],
    nhwc: bool, quantized: bool, grad_image: Tensor | None, grad_arguments: Tensor,
    grad_statistics: Tensor,
) -> None:  # fmt: skip
    """Gradients of `chain_means`, from `grad` `[N,3]`, float32 and contiguous.

    Outputs are those of `filter_chain_backward`.
    """
    filters = _checked(image, arguments, statistics, filters)
    grid = _cut(image, nhwc, _backward_pixels(filters), image if grad_image is None else grad_image)
    with on_device_of(image):
        sums = _workspace(image, SLOTS * len(filters), grid)
        kernels.means_backward_kernel[(image.shape[0] * grid.parts,)](
            grad, image, arguments, statistics, as_pointer(grad_image, image), sums,
            1.0 / (grid.lines * grid.pixels), *grid.shape, *grid.strides, FILTERS=pack(filters),
            K=len(filters), QUANTIZED=bool(quantized), NEED_IMAGE=grad_image is not None,
            IMAGE_SCALE=full_scale(image), BLOCK=grid.block,
        )  # fmt: skip
        _pull_parameters(
            sums, arguments, statistics, filters, quantized, grad_arguments, grad_statistics
        )


def filter_chain_loss(
    image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor, targets: Tensor,
    filters: Sequence[int], quantized: bool, out: Tensor,
) -> None:  # fmt: skip
    """Masked losses of every stage, `sum(M * (sqrt(d^2 + 1e-6) + 10 d^2)) / (sum(M) + 1e-6)`.

    `d` is the stage's unmasked output less its target; sums run over pixels and the channels of
    `d`. `image` is `[N,3,H,W]` float, `mask` `[N,1,H,W]` (where it is 0 neither image nor targets
    are read), `targets` `[N,K,3,H,W]` float of any strides, K at least 1, `out` `[N,K]` float32.
    """
    filters = _checked(image, arguments, statistics, filters)
    grid = _cut(image, False, _FORWARD_PIXELS, mask, targets[:, 0])
    k = len(filters)
    with on_device_of(image):
        sums = _workspace(image, k + 1, grid)
        kernels.loss_kernel[(image.shape[0] * grid.parts,)](
            image, as_pointer(mask, image), arguments, statistics, targets, sums, *grid.shape,
            *grid.strides, targets.stride(1), FILTERS=pack(filters), K=k, QUANTIZED=bool(quantized),
            IMAGE_SCALE=full_scale(image), MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip
        totals = sums.sum(2, dtype=torch.float64)
        out.copy_(totals[:, :k] / (totals[:, k:] + kernels.EPSILON.value))


def filter_chain_loss_backward(
    grad: Tensor, image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor,
    targets: Tensor, filters: Sequence[int], quantized: bool, grad_image: Tensor | None,
    grad_arguments: Tensor, grad_statistics: Tensor,
) -> None:  # fmt: skip
    """Gradients of `filter_chain_loss` from `grad` `[N,K]` float32; mask and targets get none.

    Outputs are those of `filter_chain_backward`.
    """
    filters = _checked(image, arguments, statistics, filters)
    last = targets[:, -1]
    like_image = image if grad_image is None else grad_image
    grid = _cut(image, False, _backward_pixels(filters), mask, last, like_image)
    with on_device_of(image):
        sums = _workspace(image, SLOTS * len(filters), grid)
        kernels.loss_backward_kernel[(image.shape[0] * grid.parts,)](
            (grad / _mask_total(mask)[:, None]).float(), image, as_pointer(mask, image), arguments,
            statistics, last, as_pointer(grad_image, image), sums, *grid.shape, *grid.strides,
            targets.stride(1), FILTERS=pack(filters), K=len(filters), QUANTIZED=bool(quantized),
            NEED_IMAGE=grad_image is not None, IMAGE_SCALE=full_scale(image),
            MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip
        _pull_parameters(
            sums, arguments, statistics, filters, quantized, grad_arguments, grad_statistics
        )


def pack(filters: Sequence[int]) -> int:
    """The kernels' FILTERS: 4 bits for each code, the first lowest."""
    return sum(code << 4 * i for i, code in enumerate(filters))


def _checked(
    image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[int]
) -> tuple[int, ...]:
    """What a kernel would read past its end for, checked."""
    n, k = image.shape[0], len(filters)
    if k > MAX_FILTERS or any(not 0 <= code < len(NAMES) for code in filters):
        raise ValueError(
            f"filters must be at most {MAX_FILTERS} codes below {len(NAMES)}, got {list(filters)}"
        )
    for name, tensor, shape in (
        ("arguments", arguments, (n, k)),
        ("statistics", statistics, (n, k, 3)),
    ):
        if tensor.dtype != torch.float32:
            raise TypeError(f"{name} must have dtype float32; got {tensor.dtype}")
        if tensor.shape != shape or not tensor.is_contiguous():
            raise ValueError(
                f"{name} must be contiguous with shape {list(shape)}, got {list(tensor.shape)} "
                f"with strides {list(tensor.stride())}"
            )
    return tuple(filters)


def _cut(image: Tensor, nhwc: bool, largest: int, *others: Tensor) -> Cut:
    height, width = image.shape[1:3] if nhwc else image.shape[2:]
    return cut(height, width, [image_strides(t, nhwc) for t in (image, *others)], largest)


def _backward_pixels(filters: Sequence[int]) -> int:
    """Backward keeps three samples per stage in registers: 16 stages spill at 512 pixels."""
    return 256 if len(filters) <= 8 else 128


def _workspace(image: Tensor, slots: int, grid: Cut) -> Tensor:
    """Partial sums; zero, because programs that the mask does not touch write none."""
    shape = (image.shape[0], slots, grid.parts)
    return torch.zeros(shape, dtype=torch.float32, device=image.device)


def _mask_total(mask: Tensor) -> Tensor:
    """Sum of each mask plus 1e-6, float64 `[N]`."""
    if mask.dtype == torch.uint16:  # which has no sum
        mask, scale = mask.view(torch.int16).to(torch.int32) & 0xFFFF, 65535.0
    else:
        scale = full_scale(mask)
    return mask.sum((1, 2, 3), dtype=torch.float64) / scale + kernels.EPSILON.value


def _pull_parameters(
    sums: Tensor, arguments: Tensor, statistics: Tensor, filters: tuple[int, ...], quantized: bool,
    grad_arguments: Tensor, grad_statistics: Tensor,
) -> None:  # fmt: skip
    if not filters:
        return
    kernels.parameters_kernel[(arguments.shape[0],)](
        sums.sum(2, dtype=torch.float64), arguments, statistics, grad_arguments, grad_statistics,
        FILTERS=pack(filters), K=len(filters), QUANTIZED=bool(quantized), num_warps=1,
    )  # fmt: skip

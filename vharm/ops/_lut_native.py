# SPDX-License-Identifier: Apache-2.0
"""Calls of the look-up tables' C++ kernels."""

from __future__ import annotations

from torch import Tensor

from ._native import cpu_module, image_view, mask_view, threads


def apply_lut(
    image: Tensor, lut: Tensor, mask: Tensor | None, interpolation: int, strength: float,
    nhwc: bool, out: Tensor,
) -> None:  # fmt: skip
    layout = _layout(nhwc)
    cpu_module().apply_lut(
        image_view(image, layout), mask_view(mask, layout, strength), lut_view(lut), interpolation,
        image_view(out, layout), threads(),
    )  # fmt: skip


def apply_lut_backward(
    grad: Tensor, image: Tensor, lut: Tensor, mask: Tensor | None, interpolation: int,
    strength: float, nhwc: bool, grad_image: Tensor | None, grad_lut: Tensor | None,
    grad_mask: Tensor | None,
) -> None:  # fmt: skip
    layout = _layout(nhwc)
    cpu_module().apply_lut_backward(
        image_view(grad, layout), image_view(image, layout), mask_view(mask, layout, strength),
        lut_view(lut), interpolation,
        None if grad_image is None else image_view(grad_image, layout),
        mask_view(grad_mask, layout, 1.0), 0 if grad_lut is None else grad_lut.data_ptr(),
        threads(),
    )  # fmt: skip


def lut_splat(
    source: Tensor, target: Tensor, mask: Tensor | None, size: int, offset: bool, nhwc: bool,
    sums: Tensor,
) -> None:  # fmt: skip
    layout = _layout(nhwc)
    cpu_module().lut_splat(
        image_view(source, layout), image_view(target, layout), mask_view(mask, layout, 1.0), size,
        offset, sums.data_ptr(), threads(),
    )  # fmt: skip


def lut_view(lut: Tensor) -> tuple[int, int, int]:
    """(pointer, tables, nodes along an axis) of contiguous float32 tables, for vharm::LutView."""
    return (lut.data_ptr(), lut.shape[0], lut.shape[1])


def _layout(nhwc: bool) -> str:
    return "NHWC" if nhwc else "NCHW"

# SPDX-License-Identifier: Apache-2.0
"""Calls of the tokens' C++ and CUDA kernels: the same signatures."""

from __future__ import annotations

from torch import Tensor

from ._native import DTYPE_CODES, Kernels, mask_view


class _Native(Kernels):
    def foreground_patches(self, mask: Tensor, patch: int, nhwc: bool, out: Tensor) -> None:
        self._call("foreground_patches", mask, _tensor_view(mask, nhwc), patch, out.data_ptr())

    def pack(
        self, image: Tensor, index: Tensor, mask: Tensor | None, patch: int, nhwc: bool,
        tokens: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "pack_patches", image, _tensor_view(image, nhwc), index.data_ptr(), index.numel(),
            _mask(mask, nhwc), patch, _tokens(tokens),
        )  # fmt: skip

    def unpack(
        self, tokens: Tensor | None, slots: Tensor, image: Tensor | None, mask: Tensor | None,
        patch: int, nhwc: bool, out: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "unpack_patches", out, None if tokens is None else _tokens(tokens), slots.data_ptr(),
            None if image is None else _tensor_view(image, nhwc), _mask(mask, nhwc), patch,
            _tensor_view(out, nhwc),
        )  # fmt: skip

    def mask_gradient(
        self, grad: Tensor, tokens: Tensor, index: Tensor, image: Tensor, mask: Tensor,
        patch: int, nhwc: bool, out: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "patch_mask_gradient", grad, _tensor_view(grad, nhwc), _tokens(tokens),
            index.data_ptr(), index.numel(), _tensor_view(image, nhwc), _mask(mask, nhwc),
            patch, _tensor_view(out, nhwc),
        )  # fmt: skip


def _mask(mask: Tensor | None, nhwc: bool) -> tuple[float, ...] | None:
    return mask_view(mask, "NHWC" if nhwc else "NCHW", 1.0)


def _tokens(tokens: Tensor) -> tuple[int, int]:
    """(pointer, dtype) of contiguous tokens, for vharm::TokenView."""
    return tokens.data_ptr(), DTYPE_CODES[tokens.dtype]


def _tensor_view(tensor: Tensor, nhwc: bool) -> tuple[int, ...]:
    """(pointer, dtype, n, c, h, w, stride n, c, h, w) for vharm::TensorView."""
    n, a, b, c = tensor.shape
    sn, sa, sb, sc = tensor.stride()
    sizes = (n, c, a, b, sn, sc, sa, sb) if nhwc else (n, a, b, c, sn, sa, sb, sc)
    return (tensor.data_ptr(), DTYPE_CODES[tensor.dtype], *sizes)


CPP = _Native("cpp")
CUDA = _Native("cuda")

# SPDX-License-Identifier: Apache-2.0
"""Calls of the warps' C++ and CUDA kernels: the same signatures.

Tensors are views `[N,C,H,W]` of any strides.
"""

from __future__ import annotations

from torch import Tensor

from ._native import DTYPE_CODES, Kernels, mask_view


class _Native(Kernels):
    def flow_warp(
        self, image: Tensor, flow: Tensor, border: bool, out: Tensor, valid: Tensor | None
    ) -> None:
        self._call("flow_warp", image, _view(image), _view(flow), border, _view(out), _view(valid))

    def flow_warp_backward(
        self, grad: Tensor, image: Tensor, flow: Tensor, border: bool,
        grad_image: Tensor | None, grad_flow: Tensor | None,
    ) -> None:  # fmt: skip
        self._call(
            "flow_warp_backward", image, _view(grad), _view(image), _view(flow), border,
            _view(grad_image), _view(grad_flow),
        )  # fmt: skip

    def temporal_loss(
        self, current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor,
        valid: Tensor | None, loss: Tensor, weight: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "temporal_loss", current, _view(current), _view(previous), _view(flow),
            mask_view(mask, "NCHW", 1.0), mask_view(valid, "NCHW", 1.0), loss.data_ptr(),
            weight.data_ptr(),
        )  # fmt: skip

    def temporal_loss_backward(
        self, scale: Tensor, current: Tensor, previous: Tensor, flow: Tensor, mask: Tensor,
        valid: Tensor | None, grad_current: Tensor | None, grad_previous: Tensor | None,
        grad_flow: Tensor | None,
    ) -> None:  # fmt: skip
        self._call(
            "temporal_loss_backward", current, scale.data_ptr(), _view(current), _view(previous),
            _view(flow), mask_view(mask, "NCHW", 1.0), mask_view(valid, "NCHW", 1.0),
            _view(grad_current), _view(grad_previous), _view(grad_flow),
        )  # fmt: skip

    def flow_consistency(
        self, forward: Tensor, backward: Tensor, alpha: float, beta: float, out: Tensor
    ) -> None:
        self._call(
            "flow_consistency", forward, _view(forward), _view(backward), alpha, beta, _view(out)
        )


def _view(tensor: Tensor | None) -> tuple[int, ...] | None:
    """(pointer, dtype, n, c, h, w, strides in the same order) for vharm::TensorView."""
    if tensor is None:
        return None
    return (tensor.data_ptr(), DTYPE_CODES[tensor.dtype], *tensor.shape, *tensor.stride())


CPP = _Native("cpp")
CUDA = _Native("cuda")

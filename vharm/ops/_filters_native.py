# SPDX-License-Identifier: Apache-2.0
"""Calls of the filters' C++ and CUDA kernels: the same signatures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ._native import Kernels, image_view, mask_view


class _Native(Kernels):
    def filter_chain(
        self, image: Tensor, mask: Tensor | None, arguments: Tensor, statistics: Tensor,
        filters: Sequence[int], strength: float, nhwc: bool, quantized: bool, out: Tensor,
    ) -> None:  # fmt: skip
        layout = "NHWC" if nhwc else "NCHW"
        self._call(
            "filter_chain", image, image_view(image, layout), mask_view(mask, layout, strength),
            arguments.data_ptr(), statistics.data_ptr(), filters, quantized,
            image_view(out, layout),
        )  # fmt: skip

    def filter_chain_backward(
        self, grad: Tensor, image: Tensor, mask: Tensor | None, arguments: Tensor,
        statistics: Tensor, filters: Sequence[int], strength: float, nhwc: bool, quantized: bool,
        grad_image: Tensor | None, grad_mask: Tensor | None, grad_arguments: Tensor,
        grad_statistics: Tensor,
    ) -> None:  # fmt: skip
        layout = "NHWC" if nhwc else "NCHW"
        self._call(
            "filter_chain_backward", image, image_view(grad, layout), image_view(image, layout),
            mask_view(mask, layout, strength), arguments.data_ptr(), statistics.data_ptr(),
            filters, quantized, _optional_image(grad_image, layout),
            mask_view(grad_mask, layout, 1.0), grad_arguments.data_ptr(),
            grad_statistics.data_ptr(),
        )  # fmt: skip

    def chain_means(
        self, image: Tensor, arguments: Tensor, statistics: Tensor, filters: Sequence[int],
        nhwc: bool, quantized: bool, out: Tensor,
    ) -> None:  # fmt: skip
        layout = "NHWC" if nhwc else "NCHW"
        self._call(
            "chain_means", image, image_view(image, layout), arguments.data_ptr(),
            statistics.data_ptr(), filters, quantized, out.data_ptr(),
        )  # fmt: skip

    def chain_means_backward(
        self, grad: Tensor, image: Tensor, arguments: Tensor, statistics: Tensor,
        filters: Sequence[int], nhwc: bool, quantized: bool, grad_image: Tensor | None,
        grad_arguments: Tensor, grad_statistics: Tensor,
    ) -> None:  # fmt: skip
        layout = "NHWC" if nhwc else "NCHW"
        self._call(
            "chain_means_backward", image, grad.data_ptr(), image_view(image, layout),
            arguments.data_ptr(), statistics.data_ptr(), filters, quantized,
            _optional_image(grad_image, layout), grad_arguments.data_ptr(),
            grad_statistics.data_ptr(),
        )  # fmt: skip

    def filter_chain_loss(
        self, image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor,
        targets: Tensor, filters: Sequence[int], quantized: bool, out: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "filter_chain_loss", image, image_view(image, "NCHW"), mask_view(mask, "NCHW", 1.0),
            arguments.data_ptr(), statistics.data_ptr(), *_targets(targets), filters, quantized,
            out.data_ptr(),
        )  # fmt: skip

    def filter_chain_loss_backward(
        self, grad: Tensor, image: Tensor, mask: Tensor, arguments: Tensor, statistics: Tensor,
        targets: Tensor, filters: Sequence[int], quantized: bool, grad_image: Tensor | None,
        grad_arguments: Tensor, grad_statistics: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "filter_chain_loss_backward", image, grad.data_ptr(), image_view(image, "NCHW"),
            mask_view(mask, "NCHW", 1.0), arguments.data_ptr(), statistics.data_ptr(),
            *_targets(targets), filters, quantized, _optional_image(grad_image, "NCHW"),
            grad_arguments.data_ptr(), grad_statistics.data_ptr(),
        )  # fmt: skip


def _optional_image(tensor: Tensor | None, layout: str) -> tuple[int, ...] | None:
    return None if tensor is None else image_view(tensor, layout)


def _targets(targets: Tensor) -> tuple[tuple[int, ...], int]:
    """Targets [N,K,3,H,W] as the view of stage 0 and the stride from stage to stage."""
    return image_view(targets[:, 0], "NCHW"), targets.stride(1)


CPP = _Native("cpp")
CUDA = _Native("cuda")

# SPDX-License-Identifier: Apache-2.0
"""Calls of the attention family's C++ and CUDA kernels: the same signatures."""

from __future__ import annotations

import torch
from torch import Tensor

from ._native import DTYPE_CODES, Kernels, mask_view


class _Native(Kernels):
    def neighborhood_attention(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
        key_mask: Tensor | None, window: int, heads: int, scale: float, out: Tensor, lse: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "neighborhood_attention", query, features(query), features(key), features(value),
            _mask(mask), _mask(key_mask), window, heads, scale, features(out), lse.data_ptr(),
        )  # fmt: skip

    def neighborhood_attention_backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
        key_mask: Tensor | None, lse: Tensor, window: int, heads: int, scale: float,
        inner: Tensor, grad_query: Tensor | None, grad_key: Tensor | None,
        grad_value: Tensor | None,
    ) -> None:  # fmt: skip
        self._call(
            "neighborhood_attention_backward", query, features(grad), features(query),
            features(key), features(value), _mask(mask), _mask(key_mask), lse.data_ptr(), window,
            heads, scale, inner.data_ptr(), features(grad_query), features(grad_key),
            features(grad_value),
        )  # fmt: skip

    def nonlocal_attention(
        self, query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
        key_mask: Tensor | None, heads: int, scale: float, out: Tensor, lse: Tensor,
    ) -> None:  # fmt: skip
        places = self._places(query, query_mask, key, key_mask)
        self._call(
            "nonlocal_attention", query, features(query), features(key), features(value),
            *_pointers(places), heads, scale, features(out), lse.data_ptr(),
        )  # fmt: skip

    def nonlocal_attention_backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
        key_mask: Tensor | None, out: Tensor, lse: Tensor, heads: int, scale: float,
        grad_query: Tensor | None, grad_key: Tensor | None, grad_value: Tensor | None,
    ) -> None:  # fmt: skip
        places = self._places(query, query_mask, key, key_mask)
        inner = torch.empty_like(lse)
        self._call(
            "nonlocal_attention_backward", query, features(grad), features(query), features(key),
            features(value), *_pointers(places), features(out), lse.data_ptr(), heads, scale,
            inner.data_ptr(), features(grad_query), features(grad_key), features(grad_value),
        )  # fmt: skip

    def _places(
        self, query: Tensor, query_mask: Tensor | None, key: Tensor, key_mask: Tensor | None
    ) -> list[tuple[Tensor, Tensor]]:
        pairs = ((query, query_mask), (key, key_mask))
        return [set_positions(tensor, mask) for tensor, mask in pairs]

    def similarity_gate(
        self, theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor, out: Tensor
    ) -> None:
        self._call(
            "similarity_gate", theta, features(theta), features(phi), features(feature),
            _mask(mask), features(out),
        )  # fmt: skip

    def similarity_gate_backward(
        self, grad: Tensor, theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor,
        grad_theta: Tensor | None, grad_phi: Tensor | None, grad_feature: Tensor | None,
        grad_mask: Tensor | None,
    ) -> None:  # fmt: skip
        self._call(
            "similarity_gate_backward", theta, features(grad), features(theta), features(phi),
            features(feature), _mask(mask), features(grad_theta), features(grad_phi),
            features(grad_feature), features(grad_mask),
        )  # fmt: skip

    def gated_mean(
        self, neighbours: Tensor, own: Tensor, mask: Tensor, lists: int, out: Tensor
    ) -> None:
        self._call("gated_mean", own, stack(neighbours), features(own), _mask(mask), stack(out))

    def gated_mean_backward(
        self, grad: Tensor, neighbours: Tensor, own: Tensor, mask: Tensor,
        grad_neighbours: Tensor | None, grad_own: Tensor | None, grad_mask: Tensor | None,
    ) -> None:  # fmt: skip
        self._call(
            "gated_mean_backward", own, stack(grad), stack(neighbours), features(own),
            _mask(mask), stack(grad_neighbours), features(grad_own), features(grad_mask),
        )  # fmt: skip


def features(tensor: Tensor | None) -> tuple[int, ...] | None:
    """(pointer, dtype, n, c, h, w, stride n, c, h, w) for vharm::TensorView, or None."""
    if tensor is None:
        return None
    return (tensor.data_ptr(), DTYPE_CODES[tensor.dtype], *tensor.shape, *tensor.stride())


def stack(tensor: Tensor | None) -> tuple[int, ...] | None:
    """`features` of the first of each `[N,K,C,H,W]`, K and its stride, for vharm::StackView."""
    if tensor is None:
        return None
    (n, k, *shape), (sn, sk, *strides) = tensor.shape, tensor.stride()
    return (tensor.data_ptr(), DTYPE_CODES[tensor.dtype], n, *shape, sn, *strides, k, sk)


def set_positions(tensor: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The positions set in a mask: `[N,H*W]` int32, the set ones first and in order, and how many
    there are, `[N]` int32. Built where the mask is, without waiting for a GPU.
    """
    n, _, height, width = tensor.shape
    size = height * width
    if mask is None:
        places = torch.arange(size, dtype=torch.int32, device=tensor.device).expand(n, size)
        counts = torch.full((n,), size, dtype=torch.int32, device=tensor.device)
        return places.contiguous(), counts
    chosen = (mask.to(torch.int32) if mask.dtype == torch.uint16 else mask) > 0
    chosen = chosen.reshape(n, size)
    # A set position's place is the number of set ones before it; the others go behind the end.
    before = chosen.cumsum(1, dtype=torch.int64)
    image = torch.arange(n, device=tensor.device)[:, None] * (size + 1)
    place = torch.where(chosen, before - 1, size) + image
    own = torch.arange(size, dtype=torch.int32, device=tensor.device).expand(n, size)
    places = torch.zeros(n * (size + 1), dtype=torch.int32, device=tensor.device)
    places = places.scatter_(0, place.flatten(), own.flatten()).view(n, size + 1)
    return places[:, :size].contiguous(), before[:, -1].to(torch.int32)


def _pointers(places: list[tuple[Tensor, Tensor]]) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for pair in places for tensor in pair)


def _mask(mask: Tensor | None) -> tuple[float, ...] | None:
    return mask_view(mask, "NCHW", 1.0)


CPP = _Native("cpp")
CUDA = _Native("cuda")

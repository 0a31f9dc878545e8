# SPDX-License-Identifier: Apache-2.0
"""Masked attention over feature maps, and the similarity gates, with their gradients.

Feature maps are `[N,C,H,W]` of any strides, float32, float16 or bfloat16, all of one dtype; their
channels are cut into `heads` equal runs. Masks that select are `[N,1,H,W]`, bool, uint8, uint16 or
float, set where above 0, or None for all ones. `lse` and `inner` are `[N,heads,H,W]` float32,
contiguous. Every function fills its last arguments and returns nothing; sizes must not be zero.
All sums are taken in one order: results are the same on every run.

Bytes moved per set position: `neighborhood_attention` (2 DQ + 2 DV) s, the windows coming out of
the caches; `nonlocal_attention` reads all set keys once per 64 queries; `similarity_gate`
(2 C + 2 Cf) s and the mask; `gated_mean` (K + lists + 1) C s and the mask. Stacks are
`[N,K,C,H,W]`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from . import _attention_kernels as kernels
from . import _attention_nonlocal_kernels as pairs
from . import _gate_kernels as gates
from ._common import as_pointer, cut, full_scale, image_strides, on_device_of

_LOG2_E = 1.4426950408889634
_LARGEST_TILE = 4096  # samples of a head's tile, so that it stays in registers
_PIXELS = 256
_STACK_TILE = 2048  # samples of all channels: a backward program holds four such tiles


def neighborhood_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, key_mask: Tensor | None,
    window: int, heads: int, scale: float, out: Tensor, lse: Tensor,
) -> None:  # fmt: skip
    """Softmax attention to the window around each set position, zero elsewhere.

    Offsets run from `-(window // 2)` to `window - 1 - window // 2`. `out` is like `value`, `lse`
    holds the base-2 logarithm of each sum of exponentials.
    """
    shape, grid, given = _windows(query, value, mask, key_mask, window, heads)
    with on_device_of(query):
        kernels.window_kernel[grid](
            query, key, value, as_pointer(mask, query), as_pointer(key_mask, query), out, lse,
            scale * _LOG2_E, *shape, *_strides(query, key, value), *_mask_strides(mask, key_mask),
            *_strides(out), **given,
        )  # fmt: skip


def neighborhood_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    key_mask: Tensor | None, lse: Tensor, window: int, heads: int, scale: float, inner: Tensor,
    grad_query: Tensor | None, grad_key: Tensor | None, grad_value: Tensor | None,
) -> None:  # fmt: skip
    """Gradients of `neighborhood_attention`; `inner` is scratch, None is not wanted."""
    shape, grid, given = _windows(query, value, mask, key_mask, window, heads)
    masks = (as_pointer(mask, query), as_pointer(key_mask, query))
    strides = (*_strides(grad, query, key, value), *_mask_strides(mask, key_mask))
    wanted = [query if t is None else t for t in (grad_query, grad_key, grad_value)]
    with on_device_of(query):
        if grad_query is not None or grad_key is not None:
            kernels.window_query_kernel[grid](
                grad, query, key, value, *masks, lse, inner, wanted[0], scale * _LOG2_E, scale,
                *shape, *strides, *_strides(wanted[0]), NEED_QUERY=grad_query is not None, **given,
            )  # fmt: skip
        if grad_key is not None or grad_value is not None:
            kernels.window_key_kernel[grid](
                grad, query, key, value, *masks, lse, inner, *wanted[1:], scale * _LOG2_E, scale,
                *shape, *strides, *_strides(*wanted[1:]), NEED_KEY=grad_key is not None,
                NEED_VALUE=grad_value is not None, **given,
            )  # fmt: skip


def nonlocal_attention(
    query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
    key_mask: Tensor | None, heads: int, scale: float, out: Tensor, lse: Tensor,
) -> None:  # fmt: skip
    """Softmax attention of the set queries to all set keys of their image.

    Writes `out` `[N,Cv,H,W]` and `lse` at those queries only: they start out zero. Keys and values
    may have a size of their own.
    """
    places, sizes, given = _pairs(query, key, value, query_mask, key_mask, heads)
    with on_device_of(query):
        pairs.pairs_kernel[_tiles(query, heads, given)](
            query, key, value, *places, out, lse, scale * _LOG2_E, *sizes, heads,
            *_strides(query, key, value, out), **given,
        )  # fmt: skip


def nonlocal_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
    key_mask: Tensor | None, out: Tensor, lse: Tensor, heads: int, scale: float,
    grad_query: Tensor | None, grad_key: Tensor | None, grad_value: Tensor | None,
) -> None:  # fmt: skip
    """Gradients of `nonlocal_attention`, which start out zero; None is not wanted."""
    places, sizes, given = _pairs(query, key, value, query_mask, key_mask, heads)
    inner = torch.empty_like(lse)
    wanted = [query if t is None else t for t in (grad_query, grad_key, grad_value)]
    strides = _strides(grad, query, key, value)
    with on_device_of(query):
        pairs.pairs_query_kernel[_tiles(query, heads, given)](
            grad, query, key, value, *places, out, lse, inner, wanted[0], scale * _LOG2_E, scale,
            *sizes, heads, *strides, *_strides(out, wanted[0]), NEED_QUERY=grad_query is not None,
            **given,
        )  # fmt: skip
        if grad_key is not None or grad_value is not None:
            pairs.pairs_key_kernel[_tiles(key, heads, given)](
                grad, query, key, value, *places, lse, inner, *wanted[1:], scale * _LOG2_E, scale,
                *sizes, heads, *strides, *_strides(*wanted[1:]), NEED_KEY=grad_key is not None,
                NEED_VALUE=grad_value is not None, **given,
            )  # fmt: skip


def similarity_gate(theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor, out: Tensor) -> None:
    """`out = feature * (1 + M (A - 1))`, `A = sigmoid(sum_c theta_c * phi_c)`.

    `mask` is soft: integers full scale, floats in [0,1].
    """
    grid = _cut(feature, theta, phi, mask, out)
    feature_at, theta_at, phi_at, mask_at, out_at = grid.strides
    with on_device_of(theta):
        gates.gate_kernel[(theta.shape[0] * grid.parts,)](
            theta, phi, feature, as_pointer(mask, theta), out, theta.shape[1], feature.shape[1],
            *grid.shape, theta_at, phi_at, feature_at, mask_at, out_at,
            MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip


def similarity_gate_backward(
    grad: Tensor, theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor,
    grad_theta: Tensor | None, grad_phi: Tensor | None, grad_feature: Tensor | None,
    grad_mask: Tensor | None,
) -> None:  # fmt: skip
    """Gradients of `similarity_gate`; None is not wanted."""
    grads = (grad_theta, grad_phi, grad_feature, grad_mask)
    wanted = [theta if t is None else t for t in grads]
    grid = _cut(feature, grad, theta, phi, mask, *wanted)
    feature_at, grad_at, theta_at, phi_at, mask_at, *wanted_at = grid.strides
    with on_device_of(theta):
        gates.gate_backward_kernel[(theta.shape[0] * grid.parts,)](
            grad, theta, phi, feature, as_pointer(mask, theta), *wanted, theta.shape[1],
            feature.shape[1], *grid.shape, grad_at, theta_at, phi_at, feature_at, mask_at,
            *wanted_at, NEED_THETA=grad_theta is not None, NEED_PHI=grad_phi is not None,
            NEED_FEATURE=grad_feature is not None, NEED_MASK=grad_mask is not None,
            MASK_SCALE=full_scale(mask), BLOCK=grid.block,
        )  # fmt: skip


def gated_mean(neighbours: Tensor, own: Tensor, mask: Tensor, lists: int, out: Tensor) -> None:
    """`out_l` is the mean of `w_k (1 + M (A_k - 1))`, `A_k = sigmoid(sum_c w_kc * own_c)`.

    `neighbours` w are `[N,K,C,H,W]`, K a multiple of `lists`, `out` `[N,lists,C,H,W]`.
    """
    firsts = (own, neighbours[:, 0], mask, out[:, 0])
    grid, sizes, given = _stacks(neighbours, lists, mask, firsts)
    own_at, neighbours_at, mask_at, out_at = grid.strides
    with on_device_of(own):
        gates.mean_kernel[(own.shape[0] * grid.parts,)](
            neighbours, own, as_pointer(mask, own), out, *sizes, *grid.shape, neighbours_at,
            own_at, mask_at, out_at, neighbours.stride(1), out.stride(1), **given,
        )  # fmt: skip


def gated_mean_backward(
    grad: Tensor, neighbours: Tensor, own: Tensor, mask: Tensor,
    grad_neighbours: Tensor | None, grad_own: Tensor | None, grad_mask: Tensor | None,
) -> None:  # fmt: skip
    """Gradients of `gated_mean`; None is not wanted."""
    to = neighbours if grad_neighbours is None else grad_neighbours
    others = [own if t is None else t for t in (grad_own, grad_mask)]
    firsts = (own, grad[:, 0], neighbours[:, 0], mask, to[:, 0], *others)
    grid, sizes, given = _stacks(neighbours, grad.shape[1], mask, firsts)
    own_at, grad_at, neighbours_at, mask_at, *wanted_at = grid.strides
    with on_device_of(own):
        gates.mean_backward_kernel[(own.shape[0] * grid.parts,)](
            grad, neighbours, own, as_pointer(mask, own), to, *others, *sizes, *grid.shape,
            grad_at, neighbours_at, own_at, mask_at, *wanted_at, grad.stride(1),
            neighbours.stride(1), to.stride(1), NEED_NEIGHBOURS=grad_neighbours is not None,
            NEED_OWN=grad_own is not None, NEED_MASK=grad_mask is not None, **given,
        )  # fmt: skip


def _stacks(
    neighbours: Tensor, lists: int, mask: Tensor, firsts: tuple[Tensor, ...]
) -> tuple[Any, tuple[int, ...], dict[str, Any]]:
    """Grid, scalar arguments and constants of the stacks' kernels."""
    _, count, channels, height, width = neighbours.shape
    padded = triton.next_power_of_2(max(channels, 1))
    views = [image_strides(t, False) for t in firsts]
    grid = cut(height, width, views, max(16, _STACK_TILE // padded))
    given = {"CHANNELS": padded, "MASK_SCALE": full_scale(mask), "BLOCK": grid.block}
    return grid, (channels, lists, count // lists), given


def _cut(first: Tensor, *others: Tensor) -> Any:
    views = [image_strides(t, False) for t in (first, *others)]
    return cut(*first.shape[2:], views, _PIXELS)


def _strides(*tensors: Tensor) -> list[tuple[int, ...]]:
    return [image_strides(t, False) for t in tensors]


def _mask_strides(*masks: Tensor | None) -> list[tuple[int, ...]]:
    return [(0, 0, 0, 0) if m is None else image_strides(m, False) for m in masks]


def _channels(query: Tensor, value: Tensor, heads: int, least: int) -> dict[str, int]:
    """A head's channels, and the powers of two that hold them."""
    dq, dv = query.shape[1] // heads, value.shape[1] // heads
    padded = [max(least, triton.next_power_of_2(d)) for d in (dq, dv)]
    return {"DQ": dq, "PQ": padded[0], "DV": dv, "PV": padded[1]}


def _windows(
    query: Tensor, value: Tensor, mask: Tensor | None, key_mask: Tensor | None, window: int,
    heads: int,
) -> tuple[tuple[int, ...], tuple[int], dict[str, Any]]:  # fmt: skip
    """Scalar arguments, grid and constants of the neighbourhood kernels."""
    n, _, height, width = query.shape
    given: dict[str, Any] = _channels(query, value, heads, 1)
    block = max(16, min(128, _LARGEST_TILE // max(given["PQ"], given["PV"])))
    block = min(block, max(16, triton.next_power_of_2(width)))
    blocks = triton.cdiv(width, block)
    given |= {"WINDOW": window, "HAS_MASK": mask is not None,
              "HAS_KEY_MASK": key_mask is not None, "BLOCK": block}  # fmt: skip
    return (height, width, blocks, heads), (n * heads * height * blocks,), given


def _pairs(
    query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
    key_mask: Tensor | None, heads: int,
) -> tuple[list[Tensor], tuple[int, ...], dict[str, Any]]:  # fmt: skip
    """Positions of both sides, scalar arguments, and constants of the pairs' kernels."""
    places = [*_positions(query, query_mask), *_positions(key, key_mask)]
    given: dict[str, Any] = _channels(query, value, heads, 16)
    wide = max(given["PQ"], given["PV"])
    given |= {"BLOCK": 64 if wide <= 64 else 32, "OTHER": 64 if wide <= 64 else 32}
    (h, w), (hk, wk) = query.shape[2:], key.shape[2:]
    return places, (h * w, w, hk * wk, wk), given


def _tiles(tensor: Tensor, heads: int, given: dict[str, Any]) -> tuple[int, int]:
    n, _, height, width = tensor.shape
    return triton.cdiv(height * width, given["BLOCK"]), n * heads


def _positions(tensor: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """`[N,H*W]` int32, the set ones first and in order; and how many are set, `[N]` int32."""
    n, _, height, width = tensor.shape
    if mask is None:
        mask = torch.ones(n, 1, height, width, dtype=torch.bool, device=tensor.device)
    chosen = (mask.to(torch.int32) if mask.dtype == torch.uint16 else mask) > 0
    chosen = chosen.reshape(n, height * width)
    index = torch.argsort(chosen.logical_not().to(torch.uint8), dim=1, stable=True)
    return index.to(torch.int32), chosen.sum(1, dtype=torch.int32)

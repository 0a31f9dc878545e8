# SPDX-License-Identifier: Apache-2.0
"""Masked attention over feature maps: a window around each position, all pairs, and gates.

Bytes moved per position by the fused kernels, with s bytes a sample, Cq query and key channels and
Cv value channels: `neighborhood_attention` (2 Cq + 2 Cv) s and 4 B per head and the masks, where
the mask is set; windows are read again from the cache. `nonlocal_attention` reads every key and
value once per tile of queries. `similarity_gate` (2 C + 2 Cf) s and the mask; `gated_mean`
(K + lists + 1) C s and the mask, its gradients 2 (K + 1) C s + lists C s. No score matrix is ever
in memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _attention_library, _backends, _check
from .reference import attention as reference

MAX_WINDOW = MAX_LISTS = 1 << 15


def neighborhood_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *,
    key_mask: Tensor | None = None, window: int = 4, heads: int = 1, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """Every set position attends to the positions in a square window around it.

    `out_i = sum_j softmax_j(scale * query_i . key_j) value_j` over the admissible j: offsets of
    -window/2 to window/2 - 1 along both axes for even windows, -(window-1)/2 to (window-1)/2 for
    odd ones; inside the image; set in `key_mask`. The softmax is taken in float32.

    Args:
        query: `[N,Cq,H,W]`, float32, float16, bfloat16 (float64 on the reference).
        key: `[N,Cq,H,W]`, the query's dtype.
        value: `[N,Cv,H,W]`, the query's dtype.
        mask: `[N,1,H,W]`, bool, uint8, uint16 or float: positions above 0 are computed, the others
            are zero and cost next to nothing. None means all.
        key_mask: `[N,1,H,W]`, same dtypes: only positions above 0 are attended to. None means all.
        window: side of the window in pixels, at least 1. Up to 15 the working set of a CPU thread
            stays in its caches, and up to 13 that of a CUDA block in shared memory; larger windows
            are right, slower, and on the CPU take scratch memory that grows with the window (a
            tile's rim, and `2 * window**2` vectors a thread).
        heads: the channels are cut into this many equal runs, each with a softmax of its own.
        scale: None is 1/sqrt(Cq/heads); the nonlocal blocks of SPEC section 3 pass 1.0.

    Returns:
        `[N,Cv,H,W]`, the query's dtype; zero where the mask is not set or no key is admissible
        (those positions get and give no gradient). Gradients to query, key and value,
        deterministic; the masks only select, and one that requires a gradient is an error.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: the q x q neighbourhoods of Liu et al., Non-Local Recurrent Network for Image
    Restoration, NeurIPS 2018.
    """
    op = "neighborhood_attention"
    n, height, width = _features(op, query, "query")
    _like(op, "key", key, query, (n, query.shape[1], height, width))
    _like(op, "value", value, query, (n, "Cv", height, width))
    mask = _selection(op, "mask", mask, (n, height, width), query.device)
    key_mask = _selection(op, "key_mask", key_mask, (n, height, width), query.device)
    _integer(op, "window", window, MAX_WINDOW)
    scale = _heads_and_scale(op, query, value, heads, scale)
    chosen = _backends.choose(op, query.device, query.dtype)
    if chosen == "reference":
        out = reference.neighborhood_attention(
            _wide(query), _wide(key), _wide(value), _above_zero(mask), _above_zero(key_mask),
            window, heads, scale,
        )  # fmt: skip
        return out.to(query.dtype)
    return _attention_library.neighborhood_attention(
        query, key, value, mask, key_mask, window, heads, scale, chosen
    )[0]


def nonlocal_attention(
    query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None,
    key_mask: Tensor | None, *, heads: int = 1, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """Every set position attends to all positions set in `key_mask` of the same image.

    `out_i = sum_j softmax_j(scale * query_i . key_j) value_j`. Time goes with the number of set
    queries times that of set keys; memory with neither: tiles of scores are made and consumed with
    a running maximum, and made again for the gradients.

    Args:
        query: `[N,Cq,H,W]`, float32, float16, bfloat16 (float64 on the reference).
        key: `[N,Cq,Hk,Wk]`, the query's dtype; the size may differ from the query's.
        value: `[N,Cv,Hk,Wk]`, the query's dtype.
        query_mask: `[N,1,H,W]`, bool, uint8, uint16 or float: set where above 0; None means all.
        key_mask: `[N,1,Hk,Wk]`, likewise.
        heads: the channels are cut into this many equal runs, each with a softmax of its own.
        scale: None is 1/sqrt(Cq/heads).

    Returns:
        `[N,Cv,H,W]`, the query's dtype; zero where query_mask is not set or an image has no keys.
        Gradients to query, key and value, deterministic; the masks only select, and one that
        requires a gradient is an error.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Wang et al., Non-local Neural Networks, CVPR 2018; running softmax after Milakov and
    Gimelshein, Online normalizer calculation for softmax, 2018.
    """
    op = "nonlocal_attention"
    n, height, width = _features(op, query, "query")
    _like(op, "key", key, query, (n, query.shape[1], "Hk", "Wk"))
    _like(op, "value", value, query, (n, "Cv", *key.shape[2:]))
    query_mask = _selection(op, "query_mask", query_mask, (n, height, width), query.device)
    key_mask = _selection(op, "key_mask", key_mask, (n, *key.shape[2:]), query.device)
    scale = _heads_and_scale(op, query, value, heads, scale)
    chosen = _backends.choose(op, query.device, query.dtype)
    if chosen == "reference":
        out = reference.nonlocal_attention(
            _wide(query), _wide(key), _wide(value), _above_zero(query_mask),
            _above_zero(key_mask), heads, scale,
        )  # fmt: skip
        return out.to(query.dtype)
    return _attention_library.nonlocal_attention(
        query, key, value, query_mask, key_mask, heads, scale, chosen
    )[0]


def similarity_gate(theta: Tensor, phi: Tensor, feature: Tensor, mask: Tensor) -> Tensor:
    """Lets features through in the foreground as far as two embeddings agree.

    `A = sigmoid(sum_c theta_c * phi_c)` per pixel, `out = M*feature*A + (1 - M)*feature`.

    Args:
        theta: embedding of the warped features `[N,C,H,W]`, float32, float16, bfloat16 (float64
            on the reference).
        phi: embedding of the current features, like theta.
        feature: the warped features `[N,Cf,H,W]`, theta's dtype.
        mask: M, `[N,1,H,W]`, bool, uint8/uint16 full scale, or float in [0,1] (clamped).

    Returns:
        A tensor like `feature`. Gradients to theta, phi, feature and a float mask (none where
        the mask is outside [0,1]).

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: the foreground temporal aggregator of SPEC section 3.
    """
    op = "similarity_gate"
    n, height, width = _features(op, theta, "theta")
    _like(op, "phi", phi, theta, (n, theta.shape[1], height, width))
    _like(op, "feature", feature, theta, (n, "Cf", height, width))
    _check.mask(op, mask, (n, height, width), "NCHW", theta.device)
    chosen = _backends.choose(op, theta.device, theta.dtype)
    if chosen == "reference":
        soft = mask.to(_wide(theta).dtype) / _check.full_scale(mask.dtype)
        out = reference.similarity_gate(_wide(theta), _wide(phi), _wide(feature), soft.clamp(0, 1))
        return out.to(theta.dtype)
    if mask.dtype == torch.float64:
        mask = mask.float()
    return _attention_library.similarity_gate(theta, phi, feature, mask, chosen)


def gated_mean(neighbours: Tensor, own: Tensor, mask: Tensor, *, lists: int = 1) -> Tensor:
    """Means of neighbours' features, let through in the foreground as far as they agree with own.

    `A_k = sigmoid(sum_c w_kc * own_c)` per pixel, `out_l = mean_k (M*w_k*A_k + (1 - M)*w_k)` over
    the neighbours w_k of list l. What `own` holds where M is 0 does not matter, and there every
    neighbour counts as it is.

    Args:
        neighbours: w, `[N,K,C,H,W]`, warped to the current frame, float32, float16, bfloat16
            (float64 on the reference). K is at least 1.
        own: embedding of the current features `[N,C,H,W]`, the neighbours' dtype. An embedding T
            of the neighbours belongs into it: `(T w) . p = w . (T' p)`.
        mask: M, `[N,1,H,W]`, bool, uint8/uint16 full scale, or float in [0,1] (clamped).
        lists: the neighbours are cut into this many equal runs, each with a mean of its own, such
            as the past and the future.

    Returns:
        `[N,lists,C,H,W]`, the neighbours' dtype. Gradients to neighbours, own and a float mask
        (none where the mask is outside [0,1]), deterministic.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: X. Chen et al., Deep Video Harmonization by Improving Spatial-temporal Consistency,
    MIR 2024, section 3.4, equations 2 and 3, and the mean over each direction.
    """
    op = "gated_mean"
    _check.has_dtype(op, "neighbours", neighbours, _check.FLOAT_DTYPES)
    _check.has_shape(op, "neighbours", neighbours, ("N", "K", "C", "H", "W"))
    n, count, channels, height, width = neighbours.shape
    _like(op, "own", own, neighbours, (n, channels, height, width))
    _check.mask(op, mask, (n, height, width), "NCHW", neighbours.device)
    _integer(op, "lists", lists, MAX_LISTS)
    if count == 0 or count % lists:
        raise ValueError(
            f"{op}: neighbours must be a positive number that divides into {lists} lists, "
            f"got {count}"
        )
    chosen = _backends.choose(op, neighbours.device, neighbours.dtype)
    if chosen == "reference":
        soft = mask.to(_wide(own).dtype) / _check.full_scale(mask.dtype)
        out = reference.gated_mean(_wide(neighbours), _wide(own), soft.clamp(0, 1), lists)
        return out.to(neighbours.dtype)
    if mask.dtype == torch.float64:
        mask = mask.float()
    return _attention_library.gated_mean(neighbours, own, mask, lists, chosen)


def _features(op: str, tensor: Tensor, name: str) -> tuple[int, int, int]:
    """Checks a feature map and returns (n, height, width)."""
    _check.has_dtype(op, name, tensor, _check.FLOAT_DTYPES)
    _check.has_shape(op, name, tensor, ("N", "C", "H", "W"))
    n, _, height, width = tensor.shape
    return n, height, width


def _like(op: str, name: str, tensor: Tensor, leader: Tensor, shape: tuple[int | str, ...]) -> None:
    _check.has_dtype(op, name, tensor, (leader.dtype,))
    _check.has_shape(op, name, tensor, shape)
    _check.on_device(op, name, tensor, leader.device)


def _selection(
    op: str, name: str, mask: Tensor | None, size: tuple[int, int, int], device: torch.device
) -> Tensor | None:
    if mask is None:
        return None
    _check.mask(op, mask, size, "NCHW", device, name=name)
    if mask.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{op}: {name} must not require a gradient; it only selects positions. Detach it"
        )
    return mask > 0 if mask.dtype == torch.float64 else mask


def _integer(op: str, name: str, number: int, largest: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{op}: {name} must be an int, got {type(number).__name__}")
    if not 1 <= number <= largest:
        raise ValueError(f"{op}: {name} must be 1 to {largest}, got {number}")


def _heads_and_scale(
    op: str, query: Tensor, value: Tensor, heads: int, scale: float | None
) -> float:
    _integer(op, "heads", heads, 1 << 15)
    for name, tensor in (("query", query), ("value", value)):
        channels = tensor.shape[1]
        if channels % heads or channels == 0:
            raise ValueError(
                f"{op}: {name} must have channels that divide into {heads} heads, got {channels}"
            )
    if scale is None:
        return 1 / math.sqrt(query.shape[1] // heads)
    if not isinstance(scale, (int, float)) or isinstance(scale, bool):
        raise TypeError(f"{op}: scale must be a number or None, got {type(scale).__name__}")
    if not math.isfinite(scale):
        raise ValueError(f"{op}: scale must be finite, got {scale}")
    return float(scale)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _above_zero(mask: Tensor | None) -> Tensor | None:
    if mask is None or mask.dtype == torch.bool:
        return mask
    # uint16 has no comparison of its own.
    return (mask.to(torch.int32) if mask.dtype == torch.uint16 else mask) > 0

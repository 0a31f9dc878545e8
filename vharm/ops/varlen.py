# SPDX-License-Identifier: Apache-2.0
"""Self-attention over packed sequences of different lengths, by what torch has for the device.

No kernel of its own: flash attention over packed sequences and scaled_dot_product_attention are as
good as it gets. For L tokens in a sequence the work is 4 L^2 heads D per sequence, forward.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _backends, _check
from ._library import define
from .reference import tokens as reference

_FLASH_DTYPES = (torch.float16, torch.bfloat16)
_FLASH_DIM = 256


def _why_not_flash(request: _backends.Request) -> str | None:
    if request.device.type != "cuda":
        return f"runs on CUDA tensors; these are on {request.device}"
    if request.dtype not in _FLASH_DTYPES:
        return f"runs in float16 and bfloat16; the tensors are {request.dtype}"
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen; 2.10 has"
    if torch.cuda.get_device_capability(request.device)[0] < 8:
        return "needs a GPU of compute capability 8.0 or later"
    return None


def _why_not_nested(request: _backends.Request) -> str | None:
    if request.device.type != "cuda":
        return "padding-free attention on jagged tensors is fast on CUDA only"
    return None


_backends.register(
    "varlen_attention",
    (
        _backends.Candidate("flash", _why_not_flash),
        _backends.Candidate("nested", _why_not_nested),
        _backends.Candidate("sdpa", lambda request: None),
        _backends.Candidate("reference", lambda request: None),
    ),
)


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, *,
    max_seqlen: int | None = None, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """Softmax attention in which each token sees the tokens of its own sequence.

    Args:
        query: `[K, heads, D]`, float; the sequences of `pack_patches` or `pack_tokens` behind one
            another.
        key: like `query`.
        value: like `query`.
        cu_seqlens: int32 or int64 `[S+1]`, from 0 to K, never falling; sequences may be empty.
        max_seqlen: length of the longest sequence, or more. Used on a GPU, where None means that
            the call waits for the device to learn it.
        scale: factor of the scores; None is 1/sqrt(D).

    Returns:
        `[K, heads, D]`. Gradients flow to query, key and value.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    `vharm.ops.explain()` says what runs: "flash" (torch.nn.attention.varlen), "nested" (attention
    on jagged tensors), "sdpa" (sequences of one length together) or "reference" (one matrix of all
    scores, the others masked). Of these only "reference" can be asked for by name. Under
    torch.compile "sdpa" is one opaque op, whose gradient holds one sequence's scores at a time.
    """
    op = "varlen_attention"
    _check.has_dtype(op, "query", query, _check.FLOAT_DTYPES)
    _check.has_shape(op, "query", query, ("K", "heads", "D"))
    for name, tensor in (("key", key), ("value", value)):
        _check.has_dtype(op, name, tensor, (query.dtype,))
        _check.has_shape(op, name, tensor, tuple(query.shape))
        if tensor.device != query.device:
            raise ValueError(f"{op}: {name} must be on {query.device}, got {tensor.device}")
    _check.cu_seqlens(op, cu_seqlens, query)
    if max_seqlen is not None and max_seqlen < 0:
        raise ValueError(f"{op}: max_seqlen must not be negative, got {max_seqlen}")
    scale = 1 / math.sqrt(max(query.shape[2], 1)) if scale is None else float(scale)
    chosen = _backends.choose(op, query.device, query.dtype)
    if chosen == "reference":
        return reference.varlen_attention(query, key, value, cu_seqlens, scale)
    if chosen == "flash" and query.shape[2] > _FLASH_DIM:
        chosen = "nested"
    if chosen == "sdpa":
        run = _sdpa_op if torch.compiler.is_compiling() else _by_sdpa
        return run(query, key, value, cu_seqlens, scale)
    if max_seqlen is None:
        max_seqlen = int(cu_seqlens.diff().max()) if cu_seqlens.shape[0] > 1 else 0
    run = _by_flash if chosen == "flash" else _by_nested
    return run(query, key, value, cu_seqlens, max_seqlen, scale)


def _by_flash(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, longest: int, scale: float
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    dim, bounds = query.shape[2], cu_seqlens.to(torch.int32)
    if extra := -dim % 8:  # zeros change no score and are cut off again
        query, key, value = (F.pad(t, (0, extra)) for t in (query, key, value))
    out = varlen_attn(query, key, value, bounds, bounds, longest, longest, scale=scale)
    return out[..., :dim]


def _by_nested(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, longest: int, scale: float
) -> Tensor:
    if query.shape[0] == 0:
        return query + key + value  # nothing, but of all three
    offsets = cu_seqlens.to(torch.int64)
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(t, offsets, max_seqlen=longest).transpose(1, 2)
        for t in (query, key, value)
    )
    out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return out.transpose(1, 2).values()


def _by_sdpa(query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scale: float) -> Tensor:
    """Sequences of one length are a batch."""
    bounds = cu_seqlens.tolist()
    groups: dict[int, list[int]] = defaultdict(list)
    for begin, end in itertools.pairwise(bounds):
        if end > begin:
            groups[end - begin].append(begin)
    if not groups:
        return query + key + value  # nothing, but of all three
    pieces, rows = [], []
    for length, begins in groups.items():
        if len(begins) == 1:
            at = slice(begins[0], begins[0] + length)
            where = torch.arange(at.start, at.stop, device=query.device)
        else:
            first = torch.tensor(begins, device=query.device)
            at = where = (first[:, None] + torch.arange(length, device=query.device)).flatten()
        q, k, v = (
            t[at].unflatten(0, (len(begins), length)).transpose(1, 2) for t in (query, key, value)
        )
        out = F.scaled_dot_product_attention(q, k, v, scale=scale)
        pieces.append(out.transpose(1, 2).flatten(0, 1))
        rows.append(where)
    together = torch.cat(pieces)
    if len(groups) == 1:
        return together  # in order already
    return torch.zeros_like(together).index_copy(0, torch.cat(rows), together)


def _sdpa_run(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scale: float
) -> Tensor:
    return _by_sdpa(query, key, value, cu_seqlens, scale).contiguous()


def _sdpa_backward_run(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    # Autograd is not at hand below the dispatcher: the softmax's gradient by hand.
    wide = torch.promote_types(query.dtype, torch.float32)
    grads = tuple(t.new_empty(t.shape) for t in (query, key, value))
    bounds = cu_seqlens.tolist()
    for begin, end in itertools.pairwise(bounds):
        q, k, v, g = (t[begin:end].transpose(0, 1).to(wide) for t in (query, key, value, grad))
        weights = (scale * q @ k.transpose(1, 2)).softmax(-1)
        slopes = g @ v.transpose(1, 2)
        slopes = scale * weights * (slopes - (slopes * weights).sum(-1, keepdim=True))
        found = (slopes @ k, slopes.transpose(1, 2) @ q, weights.transpose(1, 2) @ g)
        for to, part in zip(grads, found, strict=True):
            to[begin:end] = part.transpose(0, 1).to(to.dtype)
    return grads


def _sdpa_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.scale = inputs[4]


def _sdpa_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return (*_sdpa_backward_op(grad, *ctx.saved_tensors, ctx.scale), None, None)


_sdpa_backward_op = define(
    "varlen_sdpa_backward(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor cu_seqlens, "
    "float scale) -> (Tensor, Tensor, Tensor)",
    _sdpa_backward_run,
    lambda grad, q, k, v, *rest: tuple(t.new_empty(t.shape) for t in (q, k, v)),
)
_sdpa_op = define(
    "varlen_sdpa(Tensor query, Tensor key, Tensor value, Tensor cu_seqlens, float scale) -> Tensor",
    _sdpa_run,
    lambda query, *rest: query.new_empty(query.shape),
    backward=_sdpa_backward,
    setup_context=_sdpa_setup,
)

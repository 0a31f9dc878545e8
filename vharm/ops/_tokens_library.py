# SPDX-License-Identifier: Apache-2.0
"""The tokens' `torch.library` ops: from schema to the backend's kernel, with gradients.

Packing and unpacking are each other's gradients, so a backend is a module (or object) with four
functions: `foreground_patches`, `pack` (pixels to tokens, optionally times the mask), `unpack`
(tokens, or none for zeros, over an image, or none for zeros, optionally blended by the mask) and
`mask_gradient`. `slots` `[N*P]` says for each patch which token it takes, -1 for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _backends, _tokens_native
from ._library import define, define_out
from ._native import prefault, why_not_cpp, why_not_cuda
from ._triton import triton_module, why_not_triton
from .reference import tokens as reference

CANDIDATES = (
    _backends.Candidate("cuda", why_not_cuda),
    _backends.Candidate("triton", why_not_triton),
    _backends.Candidate("cpp", why_not_cpp),
    _backends.Candidate("reference", lambda request: None),
)
OPS = ("foreground_patches", "pack_patches", "unpack_patches", "pack_tokens", "unpack_tokens")
for _op in OPS:
    _backends.register(_op, CANDIDATES)


def _kernels(backend: str) -> Any:
    """What fills given outputs for this backend."""
    if backend == "triton":
        return triton_module("tokens")
    return _tokens_native.CPP if backend == "cpp" else _tokens_native.CUDA


def _slots(index: Tensor, patches: int) -> Tensor:
    """For each patch the token it takes, or -1."""
    if index.device.type == "cpu":
        return torch.from_numpy(_slots_cpu(index.numpy(), patches))
    # Slot 0 is for the places of a `count` that was too large: their number is -1.
    slots = index.new_full((patches + 1,), -1)
    slots[index + 1] = torch.arange(index.shape[0], device=index.device)
    return slots[1:]


# numpy for a few thousand numbers: torch would share them out over its threads, and where the
# machine has other work, waiting for the slowest takes longer than everything else here.


def _slots_cpu(index: np.ndarray, patches: int) -> np.ndarray:
    if index.size and (index.min() < 0 or index.max() >= patches):
        raise IndexError(
            f"unpack_patches: index must lie in [0, {patches}); got {index.min()} to {index.max()}"
        )
    slots = np.full(patches, -1)
    slots[index] = np.arange(index.size)
    return slots


def _index_cpu(keep: np.ndarray, frames_per_clip: int) -> tuple[Tensor, Tensor]:
    index = np.flatnonzero(keep).astype(np.int64, copy=False)
    cu_seqlens = np.zeros(keep.shape[0] // frames_per_clip + 1, np.int32)
    per_frame = np.count_nonzero(keep, axis=1).reshape(-1, frames_per_clip)
    cu_seqlens[1:] = per_frame.sum(1).cumsum()
    return torch.from_numpy(index), torch.from_numpy(cu_seqlens)


def _channels(size: Sequence[int], nhwc: bool) -> int:
    return size[3] if nhwc else size[1]


def _patches(size: Sequence[int], patch: int, nhwc: bool) -> int:
    height, width = (size[1], size[2]) if nhwc else (size[2], size[3])
    return size[0] * (height // patch) * (width // patch)


# foreground_patches ------------------------------------------------------------------------------


def _foreground_run(mask: Tensor, patch: int, nhwc: bool, backend: str) -> Tensor:
    out = _foreground_fake(mask, patch, nhwc, backend)
    if out.numel():
        _kernels(backend).foreground_patches(mask, patch, nhwc, out)
    return out


def _foreground_fake(mask: Tensor, patch: int, nhwc: bool, backend: str) -> Tensor:
    n = mask.shape[0]
    height, width = mask.shape[1:3] if nhwc else mask.shape[2:]
    return mask.new_empty((n, (height // patch) * (width // patch)), dtype=torch.bool)


foreground_patches = define(
    "foreground_patches(Tensor mask, int patch, bool nhwc, str backend) -> Tensor",
    _foreground_run,
    _foreground_fake,
)


# patch_index -------------------------------------------------------------------------------------


def _index_run(keep: Tensor, frames_per_clip: int, count: int | None) -> tuple[Tensor, Tensor]:
    if keep.device.type == "cpu":
        index, cu_seqlens = _index_cpu(keep.numpy(), frames_per_clip)
        if count is not None and count != index.shape[0]:
            raise ValueError(f"count must be keep.sum() = {index.shape[0]}; got {count}")
        return index, cu_seqlens
    if count is None:
        return reference.patch_index(keep, frames_per_clip)
    counts = keep.reshape(keep.shape[0] // frames_per_clip, -1).sum(1)
    index = torch.nonzero_static(keep.flatten(), size=count)[:, 0]
    return index, reference.bounds(counts).clamp(max=count)


def _index_fake(keep: Tensor, frames_per_clip: int, count: int | None) -> tuple[Tensor, Tensor]:
    if count is None:
        count = torch.library.get_ctx().new_dynamic_size()
    return (
        keep.new_empty((count,), dtype=torch.int64),
        keep.new_empty((keep.shape[0] // frames_per_clip + 1,), dtype=torch.int32),
    )


patch_index = define(
    "patch_index(Tensor keep, SymInt frames_per_clip, SymInt? count) -> (Tensor, Tensor)",
    _index_run,
    _index_fake,
)


# pack_patches ------------------------------------------------------------------------------------


def _pack_run(
    image: Tensor, index: Tensor, patch: int, nhwc: bool, dtype: torch.dtype, backend: str
) -> Tensor:
    tokens = _pack_fake(image, index, patch, nhwc, dtype, backend)
    if backend == "cpp":
        prefault(tokens)
    _pack_into(image, index, patch, nhwc, tokens, backend)
    return tokens


def _pack_into(
    image: Tensor, index: Tensor, patch: int, nhwc: bool, out: Tensor, backend: str
) -> None:
    if out.numel():
        _kernels(backend).pack(image, index.contiguous(), None, patch, nhwc, out)


def _pack_fake(
    image: Tensor, index: Tensor, patch: int, nhwc: bool, dtype: torch.dtype, backend: str
) -> Tensor:
    width = patch * patch * _channels(image.shape, nhwc)
    return image.new_empty((index.shape[0], width), dtype=dtype)


def _pack_backward_run(
    grad: Tensor, index: Tensor, size: Sequence[int], patch: int, nhwc: bool, dtype: torch.dtype,
    backend: str,
) -> Tensor:  # fmt: skip
    out = grad.new_empty(size, dtype=dtype)
    if backend == "cpp":
        prefault(out)
    if out.numel():
        slots = _slots(index, _patches(size, patch, nhwc))
        _kernels(backend).unpack(grad.contiguous(), slots, None, None, patch, nhwc, out)
    return out


def _pack_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, index, ctx.patch, ctx.nhwc, _, ctx.backend = inputs
    ctx.save_for_backward(index)
    ctx.size, ctx.dtype = image.shape, image.dtype


def _pack_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (index,) = ctx.saved_tensors
    found = _pack_backward_op(grad, index, ctx.size, ctx.patch, ctx.nhwc, ctx.dtype, ctx.backend)
    return found, None, None, None, None, None


_pack_backward_op = define(
    "pack_patches_backward(Tensor grad, Tensor index, SymInt[] size, int patch, bool nhwc, "
    "ScalarType dtype, str backend) -> Tensor",
    _pack_backward_run,
    lambda grad, index, size, patch, nhwc, dtype, backend: grad.new_empty(size, dtype=dtype),
)
pack_patches = define(
    "pack_patches(Tensor image, Tensor index, int patch, bool nhwc, ScalarType dtype, "
    "str backend) -> Tensor",
    _pack_run,
    _pack_fake,
    backward=_pack_backward,
    setup_context=_pack_setup,
)
pack_patches_out = define_out(
    "pack_patches_out(Tensor image, Tensor index, int patch, bool nhwc, Tensor(a!) out, "
    "str backend) -> ()",
    _pack_into,
)


# unpack_patches ----------------------------------------------------------------------------------


def _unpack_run(
    tokens: Tensor, index: Tensor, image: Tensor, mask: Tensor | None, patch: int, nhwc: bool,
    backend: str,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(image)
    if backend == "cpp":
        prefault(out)
    _unpack_into(tokens, index, image, mask, patch, nhwc, out, backend)
    return out


def _unpack_into(
    tokens: Tensor, index: Tensor, image: Tensor, mask: Tensor | None, patch: int, nhwc: bool,
    out: Tensor, backend: str,
) -> None:  # fmt: skip
    if out.numel():
        slots = _slots(index, _patches(image.shape, patch, nhwc))
        _kernels(backend).unpack(tokens.contiguous(), slots, image, mask, patch, nhwc, out)


def _unpack_backward_run(
    grad: Tensor, tokens: Tensor | None, index: Tensor, image: Tensor | None, mask: Tensor | None,
    patch: int, nhwc: bool, dtype: torch.dtype, need_tokens: bool, need_image: bool,
    need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    grads = _unpack_backward_fake(
        grad, tokens, index, image, mask, patch, nhwc, dtype, need_tokens, need_image, need_mask,
        backend,
    )  # fmt: skip
    if backend == "cpp":
        prefault(*grads)
    kernels, index = _kernels(backend), index.contiguous()
    if need_tokens and grads[0].numel():
        kernels.pack(grad, index, mask, patch, nhwc, grads[0])
    if need_image and grad.numel():
        slots = _slots(index, _patches(grad.shape, patch, nhwc))
        kernels.unpack(None, slots, grad, mask, patch, nhwc, grads[1])
    if need_mask:
        grads[2].zero_()
        if index.numel() and grad.numel():
            assert tokens is not None
            assert image is not None
            kernels.mask_gradient(
                grad, tokens.contiguous(), index, image, mask, patch, nhwc, grads[2]
            )
    return grads


def _unpack_backward_fake(
    grad: Tensor, tokens: Tensor | None, index: Tensor, image: Tensor | None, mask: Tensor | None,
    patch: int, nhwc: bool, dtype: torch.dtype, need_tokens: bool, need_image: bool,
    need_mask: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    width = patch * patch * _channels(grad.shape, nhwc)
    return (
        grad.new_empty((index.shape[0], width) if need_tokens else (0,), dtype=dtype),
        torch.empty_like(grad) if need_image else grad.new_empty(0),
        torch.empty_like(mask) if need_mask and mask is not None else grad.new_empty(0),
    )


def _unpack_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tokens, index, image, mask, ctx.patch, ctx.nhwc, ctx.backend = inputs
    ctx.dtype = tokens.dtype
    # Only the mask's gradient looks at what was blended.
    blended = mask is not None and mask.requires_grad
    ctx.save_for_backward(tokens if blended else None, index, image if blended else None, mask)


def _unpack_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    tokens, index, image, mask = ctx.saved_tensors
    need = (ctx.needs_input_grad[0], *ctx.needs_input_grad[2:4])
    grads = _unpack_backward_op(
        grad, tokens, index, image, mask, ctx.patch, ctx.nhwc, ctx.dtype, *need, ctx.backend
    )
    found = [g if n else None for g, n in zip(grads, need, strict=True)]
    return found[0], None, found[1], found[2], None, None, None


_unpack_backward_op = define(
    "unpack_patches_backward(Tensor grad, Tensor? tokens, Tensor index, Tensor? image, "
    "Tensor? mask, int patch, bool nhwc, ScalarType dtype, bool need_tokens, bool need_image, "
    "bool need_mask, str backend) -> (Tensor, Tensor, Tensor)",
    _unpack_backward_run,
    _unpack_backward_fake,
)
unpack_patches = define(
    "unpack_patches(Tensor tokens, Tensor index, Tensor image, Tensor? mask, int patch, "
    "bool nhwc, str backend) -> Tensor",
    _unpack_run,
    lambda tokens, index, image, *rest: torch.empty_like(image),
    backward=_unpack_backward,
    setup_context=_unpack_setup,
)
unpack_patches_out = define_out(
    "unpack_patches_out(Tensor tokens, Tensor index, Tensor image, Tensor? mask, int patch, "
    "bool nhwc, Tensor(a!) out, str backend) -> ()",
    _unpack_into,
)
# In place: the image is the output, and only the kept patches are touched.
unpack_patches_ = define_out(
    "unpack_patches_(Tensor tokens, Tensor index, Tensor(a!) image, Tensor? mask, int patch, "
    "bool nhwc, str backend) -> ()",
    lambda tokens, index, image, mask, patch, nhwc, backend: _unpack_into(
        tokens, index, image, mask, patch, nhwc, image, backend
    ),
)

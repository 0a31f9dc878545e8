# SPDX-License-Identifier: Apache-2.0
"""Patches of frames as packed tokens: pixels straight to tokens and back.

A frame is cut into square patches, numbered row by row. A token holds one patch's samples in the
order (row, column, channel), and only the kept patches are tokens, one behind the other, so that
a transformer's work follows the foreground. `cu_seqlens` says where each clip begins among them.

Bytes moved, for K kept patches of p x p pixels and C channels, samples of S bytes:
`pack_patches` 2 K p^2 C S (each sample read once and written once); `unpack_patches` reads the
tokens and the image's other patches and writes the image, as many bytes as a copy of the image;
a mask adds its own bytes and the image's under it. The gradients move as much again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _backends, _check, _tokens_library
from .reference import tokens as reference


def foreground_patches(mask: Tensor, patch: int = 16, *, layout: str = "NCHW") -> Tensor:
    """The patches that hold any foreground.

    Args:
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 or float; foreground is above 0.
        patch: side of a patch in pixels; H and W must be multiples of it.
        layout: "NCHW" or "NHWC".

    Returns:
        bool `[N,P]`, P = (H/patch) (W/patch) patches per frame, row by row.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "foreground_patches"
    _check.has_layout(op, layout)
    _check.has_dtype(op, "mask", mask, _check.MASK_DTYPES)
    _check.has_shape(op, "mask", mask, _shape("N", 1, "H", "W", layout))
    _grid(op, "mask", mask, patch, layout)
    chosen = _backends.choose(op, mask.device, mask.dtype)
    if chosen == "reference":
        return reference.foreground_patches(_nchw(mask, layout), patch)
    return _tokens_library.foreground_patches(mask, patch, layout == "NHWC", chosen)


def pack_patches(
    image: Tensor, keep: Tensor, patch: int = 16, *, frames_per_clip: int = 1,
    layout: str = "NCHW", dtype: torch.dtype | None = None, count: int | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The kept patches of a batch of frames as one run of tokens.

    Args:
        image: `[N,C,H,W]` (or `[N,H,W,C]`), any number of channels, uint8, uint16 or float; any
            strides.
        keep: bool `[N,P]`, such as `foreground_patches` gives (or its negation).
        patch: side of a patch in pixels; H and W must be multiples of it.
        frames_per_clip: T; each T consecutive frames are one sequence (space-time attention).
        layout: "NCHW" or "NHWC".
        dtype: of the tokens; None keeps the image's own samples. A float type turns uint8 and
            uint16 into [0,1].
        count: `keep.sum()` where the caller knows it. How many tokens there are decides the size
            of the result, so on a GPU the call waits for the device; with `count` it does not. It
            must be exact: on the CPU anything else is an error; a GPU cannot check without
            waiting, and there missing tokens are zeros with index -1, surplus ones are left out.
        out: contiguous `[L, patch*patch*C]` with L >= K, of the tokens' dtype: `tokens` is then
            its first K rows. A loop over frames spares itself fresh memory, which on a CPU can
            cost more than the packing. Not with gradients.

    Returns:
        `tokens` `[K, patch*patch*C]`, samples in the order (row, column, channel); `index` `[K]`
        int64, frame * P + patch, ascending; `cu_seqlens` `[N/T + 1]` int32, the bounds of each
        clip's tokens, from 0 to K. Gradients flow to a float image.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Under `torch.compile(fullgraph=True)` without `count`, K is a dynamic size: set
    `torch._dynamo.config.capture_dynamic_output_shape_ops = True`.
    """
    op = "pack_patches"
    _check.has_layout(op, layout)
    _check.has_dtype(op, "image", image, _check.IMAGE_DTYPES)
    _check.has_shape(op, "image", image, _shape("N", "C", "H", "W", layout))
    patches = _grid(op, "image", image, patch, layout)
    _check_keep(op, keep, image, (image.shape[0], patches))
    dtype = image.dtype if dtype is None else dtype
    if dtype != image.dtype and dtype not in _check.FLOAT_DTYPES:
        raise TypeError(f"{op}: dtype must be a float type or the image's own; got {dtype}")
    if out is not None:
        _check.has_dtype(op, "out", out, (dtype,))
        _check.has_shape(op, "out", out, ("L", patch * patch * _nchw(image, layout).shape[1]))
        _check_out(op, out, image, image)
    return _pack(op, image, keep, patch, frames_per_clip, layout, dtype, count, out)


def unpack_patches(
    tokens: Tensor, index: Tensor, image: Tensor, patch: int = 16, *, mask: Tensor | None = None,
    layout: str = "NCHW", out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """A copy of the frames with the kept patches replaced by their tokens.

    Args:
        tokens: `[K, patch*patch*C]`, samples in the order (row, column, channel); of the image's
            dtype, or float in [0,1].
        index: `[K]` int64 from `pack_patches`: each patch at most once (of duplicates any one may
            win), in any order. On the CPU numbers outside the batch are an IndexError.
        image: `[N,C,H,W]` (or `[N,H,W,C]`), what shows elsewhere.
        patch: side of a patch in pixels.
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale or float in [0,1]: inside
            the patches the result is `mask * token + (1 - mask) * image`, and the image's own
            samples bit for bit where the mask is 0.
        layout: "NCHW" or "NHWC".
        out: where to write, contiguous and like the image; or `image` itself, and then only the
            kept patches are read and written. Not with gradients.

    Returns:
        Like `image`. Gradients flow to float tokens, image and mask; none where the mask is 0 but
        the image's.

    Raises:
        TypeError, ValueError, IndexError: naming the argument, what was expected and what came.
    """
    op = "unpack_patches"
    _check.has_layout(op, layout)
    _check.has_dtype(op, "image", image, _check.IMAGE_DTYPES)
    _check.has_shape(op, "image", image, _shape("N", "C", "H", "W", layout))
    _grid(op, "image", image, patch, layout)
    n, c, height, width = _nchw(image, layout).shape
    if mask is not None:
        _check.mask(op, mask, (n, height, width), layout, image.device)
    _check.is_tensor(op, "tokens", tokens)
    if tokens.dtype != image.dtype:
        _check.has_dtype(op, "tokens", tokens, _check.FLOAT_DTYPES)
    _check_index(op, index, image)
    _check.has_shape(op, "tokens", tokens, (index.shape[0], patch * patch * c))
    _check.on_device(op, "tokens", tokens, image.device)
    if out is not None and out is not image:
        _check.has_dtype(op, "out", out, (image.dtype,))
        _check.has_shape(op, "out", out, tuple(image.shape))
    if out is not None:
        _check_out(op, out, image, tokens, image, mask)
    return _unpack(op, tokens, index, image, mask, patch, layout, out)


def pack_tokens(
    tokens: Tensor, keep: Tensor, *, frames_per_clip: int = 1, count: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The kept rows of padded tokens as one run.

    Args:
        tokens: `[N,P,C]`, any dtype `pack_patches` takes.
        keep: bool `[N,P]`.
        frames_per_clip: as for `pack_patches`.
        count: as for `pack_patches`.

    Returns:
        `packed` `[K,C]`, `index` `[K]` int64 (n * P + p), `cu_seqlens` `[N/T + 1]` int32.
        Gradients flow to float tokens.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "pack_tokens"
    _check.has_dtype(op, "tokens", tokens, _check.IMAGE_DTYPES)
    _check.has_shape(op, "tokens", tokens, ("N", "P", "C"))
    _check_keep(op, keep, tokens, tuple(tokens.shape[:2]))
    # Rows of tokens are one-pixel patches of a one-row image with channels last.
    return _pack(op, tokens[:, None], keep, 1, frames_per_clip, "NHWC", tokens.dtype, count)


def unpack_tokens(
    packed: Tensor, index: Tensor, fill: Tensor, *, size: Sequence[int] | None = None
) -> Tensor:
    """Packed tokens back in their places, something else everywhere else.

    Args:
        packed: `[K,C]`.
        index: `[K]` int64 from `pack_tokens` or `pack_patches`, each place at most once.
        fill: `[N,P,C]`, or one token `[C]` for all other places (a mask token); packed's dtype.
        size: (N, P), needed where `fill` is `[C]`.

    Returns:
        `[N,P,C]`. Gradients flow to `packed` and `fill`.

    Raises:
        TypeError, ValueError, IndexError: naming the argument, what was expected and what came.
    """
    op = "unpack_tokens"
    _check.has_dtype(op, "packed", packed, _check.IMAGE_DTYPES)
    _check.has_dtype(op, "fill", fill, (packed.dtype,))
    if fill.dim() == 1:
        if size is None or len(size) != 2:
            raise ValueError(f"{op}: size must be (N, P) where fill is [C]; got {size}")
        fill = fill.expand(*size, fill.shape[0])
    _check.has_shape(op, "fill", fill, ("N", "P", "C"))
    if size is not None and tuple(size) != tuple(fill.shape[:2]):
        raise ValueError(f"{op}: size {tuple(size)} does not fit fill {list(fill.shape)}")
    _check_index(op, index, fill)
    _check.has_shape(op, "packed", packed, (index.shape[0], fill.shape[2]))
    _check.on_device(op, "packed", packed, fill.device)
    if fill.numel() == 0:
        return fill.clone()
    return _unpack(op, packed, index, fill[:, None], None, 1, "NHWC").squeeze(1)


# ---- the same for patches and rows --------------------------------------------------------------


def _pack(
    op: str, image: Tensor, keep: Tensor, patch: int, frames_per_clip: int, layout: str,
    dtype: torch.dtype, count: int | None, out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if frames_per_clip < 1 or keep.shape[0] % frames_per_clip:
        raise ValueError(
            f"{op}: frames_per_clip must divide the {keep.shape[0]} frames; got {frames_per_clip}"
        )
    if count is not None and count < 0:
        raise ValueError(f"{op}: count must be keep.sum(); got {count}")
    wide = torch.float64 in (image.dtype, dtype)
    chosen = _backends.choose(op, image.device, torch.float64 if wide else image.dtype)
    index, cu_seqlens = _tokens_library.patch_index(keep, frames_per_clip, count)
    if chosen == "reference":
        v = _nchw(image, layout)
        v = v if dtype == image.dtype else _as_float(v, dtype).to(dtype)
        tokens = reference.pack_patches(v, index.clamp(min=0), patch)
        return tokens if out is None else _rows(op, out, index).copy_(tokens), index, cu_seqlens
    if out is not None:
        tokens = _rows(op, out, index)
        nhwc = layout == "NHWC"
        _tokens_library.pack_patches_out(image, index, patch, nhwc, tokens, chosen)
        return tokens, index, cu_seqlens
    tokens = _tokens_library.pack_patches(image, index, patch, layout == "NHWC", dtype, chosen)
    return tokens, index, cu_seqlens


def _unpack(
    op: str, tokens: Tensor, index: Tensor, image: Tensor, mask: Tensor | None, patch: int,
    layout: str, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    chosen = _backends.choose(op, image.device, image.dtype)
    if chosen == "reference":
        found = _unpack_reference(tokens, index, image, mask, patch, layout)
        return found if out is None else out.copy_(found)
    if tokens.dtype == torch.float64:
        tokens = tokens.float()
    if mask is not None and mask.dtype == torch.float64:
        mask = mask.float()
    nhwc = layout == "NHWC"
    if out is image:
        _tokens_library.unpack_patches_(tokens, index, image, mask, patch, nhwc, chosen)
        return out
    if out is not None:
        _tokens_library.unpack_patches_out(tokens, index, image, mask, patch, nhwc, out, chosen)
        return out
    return _tokens_library.unpack_patches(tokens, index, image, mask, patch, nhwc, chosen)


def _rows(op: str, out: Tensor, index: Tensor) -> Tensor:
    if out.shape[0] < index.shape[0]:
        raise ValueError(f"{op}: out must have at least {index.shape[0]} rows, got {len(out)}")
    return out[: index.shape[0]]


def _unpack_reference(
    tokens: Tensor, index: Tensor, image: Tensor, mask: Tensor | None, patch: int, layout: str
) -> Tensor:
    v, t, m = _nchw(image, layout), tokens, None
    if mask is not None:
        wide = torch.float64 if image.dtype == torch.float64 else torch.float32
        m = _nchw(mask, layout).to(wide) / _check.full_scale(mask.dtype)
    moves = m is None and tokens.dtype == image.dtype
    if moves and image.dtype == torch.uint16:
        v, t = v.view(torch.int16), t.view(torch.int16)
    elif not moves:
        v, t = _as_float(v, image.dtype), _as_float(t, image.dtype)
    out = reference.unpack_patches(t, index, v, patch, m)
    if moves:
        # Viewing as a dtype, be it its own, cuts the gradient.
        out = out.view(image.dtype) if image.dtype == torch.uint16 else out
    elif image.is_floating_point():
        out = out.to(image.dtype)
    else:
        full = _check.full_scale(image.dtype)
        out = (out.nan_to_num(0, 1, 0).clamp(0, 1) * full).round().to(torch.int32).to(image.dtype)
    return out if layout == "NCHW" else out.permute(0, 2, 3, 1).contiguous()


def _nchw(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "NCHW" else tensor.permute(0, 3, 1, 2)


def _as_float(tensor: Tensor, like: torch.dtype) -> Tensor:
    wide = torch.float64 if like == torch.float64 else torch.float32
    return tensor.to(wide) / _check.full_scale(tensor.dtype)


# ---- checks -------------------------------------------------------------------------------------


def _shape(n: str, c: int | str, h: str, w: str, layout: str) -> tuple[int | str, ...]:
    return (n, c, h, w) if layout == "NCHW" else (n, h, w, c)


def _grid(op: str, name: str, tensor: Tensor, patch: int, layout: str) -> int:
    """Patches per frame."""
    if not isinstance(patch, int) or isinstance(patch, bool):
        raise TypeError(f"{op}: patch must be an int, got {type(patch).__name__}")
    if patch < 1:
        raise ValueError(f"{op}: patch must be at least 1, got {patch}")
    height, width = tensor.shape[2:] if layout == "NCHW" else tensor.shape[1:3]
    if height % patch or width % patch:
        wanted = (-(-height // patch) * patch, -(-width // patch) * patch)
        raise ValueError(
            f"{op}: {name} must have a height and a width that are multiples of patch = {patch}, "
            f"got {height} x {width}; pad it to {wanted[0]} x {wanted[1]} "
            f"(torch.nn.functional.pad by {wanted[1] - width} columns and "
            f"{wanted[0] - height} rows)"
        )
    return (height // patch) * (width // patch)


def _check_keep(op: str, keep: Tensor, image: Tensor, size: tuple[int, int]) -> None:
    _check.has_dtype(op, "keep", keep, (torch.bool,))
    _check.has_shape(op, "keep", keep, size)
    _check.on_device(op, "keep", keep, image.device)


def _check_index(op: str, index: Tensor, image: Tensor) -> None:
    _check.has_dtype(op, "index", index, (torch.int64,))
    _check.has_shape(op, "index", index, ("K",))
    _check.on_device(op, "index", index, image.device)


def _check_out(op: str, out: Tensor, image: Tensor, *inputs: Tensor | None) -> None:
    _check.on_device(op, "out", out, image.device)
    if out is not image and not out.is_contiguous():
        raise ValueError(f"{op}: out must be contiguous, got strides {out.stride()}")
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (out, *inputs)):
        raise ValueError(f"{op}: out cannot be used where a gradient is wanted")

# SPDX-License-Identifier: Apache-2.0
"""3-D look-up tables: applying one inside a mask, and fitting one to a pair of pictures.

Bytes moved per pixel by the fused kernel: uint8 RGB with a float mask 3 B + 4 B read and 3 B
written, where the mask is set; float32 12 + 4 + 12 B. Tables of up to 33 nodes stay in the second
cache level. For 8-bit images the C++ backend packs the table into 16 bits a value: fewer than 0.5 %
of the samples come out one level beside the exact result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _backends, _check, _lut_library
from .reference import lut as reference

INTERPOLATIONS = tuple(reference.INTERPOLATIONS)
"""Kinds of interpolation, in the order of their codes in the kernels."""

MIN_SIZE, MAX_SIZE = 2, 129


def apply_lut(
    image: Tensor, lut: Tensor, mask: Tensor | None = None, *, interpolation: str = "tetrahedral",
    layout: str = "NCHW", strength: float = 1.0,
) -> Tensor:  # fmt: skip
    """Maps colours through a 3-D table inside a mask, in one fused pass.

    `out = s*M * lut(image) + (1 - s*M) * image`; where the mask is 0 the output is the input, bit
    for bit. Nodes are spread evenly over [0,1]; colours outside take the nearest one inside.

    Args:
        image: RGB `[N,3,H,W]` (or `[N,H,W,3]`), uint8/uint16 full scale or float. A NaN in any
            channel makes the whole pixel NaN inside the mask (0 in integer outputs).
        lut: `[S,S,S,3]`, or `[N,S,S,S,3]` for one table per image, float, S from 2 to 129,
            `lut[r, g, b]` = the new colour of (r, g, b)/(S-1).
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale, or float in [0,1];
            None means all ones.
        interpolation: "tetrahedral" (four nodes a pixel, keeps greys neutral) or "trilinear"
            (eight).
        layout: "NCHW" or "NHWC".
        strength: scales the mask, 0 to 1.

    Returns:
        A tensor like `image`. Integer outputs are clamped and rounded half to even; float outputs
        are not clamped, a table may pass 1. Gradients flow to `lut`, and to `image` and `mask`
        (float ones): the slope inside the cell, zero outside [0,1]; at a node the upper cell's,
        on a face between tetrahedra that of red before green before blue. Deterministic on the
        CPU whatever the thread count.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: tetrahedral interpolation after Kasson et al., Performing color space conversions with
    three-dimensional linear interpolation, Journal of Electronic Imaging 4(3), 1995.
    """
    op = "apply_lut"
    size = _check.image(op, image, layout)
    lut = check_lut(op, lut, size[0], image.device)
    if mask is not None:
        _check.mask(op, mask, size, layout, image.device)
    check_interpolation(op, interpolation)
    strength = _check.strength(op, strength)
    chosen = _backends.choose(op, image.device, image.dtype)
    lut = lut.to(_wide(image))
    if chosen == "reference":
        return _reference_apply(image, lut, mask, interpolation, layout, strength)
    if mask is not None and mask.dtype == torch.float64:
        mask = mask.float()
    return _lut_library.apply_lut(
        image, lut, mask, INTERPOLATIONS.index(interpolation), strength, layout == "NHWC", chosen
    )


def fit_lut(
    source: Tensor, target: Tensor, mask: Tensor | None, size: int = 33, *,
    layout: str = "NCHW", offset: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Fits a 3-D table that maps the source's colours to the target's.

    Every pixel's target is splatted trilinearly onto the eight nodes around its source colour,
    weighted by the mask; a node becomes the weighted mean of what reached it. Nodes that nothing
    reached have weight 0 and are filled by a smooth extension of the change `lut - identity`:
    near the data it follows the nearest nodes, far away it is their mean, and without any data
    the table is the identity.

    Args:
        source: RGB `[N,3,H,W]` (or `[N,H,W,3]`), uint8/uint16 full scale or float; clamped to
            [0,1] to find its place. Pixels with a NaN are left out.
        target: like `source` in shape and dtype; float targets may pass [0,1]. Pixels that are
            not finite are left out.
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale, or float in [0,1];
            None means all ones.
        size: nodes per axis, 2 to 129.
        layout: "NCHW" or "NHWC".
        offset: average `target - source` instead of `target`, and add the node's own colour.
            Constant changes, the identity among them, are then met exactly, where the plain mean
            pulls each node towards the colours that happen to lie around it.

    Returns:
        `lut` `[N,S,S,S,3]` indexed [r,g,b] and `weight` `[N,S,S,S]`, float32 (float64 for float64
        images). No gradient on the fast backends: asking for one is an error.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: colour mapping of Lu et al., Deep Video Harmonization with Color Mapping Consistency,
    IJCAI 2022, section 4.2; filling as in `ops/reference/lut.py`.
    """
    sums = _splat("fit_lut", source, target, mask, size, layout, offset)
    return reference.finish(sums, offset)


def splat_lut(
    source: Tensor, target: Tensor, mask: Tensor | None, size: int = 33, *,
    layout: str = "NCHW", offset: bool = False,
) -> Tensor:  # fmt: skip
    """The sums `fit_lut` makes its table of, for tables over several frames.

    Sums of different frames can be added, and taken away again; `finish_lut` makes a table of
    them. Taking away leaves rounding errors where nothing should be left: keep a running sum in
    whole numbers, as `vharm.models.color_mapping` does.

    Args:
        source, target, mask, size, layout, offset: as for `fit_lut`.

    Returns:
        `[N,S,S,S,4]` indexed [r,g,b], float32 (float64 on the reference for float64 images): the
        weighted sum of the targets (of `target - source` with `offset`), then that of the weights.
        No gradient on the fast backends: asking for one is an error.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    return _splat("splat_lut", source, target, mask, size, layout, offset)


def finish_lut(sums: Tensor, *, offset: bool = False) -> tuple[Tensor, Tensor]:
    """A table from the sums of `splat_lut`: `fit_lut` is the one after the other.

    Args:
        sums: `[N,S,S,S,4]`, float.
        offset: whether they are sums of differences.

    Returns:
        `lut` `[N,S,S,S,3]` and `weight` `[N,S,S,S]`; see `fit_lut`.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "finish_lut"
    _check.has_dtype(op, "sums", sums, (torch.float32, torch.float64))
    size = sums.shape[1] if sums.ndim == 5 else "S"
    _check.has_shape(op, "sums", sums, ("N", size, size, size, 4))
    if not MIN_SIZE <= sums.shape[1] <= MAX_SIZE:
        raise ValueError(
            f"{op}: sums must have {MIN_SIZE} to {MAX_SIZE} nodes along each axis, got "
            f"{sums.shape[1]}"
        )
    return reference.finish(sums, offset)


def _splat(
    op: str, source: Tensor, target: Tensor, mask: Tensor | None, size: int, layout: str,
    offset: bool,
) -> Tensor:  # fmt: skip
    extent = _check.image(op, source, layout, name="source")
    _check.has_dtype(op, "target", target, (source.dtype,))
    _check.has_shape(op, "target", target, tuple(source.shape))
    _check.on_device(op, "target", target, source.device)
    if mask is not None:
        _check.mask(op, mask, extent, layout, source.device)
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{op}: size must be an int, got {type(size).__name__}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"{op}: size must be {MIN_SIZE} to {MAX_SIZE} nodes, got {size}")
    chosen = _backends.choose(op, source.device, source.dtype)
    if chosen == "reference":
        return _reference_splat(source, target, mask, size, layout, offset)
    _refuse_gradient(op, source=source, target=target, mask=mask)
    if mask is not None and mask.dtype == torch.float64:
        mask = mask.float()
    return _lut_library.lut_splat(source, target, mask, size, offset, layout == "NHWC", chosen)


def check_interpolation(op: str, interpolation: str) -> None:
    """For this family and for `apply_lut_yuv`."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"{op}: interpolation must be one of {', '.join(INTERPOLATIONS)}; got {interpolation!r}"
        )


def check_lut(op: str, lut: Tensor, n: int, device: torch.device) -> Tensor:
    """The table as `[1 or N,S,S,S,3]`."""
    _check.has_dtype(op, "lut", lut, _check.FLOAT_DTYPES)
    shape = tuple(lut.shape)
    nodes = shape[-2] if len(shape) in (4, 5) else 0
    if shape not in ((nodes, nodes, nodes, 3), (n, nodes, nodes, nodes, 3)):
        raise ValueError(
            f"{op}: lut must have shape [S, S, S, 3] or [{n}, S, S, S, 3], got {list(shape)}"
        )
    if not MIN_SIZE <= nodes <= MAX_SIZE:
        raise ValueError(
            f"{op}: lut must have {MIN_SIZE} to {MAX_SIZE} nodes along each axis, got {nodes}"
        )
    _check.on_device(op, "lut", lut, device)
    return lut if len(shape) == 5 else lut[None]


def _refuse_gradient(op: str, **tensors: Tensor | None) -> None:
    if not torch.is_grad_enabled():
        return
    for name, tensor in tensors.items():
        if tensor is not None and tensor.requires_grad:
            raise ValueError(
                f"{op}: {name} must not require a gradient; it gets none. Detach it, or use "
                'vharm.ops.backend("reference")'
            )


def _wide(image: Tensor) -> torch.dtype:
    return torch.float64 if image.dtype == torch.float64 else torch.float32


def _nchw(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "NCHW" else tensor.permute(0, 3, 1, 2)


def _as_float(image: Tensor, layout: str) -> Tensor:
    return _nchw(image, layout).to(_wide(image)) / _check.full_scale(image.dtype)


def _unit(mask: Tensor | None, layout: str, like: Tensor) -> Tensor:
    """A mask as `[N,1,H,W]` float; None as ones."""
    if mask is None:
        return like.new_ones(like.shape[0], 1, *like.shape[2:])
    return _nchw(mask, layout).to(like.dtype) / _check.full_scale(mask.dtype)


def _reference_apply(
    image: Tensor, lut: Tensor, mask: Tensor | None, interpolation: str, layout: str,
    strength: float,
) -> Tensor:  # fmt: skip
    v = _as_float(image, layout)
    out = reference.apply_lut(v, lut, _unit(mask, layout, v) * strength, interpolation)
    if image.is_floating_point():
        out = out.to(image.dtype)
    else:
        scale = _check.full_scale(image.dtype)
        out = out.nan_to_num(0).clamp(0, 1)
        out = (out * scale).round().to(torch.int32).to(image.dtype)
    return out if layout == "NCHW" else out.permute(0, 2, 3, 1)


def _reference_splat(
    source: Tensor, target: Tensor, mask: Tensor | None, size: int, layout: str, offset: bool
) -> Tensor:
    v, values = _as_float(source, layout), _as_float(target, layout)
    weight = _unit(mask, layout, v)
    return reference.splat(v, values - v if offset else values, weight, size)

# SPDX-License-Identifier: Apache-2.0
"""Colour operations straight on a video frame's Y'CbCr planes.

A round trip through 8-bit RGB changes most samples of a YUV frame, mask or no mask. These ops read
and write the planes themselves: luma whose mask is 0, and chroma all of whose luma sites have mask
0, come out as they went in. One call is one frame; planes are CPU tensors, usually views of the
decoder's own buffers. Bytes moved per pixel, 8-bit 4:2:0 with an 8-bit mask: 1.5 B + 1 B read and
1.5 B written, and no RGB image in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _backends, _check, _native
from ._planes import (
    PlaneMask,
    Planes,
    YuvFormat,
    check_mask,
    check_planes,
    empty_planes,
    mask_view,
    plane_views,
)
from .filters import DEFAULT_FILTERS, FILTERS
from .filters import filter_chain as _filter_chain
from .lut import INTERPOLATIONS, apply_lut, check_interpolation, check_lut
from .planes import shrunk
from .reference import yuv as reference

_OPS = (
    "yuv_to_rgb", "rgb_to_yuv", "yuv_thumbnail", "composite_yuv", "filter_chain_yuv",
    "apply_lut_yuv", "residual_yuv",
)  # fmt: skip
for _op in _OPS:
    _cpp = (
        (lambda request: "has no kernel; it goes through RGB")
        if _op == "residual_yuv"
        else _native.why_not_cpp
    )
    _backends.register(
        _op,
        (
            _backends.Candidate("cpp", _cpp),
            _backends.Candidate("reference", lambda request: None),
        ),
    )


def yuv_to_rgb(planes: Planes, *, format: YuvFormat, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Planes to R'G'B'.

    Args:
        planes: Y [H,W], Cb and Cr [ceil(H/2^sy), ceil(W/2^sx)], uint8 or uint16, any strides.
        format: what the samples mean.
        dtype: uint8, uint16 (both full scale, clamped, rounded half to even) or float32 (1.0 is
            white; not clamped).

    Returns:
        [H,W,3].

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "yuv_to_rgb"
    height, width = check_planes(op, planes, format)
    if dtype not in (torch.uint8, torch.uint16, torch.float32):
        raise TypeError(f"{op}: dtype must be uint8, uint16 or float32; got {dtype}")
    out = torch.empty(height, width, 3, dtype=dtype, device=planes[0].device)
    if _choose(op, planes) == "cpp":
        _native.cpu_module().yuv_to_rgb(
            plane_views(planes), format.native(), _native.image_view(out[None], "NHWC"),
            _native.threads(),
        )  # fmt: skip
        return out
    to_rgb, _, offset = format.matrices(torch.float32)
    rgb = reference.to_rgb(planes, to_rgb, offset, *format.subsampling)
    return rgb if dtype == torch.float32 else _full_scale(rgb, dtype)


def rgb_to_yuv(rgb: Tensor, *, format: YuvFormat) -> Planes:
    """R'G'B' to planes; chroma is the mean over the luma sites it covers.

    Args:
        rgb: [H,W,3], uint8 or uint16 full scale, or float32.
        format: the planes wanted.

    Returns:
        Y, Cb, Cr of `format.dtype`.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "rgb_to_yuv"
    _check.has_dtype(op, "rgb", rgb, (torch.uint8, torch.uint16, torch.float32))
    _check.has_shape(op, "rgb", rgb, ("H", "W", 3))
    height, width = rgb.shape[:2]
    planes = empty_planes(height, width, format, rgb.device)
    if _choose(op, planes) == "cpp":
        _native.cpu_module().rgb_to_yuv(
            _native.image_view(rgb[None], "NHWC"), format.native(), plane_views(planes),
            _native.threads(),
        )  # fmt: skip
        return planes
    _, from_rgb, offset = format.matrices(torch.float32)
    unit = rgb.to(torch.float32) / _check.full_scale(rgb.dtype)
    samples = reference.to_samples(unit, from_rgb, offset)
    chroma = [reference.gather(samples[..., c], *format.subsampling) for c in (1, 2)]
    y, u, v = (
        reference.quantize(p, format.maximum, format.dtype) for p in (samples[..., 0], *chroma)
    )
    return y, u, v


def yuv_thumbnail(planes: Planes, size: tuple[int, int], *, format: YuvFormat) -> Tensor:
    """A small R'G'B' picture of a frame: every plane is averaged over areas, then converted.

    Args:
        planes: as for `yuv_to_rgb`.
        size: (height, width) of the result; may not exceed the frame's.
        format: what the samples mean.

    Returns:
        [3,h,w] float32, clamped to [0,1].

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "yuv_thumbnail"
    height, width = check_planes(op, planes, format)
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(f"{op}: size must be within the frame's {(height, width)}, got {size}")
    return samples_to_rgb(shrunk(op, planes, size), format=format)


def samples_to_rgb(samples: Tensor, *, format: YuvFormat) -> Tensor:
    """Y'CbCr samples of one resolution, such as a shrunk frame's, to R'G'B'.

    Args:
        samples: [3,h,w] float32, in sample units.
        format: what they mean.

    Returns:
        [3,h,w] float32, clamped to [0,1].
    """
    to_rgb, _, offset = format.matrices(torch.float32)
    black = to_rgb @ offset
    rgb = torch.addmm(black[:, None], to_rgb, samples.flatten(1), beta=-1)
    return rgb.view_as(samples).clamp_(0, 1)


def composite_yuv(
    foreground: Planes,
    background: Planes,
    mask: PlaneMask | None,
    *,
    format: YuvFormat,
    premultiplied: bool = False,
    out: Planes | None = None,
) -> Planes:
    """Lays one frame's planes over another's: `M*F + (1-M)*B`, or premultiplied `F + (1-M)*B`.

    Args:
        foreground: planes of `format`; not changed.
        background: planes of `format`; not changed.
        mask: one value per luma sample; chroma takes the mean over its luma sites. None means ones.
        format: what the samples mean (premultiplied samples are multiplied around its black).
        premultiplied: the foreground is multiplied by the mask already.
        out: planes to write into, neither of the inputs; None makes new ones.

    Returns:
        The new planes (`out` if given); samples the mask does not touch are the background's own.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "composite_yuv"
    size = check_planes(op, background, format, name="background")
    found = check_planes(op, foreground, format, name="foreground")
    if found != size:
        raise ValueError(
            f"{op}: foreground must be {list(size)} like the background, got {list(found)}"
        )
    check_mask(op, mask, size)
    for planes in (foreground, background):
        _check_out(op, out, planes, size, format, in_place=False)
    if _choose(op, background) == "cpp":
        out = empty_planes(*size, format, background[0].device) if out is None else out
        _native.cpu_module().composite_yuv(
            plane_views(foreground),
            plane_views(background),
            mask_view(mask, 1.0),
            format.native(),
            premultiplied,
            plane_views(out),
            _native.threads(),
        )
        return out
    _, _, offset = format.matrices(torch.float32)
    weight = torch.ones(size) if mask is None else mask.unit()
    result = reference.composite(
        foreground, background, weight, offset, premultiplied, format.maximum, *format.subsampling
    )
    return _deliver(result, out)


def filter_chain_yuv(
    planes: Planes, mask: PlaneMask | None, arguments: Tensor, *, format: YuvFormat,
    statistics: Tensor, filters: Sequence[str] = DEFAULT_FILTERS, strength: float = 1.0,
    quantized_contrast: bool = False,
    out: Planes | None = None,
) -> Planes:  # fmt: skip
    """`filter_chain` on a frame's planes.

    Args:
        planes: as for `yuv_to_rgb`; not changed unless they are `out` too.
        mask: one value per luma sample; None means all ones.
        arguments: [K], clamped to [-1,1].
        format: what the samples mean.
        statistics: [K,3] as from `filter_statistics` (of a thumbnail, say).
        filters: K names.
        strength: scales the mask, 0 to 1.
        quantized_contrast: as for `filter_chain`.
        out: planes to write into, such as an encoder's own, or `planes`; None makes new ones.

    Returns:
        The new planes (`out` if given); samples the mask does not touch are equal.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "filter_chain_yuv"
    size = check_planes(op, planes, format)
    check_mask(op, mask, size)
    _check_out(op, out, planes, size, format)
    k = len(filters)
    _check.has_shape(op, "arguments", arguments, (k,))
    _check.has_shape(op, "statistics", statistics, (k, 3))
    strength = _check.strength(op, strength)
    arguments = arguments.to("cpu", torch.float32).clamp(-1, 1).contiguous()
    statistics = statistics.to("cpu", torch.float32).contiguous()
    if _choose(op, planes) == "cpp":
        unknown = [name for name in filters if name not in FILTERS]
        if unknown:
            known = ", ".join(FILTERS)
            raise ValueError(f"{op}: filters must be out of {known}; got {unknown[0]!r}")
        out = empty_planes(*size, format, planes[0].device) if out is None else out
        _native.cpu_module().filter_chain_yuv(
            plane_views(planes), mask_view(mask, strength), arguments.data_ptr(),
            statistics.data_ptr(), [FILTERS.index(name) for name in filters], quantized_contrast,
            format.native(), plane_views(out), _native.threads(),
        )  # fmt: skip
        return out

    def change(rgb: Tensor) -> Tensor:
        return _filter_chain(
            rgb[None], None, arguments[None], filters=filters, statistics=statistics[None],
            layout="NHWC", quantized_contrast=quantized_contrast,
        )[0]  # fmt: skip

    return _deliver(through_rgb(planes, mask, format, strength, change), out)


def apply_lut_yuv(
    planes: Planes,
    mask: PlaneMask | None,
    lut: Tensor,
    *,
    format: YuvFormat,
    interpolation: str = "tetrahedral",
    strength: float = 1.0,
    out: Planes | None = None,
) -> Planes:
    """`apply_lut` on a frame's planes.

    Args:
        planes: as for `yuv_to_rgb`; not changed unless they are `out` too.
        mask: one value per luma sample; None means all ones.
        lut: [S,S,S,3] float, indexed [r,g,b]; what leaves the sample range is clamped.
        format: what the samples mean.
        interpolation: "tetrahedral" or "trilinear".
        strength: scales the mask, 0 to 1.
        out: planes to write into, such as an encoder's own, or `planes`; None makes new ones.

    Returns:
        The new planes (`out` if given); samples the mask does not touch are equal.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "apply_lut_yuv"
    size = check_planes(op, planes, format)
    check_mask(op, mask, size)
    _check_out(op, out, planes, size, format)
    check_interpolation(op, interpolation)
    lut = check_lut(op, lut, 1, planes[0].device)[0]
    strength = _check.strength(op, strength)
    if _choose(op, planes) == "cpp":
        out = empty_planes(*size, format, planes[0].device) if out is None else out
        table = lut.detach().to(torch.float32).contiguous()
        _native.cpu_module().apply_lut_yuv(
            plane_views(planes),
            mask_view(mask, strength),
            (table.data_ptr(), 1, table.shape[0]),
            INTERPOLATIONS.index(interpolation),
            format.native(),
            plane_views(out),
            _native.threads(),
        )
        return out

    def change(rgb: Tensor) -> Tensor:
        return apply_lut(rgb[None], lut, interpolation=interpolation, layout="NHWC")[0]

    return _deliver(through_rgb(planes, mask, format, strength, change), out)


def residual_yuv(
    planes: Planes, mask: PlaneMask | None, residual: Tensor, *, format: YuvFormat,
    strength: float = 1.0, out: Planes | None = None,
) -> Planes:  # fmt: skip
    """Adds an RGB residual, up-sampled bilinearly to the frame, inside the mask.

    Args:
        planes: as for `yuv_to_rgb`; not changed unless they are `out` too.
        mask: one value per luma sample; None means all ones.
        residual: [3,h,w] float, what to add to R'G'B' (1.0 is white).
        format: what the samples mean.
        strength: scales the mask, 0 to 1.
        out: planes to write into, such as an encoder's own, or `planes`; None makes new ones.

    Returns:
        The new planes (`out` if given); samples the mask does not touch are equal.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "residual_yuv"
    size = check_planes(op, planes, format)
    check_mask(op, mask, size)
    _check_out(op, out, planes, size, format)
    _check.has_shape(op, "residual", residual, (3, "h", "w"))
    strength = _check.strength(op, strength)
    wide = torch.nn.functional.interpolate(
        residual.float()[None], size=size, mode="bilinear", align_corners=False
    )[0].permute(1, 2, 0)
    result = through_rgb(planes, mask, format, strength, lambda rgb: (rgb + wide).clamp(0, 1))
    return _deliver(result, out)


def through_rgb(planes: Planes, mask: PlaneMask | None, format: YuvFormat, strength, change):
    """The reference of every plane op: to float RGB, `change` it, and mix it back by the mask."""
    to_rgb, from_rgb, offset = format.matrices(torch.float32)
    rgb = reference.to_rgb(planes, to_rgb, offset, *format.subsampling)
    weight = rgb.new_ones(rgb.shape[:2]) if mask is None else mask.unit()
    return reference.blend_planes(
        planes, change(rgb), weight * strength, from_rgb, offset, format.maximum,
        *format.subsampling,
    )  # fmt: skip


def _check_out(
    op: str, out: Planes | None, planes: Planes, size: tuple[int, int], format: YuvFormat,
    *, in_place: bool = True,
) -> None:  # fmt: skip
    if out is None:
        return
    found = check_planes(op, out, format, name="out")
    if found != size:
        raise ValueError(f"{op}: out must be {list(size)} like the planes, got {list(found)}")
    shared = [a.data_ptr() == b.data_ptr() for a, b in zip(out, planes, strict=True) if a.numel()]
    same = in_place and all(shared) and [a.stride() for a in out] == [b.stride() for b in planes]
    if any(shared) and not same:
        raise ValueError(
            f"{op}: out must share no memory with the planes, which are read meanwhile"
            + (", or all of it" if in_place else "")
        )


def _deliver(result: Planes, out: Planes | None) -> Planes:
    if out is None:
        return result
    for target, plane in zip(out, result, strict=True):
        target.copy_(plane)
    return out


def _choose(op: str, planes: Planes) -> str:
    return _backends.choose(op, planes[0].device, planes[0].dtype)


def _full_scale(rgb: Tensor, dtype: torch.dtype) -> Tensor:
    return reference.quantize(rgb * _check.full_scale(dtype), _check.full_scale(dtype), dtype)

# SPDX-License-Identifier: Apache-2.0
"""Frames as planes: what their samples mean, their masks, and how both are shown to the kernels."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _check, _native

Planes = tuple[Tensor, Tensor, Tensor]

LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
"""(Kr, Kb) of ITU-R BT.601, BT.709 and BT.2020 (non-constant luminance)."""


@dataclass(frozen=True)
class YuvFormat:
    """How a frame's samples mean colours.

    Args:
        matrix: "bt601", "bt709" or "bt2020".
        full_range: samples use their whole range ("pc") instead of 16-235 / 16-240 ("tv").
        depth: bits per sample, 8 to 16; above 8 the planes are uint16 with the value in the low
            bits.
        subsampling: log2 of the horizontal and vertical chroma subsampling: (1, 1) is 4:2:0,
            (1, 0) 4:2:2, (0, 0) 4:4:4.
    """

    matrix: str = "bt709"
    full_range: bool = False
    depth: int = 8
    subsampling: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.matrix not in LUMA_WEIGHTS:
            known = ", ".join(LUMA_WEIGHTS)
            raise ValueError(f"YuvFormat: matrix must be one of {known}; got {self.matrix!r}")
        if not 8 <= self.depth <= 16:
            raise ValueError(f"YuvFormat: depth must be 8 to 16, got {self.depth}")
        if any(not 0 <= s <= 2 for s in self.subsampling):
            raise ValueError(
                f"YuvFormat: subsampling must be log2 factors 0 to 2, got {self.subsampling}"
            )

    @property
    def dtype(self) -> torch.dtype:
        """uint8 for 8-bit samples, uint16 above."""
        return torch.uint8 if self.depth == 8 else torch.uint16

    @property
    def maximum(self) -> int:
        """The largest sample."""
        return (1 << self.depth) - 1

    def chroma_size(self, height: int, width: int) -> tuple[int, int]:
        """Size of the chroma planes of a frame; odd sizes round up."""
        sx, sy = self.subsampling
        return -(-height >> sy) if sy else height, -(-width >> sx) if sx else width

    def matrices(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
        """`to_rgb` [3,3], `from_rgb` [3,3] and `offset` [3]: rgb = to_rgb @ (sample - offset).

        They are made once for each format: read them, never write.
        """
        return _matrices(self, dtype)

    def native(self) -> tuple[object, ...]:
        """The tuple csrc/python/views.hpp: yuv_format expects."""
        return _native_format(self)


@functools.lru_cache(maxsize=64)
def _matrices(format: YuvFormat, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    kr, kb = LUMA_WEIGHTS[format.matrix]
    kg = 1 - kr - kb
    unit = 1 << (format.depth - 8)
    if format.full_range:
        luma_offset, luma_scale, chroma_scale = 0.0, format.maximum, format.maximum
    else:
        luma_offset, luma_scale, chroma_scale = 16.0 * unit, 219.0 * unit, 224.0 * unit
    # They outlive the call, and with it an inference mode that it may come from.
    with torch.inference_mode(False):
        from_rgb = torch.tensor(
            [
                [kr, kg, kb],
                [-kr / (2 * (1 - kb)), -kg / (2 * (1 - kb)), 0.5],
                [0.5, -kg / (2 * (1 - kr)), -kb / (2 * (1 - kr))],
            ],
            dtype=torch.float64,
        )
        from_rgb = from_rgb * torch.tensor([[luma_scale], [chroma_scale], [chroma_scale]])
        middle = float(1 << (format.depth - 1))
        offset = torch.tensor([luma_offset, middle, middle], dtype=torch.float64)
        return torch.linalg.inv(from_rgb).to(dtype), from_rgb.to(dtype), offset.to(dtype)


@functools.lru_cache(maxsize=64)
def _native_format(format: YuvFormat) -> tuple[object, ...]:
    to_rgb, from_rgb, offset = format.matrices()
    return (
        to_rgb.flatten().tolist(), from_rgb.flatten().tolist(), offset.tolist(),
        float(format.maximum), *format.subsampling,
    )  # fmt: skip


@dataclass(frozen=True)
class PlaneMask:
    """A mask as a decoder gives it: value = clamp((data - black) / (white - black), 0, 1).

    Args:
        data: [H,W] uint8, uint16, float32 or bool.
        black: the sample that means 0 (16 for 8-bit limited-range video).
        white: the sample that means 1 (235).
    """

    data: Tensor
    black: float = 0.0
    white: float = 255.0

    def __post_init__(self) -> None:
        allowed = (torch.bool, torch.uint8, torch.uint16, torch.float32)
        _check.has_dtype("PlaneMask", "data", self.data, allowed)
        if self.data.ndim != 2:
            raise ValueError(f"PlaneMask: data must be [H, W], got {list(self.data.shape)}")
        if not self.white > self.black:
            raise ValueError(
                f"PlaneMask: white must be above black, got {self.white} and {self.black}"
            )

    @classmethod
    def of(cls, data: Tensor) -> PlaneMask:
        """A full-scale mask: bool, uint8, uint16, or float in [0,1]."""
        white = 1.0 if data.dtype == torch.bool else _check.full_scale(data.dtype)
        return cls(data, 0.0, white)

    def unit(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The mask's values [H,W] in [0,1]."""
        return ((self.data.to(dtype) - self.black) / (self.white - self.black)).clamp(0, 1)


def mask_view(mask: PlaneMask | None, strength: float) -> tuple[float, ...]:
    """The tuple csrc/python/views.hpp: mask_view expects, for one frame."""
    if mask is None:
        return (0, 0, 0, 0, 0, 0.0, 1.0, strength)
    sh, sw = mask.data.stride()
    code = _native.DTYPE_CODES[mask.data.dtype]
    return (mask.data.data_ptr(), code, 0, sh, sw, float(mask.black), float(mask.white), strength)


def check_planes(
    op: str, planes: Planes, format: YuvFormat, *, name: str = "planes"
) -> tuple[int, int]:
    """Checks three planes against a format and returns (height, width)."""
    if not isinstance(format, YuvFormat):
        raise TypeError(f"{op}: format must be a YuvFormat, got {type(format).__name__}")
    if not isinstance(planes, (tuple, list)) or len(planes) != 3:
        raise TypeError(f"{op}: {name} must be a tuple of three tensors (Y, Cb, Cr)")
    if (size := _fitting(planes, format)) is not None:
        return size
    for part, plane in zip(("Y", "Cb", "Cr"), planes, strict=True):
        _check.has_dtype(op, f"{name} ({part})", plane, (format.dtype,))
    _check.has_shape(op, f"{name} (Y)", planes[0], ("H", "W"))
    height, width = planes[0].shape
    for part, plane in zip(("Cb", "Cr"), planes[1:], strict=True):
        _check.has_shape(op, f"{name} ({part})", plane, format.chroma_size(height, width))
    return height, width


def _fitting(planes: Planes, format: YuvFormat) -> tuple[int, int] | None:
    """(height, width) of planes that are as they should be, asked for several times a frame."""
    dtype = format.dtype
    for plane in planes:
        if not isinstance(plane, Tensor) or plane.dtype != dtype or plane.ndim != 2:
            return None
    y, u, v = (plane.shape for plane in planes)
    chroma = format.chroma_size(*y)
    return tuple(y) if tuple(u) == chroma == tuple(v) else None


def check_mask(op: str, mask: PlaneMask | None, size: tuple[int, int]) -> None:
    if mask is None:
        return
    if not isinstance(mask, PlaneMask):
        raise TypeError(f"{op}: mask must be a PlaneMask or None, got {type(mask).__name__}")
    _check.has_shape(op, "mask", mask.data, size)


def empty_planes(height: int, width: int, format: YuvFormat, device: torch.device) -> Planes:
    chroma = format.chroma_size(height, width)
    y, u, v = (
        torch.empty(size, dtype=format.dtype, device=device)
        for size in ((height, width), chroma, chroma)
    )
    return y, u, v


def plane_view(plane: Tensor) -> tuple[int, ...]:
    return (plane.data_ptr(), _native.DTYPE_CODES[plane.dtype], *plane.shape, *plane.stride())


def plane_views(planes: Planes) -> tuple[tuple[int, ...], ...]:
    return tuple(plane_view(plane) for plane in planes)

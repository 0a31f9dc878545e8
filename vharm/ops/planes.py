# SPDX-License-Identifier: Apache-2.0
"""Operations on single sample planes, whatever they mean: shrinking, and means under a mask.

A video frame's planes are read where the decoder left them, in their own sample units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _backends, _check, _native
from ._planes import plane_view, plane_views

for _op in ("shrink_planes", "plane_means"):
    _backends.register(
        _op,
        (
            _backends.Candidate("cpp", _native.why_not_cpp),
            _backends.Candidate("reference", lambda request: None),
        ),
    )

_SHRUNK = (torch.bool, torch.uint8, torch.uint16, torch.float32)


def shrink_planes(planes: Sequence[Tensor], size: tuple[int, int], *, every: int = 1) -> Tensor:
    """Area averages of planes, all to one size.

    Args:
        planes: each [H,W]; uint8, uint16, float32 or bool. Those after the first may be smaller.
        size: (height, width), not above that of what is taken of the first.
        every: take every n-th row only.

    Returns:
        [len(planes),h,w] float32, in sample units.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "shrink_planes"
    if every < 1:
        raise ValueError(f"{op}: every must be at least 1, got {every}")
    for plane in planes:
        _check.has_dtype(op, "planes", plane, _SHRUNK)
        _check.has_shape(op, "planes", plane, ("H", "W"))
    height, width = -(-planes[0].shape[0] // every), planes[0].shape[1]
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(f"{op}: size must be within {(height, width)}, got {tuple(size)}")
    return shrunk(op, planes, size, every)


def shrunk(op: str, planes: Sequence[Tensor], size: tuple[int, int], every: int = 1) -> Tensor:
    """`shrink_planes` by the backend of `op`, of what has been checked."""
    if _backends.choose(op, planes[0].device, planes[0].dtype) == "cpp":
        out = torch.empty(len(planes), *size, dtype=torch.float32)
        views = tuple(_every_row(plane_view(plane), every) for plane in planes)
        _native.cpu_module().shrink_planes(views, plane_views(out), _native.threads())
        return out
    return torch.stack([_shrink(plane[::every], size) for plane in planes])


def plane_means(
    planes: Sequence[Tensor], mask: Tensor, step: int = 1, *, black: float = 0.0,
    subsampling: tuple[int, int] = (0, 0),
) -> list[float] | None:  # fmt: skip
    """The mean of each plane under a mask, on a grid of points.

    Args:
        planes: [H,W] each; uint8, uint16 or any float, any strides.
        mask: [H,W] like the first plane; the weight of a point is what it has above `black`.
        step: rows and columns between points, a multiple of 2^subsampling.
        black: the mask's sample for "outside".
        subsampling: log2 of how much narrower and lower the planes after the first are.

    Returns:
        A number for each plane in its sample units; None where no point has any weight.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "plane_means"
    across, down = subsampling
    _check.has_dtype(op, "mask", mask, _check.MASK_DTYPES)
    _check.has_shape(op, "mask", mask, ("H", "W"))
    if step < 1 or step % (1 << max(across, down)):
        raise ValueError(f"{op}: step must be a multiple of 2^subsampling, got {step}")
    height, width = mask.shape
    size, device, kinds = (height, width), mask.device, {mask.dtype}
    for plane in planes:
        _check.has_dtype(op, "planes", plane, _check.IMAGE_DTYPES)
        _check.has_shape(op, "planes", plane, size)
        _check.on_device(op, "planes", plane, device)
        kinds.add(plane.dtype)
        size = (-(-height >> down), -(-width >> across))
    if torch.float64 not in kinds and _backends.choose(op, device, mask.dtype) == "cpp":
        *sums, total = _native.cpu_module().plane_sums(
            plane_views(planes), plane_view(mask), black, step, across, down
        )
    else:
        weight = (mask[::step, ::step].double() - black).clamp(min=0)
        sums, total = [], float(weight.sum())
        for number, plane in enumerate(planes):
            rows, columns = (step >> down, step >> across) if number else (step, step)
            sums.append(float((weight * plane[::rows, ::columns].double()).sum()))
    return [value / total for value in sums] if total > 0 else None


def _every_row(view: tuple[int, ...], every: int) -> tuple[int, ...]:
    """The view of every n-th row of what a view shows."""
    data, dtype, height, width, down, across = view
    return data, dtype, -(-height // every), width, down * every, across


def _shrink(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """Area average with fractional borders: the matrix of overlaps on either side."""
    rows = _overlaps(plane.shape[0], size[0])
    columns = _overlaps(plane.shape[1], size[1])
    return rows @ plane.to(torch.float32) @ columns.T


def _overlaps(source: int, target: int) -> Tensor:
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    cells = torch.arange(source, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], cells[None])
    high = torch.minimum(edges[1:, None], cells[None] + 1)
    return ((high - low).clamp(min=0) * target / source).to(torch.float32)

# SPDX-License-Identifier: Apache-2.0
"""White-box filters: temperature, brightness, contrast, saturation, highlight, shadow, and more.

The formulas are those of Harmonizer (Ke et al., ECCV 2022, section 3); `ops/reference/filters.py`
is their definition. Bytes moved per pixel by the fused kernels, uint8 RGB in and out with a float
mask: one read for each filter that needs global means (3 B each), then 3 B + 4 B read and 3 B
written, where the mask is set; float32: 12 B, and 12 + 4 + 12 B.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _backends, _check, _filters_library
from .reference import filters as reference

FILTERS = tuple(reference.FILTERS)
"""All filters, in the order of their codes in the kernels."""

DEFAULT_FILTERS = ("temperature", "brightness", "contrast", "saturation", "highlight", "shadow")
"""Harmonizer's six filters in the paper's order."""

MAX_FILTERS = 16


def filter_chain(
    image: Tensor, mask: Tensor | None, arguments: Tensor, *,
    filters: Sequence[str] = DEFAULT_FILTERS, statistics: Tensor | None = None,
    layout: str = "NCHW", strength: float = 1.0, quantized_contrast: bool = False,
) -> Tensor:  # fmt: skip
    """Applies a chain of white-box filters inside a mask, in one fused pass.

    `out = s*M * chain(image) + (1 - s*M) * image`; where the mask is 0 the output is the input,
    bit for bit. The chain itself runs on the whole frame: temperature and contrast use means over
    all pixels, not only the foreground.

    Args:
        image: RGB `[N,3,H,W]` (or `[N,H,W,3]`), uint8/uint16 full scale or float in [0,1] (float
            values outside are clamped where the mask is set).
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale, or float in [0,1];
            None means all ones.
        arguments: `[N,K]` float, one per filter, clamped to [-1,1] (gradient passes at equality).
        filters: K names out of `FILTERS`, applied in this order; repeats are allowed.
        statistics: `[N,K,3]` from `filter_statistics`; None computes it from this image.
        layout: "NCHW" or "NHWC".
        strength: scales the mask, 0 to 1.
        quantized_contrast: the released implementation's floored gain, for published weights.

    Returns:
        A tensor like `image`. Gradients flow to `image` and `mask` (float ones), `arguments` and
        `statistics`; deterministic on the CPU whatever the thread count.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Ke et al., Harmonizer, ECCV 2022, eq. 4-5 and section 3.2; gains as documented in
    `docs/architecture.md`.
    """
    op = "filter_chain"
    size = _check.image(op, image, layout)
    codes = _codes(op, filters)
    if mask is not None:
        _check.mask(op, mask, size, layout, image.device)
    _check_arguments(op, arguments, size[0], len(codes), image.device)
    strength = _check.strength(op, strength)
    chosen = _backends.choose(op, image.device, image.dtype)
    arguments = _clamped(arguments, image)
    if statistics is None:
        statistics = _statistics(image, arguments, filters, layout, quantized_contrast, chosen)
    else:
        _check.has_dtype(op, "statistics", statistics, _check.FLOAT_DTYPES)
        _check.has_shape(op, "statistics", statistics, (size[0], len(codes), 3))
        _check.on_device(op, "statistics", statistics, image.device)
        statistics = statistics.to(arguments.dtype)
    if chosen == "reference":
        return _reference_chain(
            image, mask, arguments, statistics, filters, layout, strength, quantized_contrast
        )
    if mask is not None and mask.dtype == torch.float64:
        mask = mask.float()
    return _filters_library.filter_chain(
        image, mask, arguments, statistics, codes, strength, layout == "NHWC", quantized_contrast,
        chosen,
    )  # fmt: skip


def filter_statistics(
    image: Tensor, arguments: Tensor, *, filters: Sequence[str] = DEFAULT_FILTERS,
    layout: str = "NCHW", quantized_contrast: bool = False,
) -> Tensor:  # fmt: skip
    """The global means a filter chain needs.

    Args:
        image: as for `filter_chain`; a thumbnail of the frame gives nearly the same means.
        arguments: `[N,K]`, clamped to [-1,1].
        filters: K names; those before a filter decide what it sees.
        layout: "NCHW" or "NHWC".
        quantized_contrast: as for `filter_chain`.

    Returns:
        `[N,K,3]` float: for temperature and contrast the channel means of that filter's input
        over all pixels (contrast uses their mean), zeros for the others. Differentiable.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    op = "filter_statistics"
    size = _check.image(op, image, layout)
    codes = _codes(op, filters)
    _check_arguments(op, arguments, size[0], len(codes), image.device)
    chosen = _backends.choose(op, image.device, image.dtype)
    arguments = _clamped(arguments, image)
    return _statistics(image, arguments, filters, layout, quantized_contrast, chosen)


def filter_chain_loss(
    image: Tensor, mask: Tensor, arguments: Tensor, targets: Tensor, *,
    filters: Sequence[str] = DEFAULT_FILTERS, statistics: Tensor | None = None,
    quantized_contrast: bool = False,
) -> Tensor:  # fmt: skip
    """Per-stage masked losses of a filter chain, without storing the stages.

    With `d` the difference of stage i's unmasked output and its target, per image
    `sum(M*sqrt(d^2+1e-6))/(sum(M)+1e-6) + 10*sum(M*d^2)/(sum(M)+1e-6)`, sums over pixels and the
    three channels, the mask's sum over its one channel. An empty mask gives 0.

    Args:
        image: `[N,3,H,W]` float in [0,1], the composite (any strides).
        mask: `[N,1,H,W]` float in [0,1].
        arguments: `[N,K]`.
        targets: `[N,K,3,H,W]`, what each stage should have produced.
        filters: K names.
        statistics: `[N,K,3]`, None computes it from the image.
        quantized_contrast: as for `filter_chain`.

    Returns:
        Losses `[N,K]` float32. Gradients flow to `arguments`, `statistics` and `image`, not to
        `mask` or `targets` (asking for one is an error).

    Raises:
        TypeError, ValueError: naming the argument.

    Source: Ke et al., Harmonizer, ECCV 2022, eq. 11, with the released implementation's mix of a
    smoothed absolute and a squared error.
    """
    op = "filter_chain_loss"
    _check.has_dtype(op, "image", image, _check.FLOAT_DTYPES)
    size = n, height, width = _check.image(op, image, "NCHW")
    codes = _codes(op, filters)
    _check.mask(op, mask, size, "NCHW", image.device)
    _check_arguments(op, arguments, n, len(codes), image.device)
    _check.has_dtype(op, "targets", targets, _check.FLOAT_DTYPES)
    _check.has_shape(op, "targets", targets, (n, len(codes), 3, height, width))
    _check.on_device(op, "targets", targets, image.device)
    for name, tensor in (("mask", mask), ("targets", targets)):
        if tensor.requires_grad:
            raise ValueError(f"{op}: {name} must not require a gradient; it gets none")
    chosen = _backends.choose(op, image.device, image.dtype)
    arguments = _clamped(arguments, image)
    if statistics is None:
        statistics = _statistics(image, arguments, filters, "NCHW", quantized_contrast, chosen)
    else:
        _check.has_shape(op, "statistics", statistics, (n, len(codes), 3))
        statistics = statistics.to(arguments.dtype)
    if chosen == "reference":
        return reference.filter_chain_loss(
            image.to(arguments.dtype), _unit(mask).to(arguments.dtype), arguments, statistics,
            targets.to(arguments.dtype), filters, quantized_contrast,
        )  # fmt: skip
    if mask.dtype == torch.float64:
        mask = mask.float()
    if targets.dtype != image.dtype:
        targets = targets.to(image.dtype)
    return _filters_library.filter_chain_loss(
        image, mask, arguments, statistics, targets, codes, quantized_contrast, chosen
    )


def _codes(op: str, filters: Sequence[str]) -> list[int]:
    if isinstance(filters, str):
        raise TypeError(f"{op}: filters must be a sequence of names, got the string {filters!r}")
    unknown = [name for name in filters if name not in FILTERS]
    if unknown:
        raise ValueError(f"{op}: filters must be out of {', '.join(FILTERS)}; got {unknown[0]!r}")
    if len(filters) > MAX_FILTERS:
        raise ValueError(f"{op}: filters must hold at most {MAX_FILTERS} names, got {len(filters)}")
    return [FILTERS.index(name) for name in filters]


def _check_arguments(op: str, arguments: Tensor, n: int, k: int, device: torch.device) -> None:
    _check.has_dtype(op, "arguments", arguments, _check.FLOAT_DTYPES)
    _check.has_shape(op, "arguments", arguments, (n, k))
    _check.on_device(op, "arguments", arguments, device)


def _clamped(arguments: Tensor, image: Tensor) -> Tensor:
    wide = torch.float64 if image.dtype == torch.float64 else torch.float32
    return arguments.to(wide).clamp(-1, 1)


def _statistics(
    image: Tensor, arguments: Tensor, filters: Sequence[str], layout: str, quantized: bool,
    backend: str,
) -> Tensor:  # fmt: skip
    """Fills [N,K,3] stage by stage: each mean sees the filters, and means, before it."""
    n, k = arguments.shape
    codes = [FILTERS.index(name) for name in filters]
    empty = arguments.new_zeros(n, 3)
    rows: list[Tensor] = []
    for i, name in enumerate(filters):
        if name not in reference.NEEDS_MEANS:
            rows.append(empty)
            continue
        before = torch.stack(rows, 1) if rows else arguments.new_zeros(n, 0, 3)
        if backend == "reference":
            wide = _as_float(_nchw(image, layout), arguments.dtype)
            row = reference.chain_means(wide, arguments[:, :i], before, filters[:i], quantized)
        else:
            row = _filters_library.chain_means(
                image, arguments[:, :i], before, codes[:i], layout == "NHWC", quantized, backend
            )
        rows.append(row)
    return torch.stack(rows, 1) if rows else arguments.new_zeros(n, k, 3)


def _nchw(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "NCHW" else tensor.permute(0, 3, 1, 2)


def _as_float(image: Tensor, dtype: torch.dtype) -> Tensor:
    return image.to(dtype) / _check.full_scale(image.dtype)


def _unit(mask: Tensor) -> Tensor:
    """A mask as float in [0,1]; uint16 has few operators, so it is converted first."""
    if mask.dtype in (torch.uint8, torch.uint16):
        return mask.float() / _check.full_scale(mask.dtype)
    return mask.float() if mask.dtype != torch.float64 else mask


def _reference_chain(
    image: Tensor, mask: Tensor | None, arguments: Tensor, statistics: Tensor,
    filters: Sequence[str], layout: str, strength: float, quantized: bool,
) -> Tensor:  # fmt: skip
    frame = _nchw(image, layout)
    v = _as_float(frame, arguments.dtype)
    if mask is None:
        m = v.new_full((1, 1, 1, 1), strength)
    else:
        m = _unit(_nchw(mask, layout)).to(v.dtype) * strength
    out = reference.filter_chain(v, m, arguments, statistics, filters, quantized)
    if image.is_floating_point():
        out = out.to(image.dtype)
    else:
        scale = _check.full_scale(image.dtype)
        out = (out * scale).round().to(torch.int32).to(image.dtype)
    return out if layout == "NCHW" else out.permute(0, 2, 3, 1)

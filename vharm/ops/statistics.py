# SPDX-License-Identifier: Apache-2.0
"""Colour statistics of a region, Gram matrices of tokens, and differences of neighbouring pixels.

Bytes moved per pixel by `masked_moments`: one read of the image and the mask, uint8 RGB with a
float mask 7 B, float32 16 B; the backward pass reads them once more and writes the gradients.
`masked_histogram` reads the same once; two operations a bin and sample are what it costs.
`patch_balance` reads the image once (float32 12 B), backward reads it and writes the gradient.
`gram` is K C^2 multiplications for K tokens of C channels, its gradient twice that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _backends, _check, _statistics_library
from .reference import statistics as reference


def masked_moments(
    image: Tensor, mask: Tensor | None, *, layout: str = "NCHW"
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of an image's colours, weighted by a mask.

    Args:
        image: RGB `[N,3,H,W]` (or `[N,H,W,3]`), uint8/uint16 full scale (taken as [0,1]) or float.
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale, or float in [0,1];
            None means all ones.
        layout: "NCHW" or "NHWC".

    Returns:
        `mean` `[N,3]`, `covariance` `[N,3,3]` (divided by the weight, not by weight - 1) and
        `weight` `[N]`, the mask's sum; float32 (float64 for float64 images), all zero where the
        mask is empty. On the CPU sums are in float64 and do not depend on the thread count.
        Gradients flow to `image` and `mask` (float ones); mean and covariance of an empty mask
        have none. Values that are not finite are ignored where the mask is 0.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "masked_moments"
    size = _check.image(op, image, layout)
    if mask is not None:
        _check.mask(op, mask, size, layout, image.device)
    chosen = _backends.choose(op, image.device, image.dtype)
    if chosen == "reference":
        return reference.masked_moments(*_planes(image, mask, layout))
    if mask is not None and mask.dtype == torch.float64:
        mask = mask.float()
    return _statistics_library.masked_moments(image, mask, layout == "NHWC", chosen)


def masked_histogram(
    image: Tensor, mask: Tensor | None, *, bins: int = 16, layout: str = "NCHW"
) -> Tensor:
    """Soft histogram of each channel of an image, weighted by a mask.

    Bin k stands for the value k / (bins - 1). A value, clamped to [0,1], is shared by the two
    nearest bins in proportion to its nearness, so that small changes of colour show.

    Args:
        image: RGB `[N,3,H,W]` (or `[N,H,W,3]`), uint8/uint16 full scale (taken as [0,1]) or float.
        mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale, or float in [0,1];
            None means all ones.
        bins: 2 or more.
        layout: "NCHW" or "NHWC".

    Returns:
        `[N,3,bins]` float32 (float64 for float64 images); each channel's sum to 1, or to 1e4 times
        the mask's sum where that is below 1e-4: all zero where the mask is empty. On the CPU the
        result does not depend on the thread count. Gradients flow to `image` and `mask` (float
        ones). A NaN is ignored where the mask is 0; elsewhere its channel's histogram holds NaN.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "masked_histogram"
    size = _check.image(op, image, layout)
    if mask is not None:
        _check.mask(op, mask, size, layout, image.device)
    if isinstance(bins, bool) or not isinstance(bins, int):
        raise TypeError(f"{op}: bins must be an int, got {type(bins).__name__}")
    if bins < 2:
        raise ValueError(f"{op}: bins must be 2 or more, got {bins}")
    chosen = _backends.choose(op, image.device, image.dtype)
    if chosen == "reference":
        return reference.masked_histogram(*_planes(image, mask, layout), bins)
    if mask is not None and mask.dtype == torch.float64:
        mask = mask.float()
    return _statistics_library.masked_histogram(image, mask, bins, layout == "NHWC", chosen)


def gram(tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Gram matrices of packed sequences, for losses that align feature statistics.

    With one sequence per clip this is the sum over its frames of F_t^T F_t (masked autoencoder for
    video harmonization, MM 2024, alignment loss).

    Args:
        tokens: `[K,C]`, float32, float16, bfloat16 or float64.
        cu_seqlens: int32 or int64 `[S+1]`, from 0 to K, never falling: sequence s is the rows
            `cu_seqlens[s]` to `cu_seqlens[s + 1]`. Checked on the CPU; on a GPU that would wait.

    Returns:
        `[S,C,C]` float32 (float64 for float64 tokens), accumulated in that type; zeros for an
        empty sequence. The C++ kernel's are exactly symmetric, others up to rounding. Gradients
        flow to `tokens`.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "gram"
    _check.has_dtype(op, "tokens", tokens, _check.FLOAT_DTYPES)
    _check.has_shape(op, "tokens", tokens, ("K", "C"))
    _check.cu_seqlens(op, cu_seqlens, tokens)
    chosen = _backends.choose(op, tokens.device, tokens.dtype)
    if chosen == "reference":
        return reference.gram(_as_float(tokens, tokens), cu_seqlens)
    return _statistics_library.gram(tokens, cu_seqlens.to(torch.int32), chosen)


def patch_balance(image: Tensor, *, reduction: str = "mean", layout: str = "NCHW") -> Tensor:
    """How much neighbouring pixels differ: the patch-balancing loss against visible patch borders.

    With v in [0,1] and Vx = v(y, x+1) - v(y, x), Vy = v(y+1, x) - v(y, x) inside the frame, the sum
    over pixels and channels of Vx^2 + Vy^2 (masked autoencoder for video harmonization, MM 2024).

    Args:
        image: RGB `[N,3,H,W]` (or `[N,H,W,3]`), uint8/uint16 full scale (taken as [0,1]) or float.
        reduction: "mean" divides the sum by 3 H W, the number of samples (not of differences, of
            which there are fewer); "sum" is the paper's literal sum.
        layout: "NCHW" or "NHWC".

    Returns:
        `[N]` float32 (float64 for float64 images); the paper's mean over frames is its `.mean()`.
        Zeros for images without pixels. On the CPU sums over rows are in float64 and do not depend
        on the thread count. Gradients flow to a float image.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    op = "patch_balance"
    _, height, width = _check.image(op, image, layout)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{op}: reduction must be mean or sum; got {reduction!r}")
    factor = 1.0 / max(3 * height * width, 1) if reduction == "mean" else 1.0
    chosen = _backends.choose(op, image.device, image.dtype)
    if chosen == "reference":
        return factor * reference.patch_balance(_as_float(_nchw(image, layout), image))
    return _statistics_library.patch_balance(image, factor, layout == "NHWC", chosen)


def _nchw(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "NCHW" else tensor.permute(0, 3, 1, 2)


def _planes(image: Tensor, mask: Tensor | None, layout: str) -> tuple[Tensor, Tensor]:
    """Image [N,3,H,W] and mask [N,1,H,W] as the reference takes them."""
    v = _as_float(_nchw(image, layout), image)
    if mask is None:
        return v, torch.ones_like(v[:, :1])
    return v, _nchw(mask, layout).to(v.dtype) / _check.full_scale(mask.dtype)


def _as_float(tensor: Tensor, image: Tensor) -> Tensor:
    wide = torch.float64 if image.dtype == torch.float64 else torch.float32
    return tensor.to(wide) / _check.full_scale(image.dtype)

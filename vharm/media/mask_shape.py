# SPDX-License-Identifier: Apache-2.0
"""Growing, shrinking and feathering a mask: with OpenCV where it is installed, else PyTorch."""

from __future__ import annotations

import math

import numpy as np


def shape_mask(
    mask: np.ndarray, *, grow: float = 0, feather: float = 0.0, backend: str | None = None
) -> np.ndarray:
    """Grow (or, below 0, shrink) a mask by a disc of that radius, then blur it.

    mask: [H,W] float32 in [0,1]. grow: pixels; grey dilation or erosion, beyond the border the
    mask counts as background for growing and as foreground for shrinking. feather: Gaussian
    sigma in pixels, the border repeated. backend: "cv2" or "torch"; None takes cv2 if there.
    """
    if backend is None:
        backend = "cv2" if _has_cv2() else "torch"
    if backend not in ("cv2", "torch"):
        raise ValueError(f'backend: expected "cv2" or "torch", got {backend!r}')
    if grow:
        dilate = _dilate_cv2 if backend == "cv2" else _dilate_torch
        mask = dilate(mask, grow) if grow > 0 else 1 - dilate(1 - mask, -grow)
    if feather:
        weights = _gaussian(feather)
        mask = (_blur_cv2 if backend == "cv2" else _blur_torch)(mask, weights)
    return np.clip(mask, 0, 1, dtype=np.float32)


def _has_cv2() -> bool:
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True


def _half_widths(radius: float) -> dict[int, int]:
    """For each row of the disc x^2 + y^2 <= radius^2, how far it reaches to each side."""
    reach = math.floor(radius)
    return {y: math.isqrt(int(radius * radius) - y * y) for y in range(-reach, reach + 1)}


def _gaussian(sigma: float) -> np.ndarray:
    reach = max(math.ceil(3 * sigma), 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _dilate_cv2(mask: np.ndarray, radius: float) -> np.ndarray:
    import cv2

    widths = _half_widths(radius)
    reach = max(widths)
    disc = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    for y, width in widths.items():
        disc[y + reach, reach - width : reach + width + 1] = 1
    return cv2.dilate(mask, disc)


def _dilate_torch(mask: np.ndarray, radius: float) -> np.ndarray:
    import torch
    from torch.nn import functional as F

    widths = _half_widths(radius)
    reach = max(widths)
    rows, columns = mask.shape
    image = torch.from_numpy(np.ascontiguousarray(mask))[None, None]
    image = F.pad(image, (0, 0, reach, reach))
    result = torch.zeros(1, 1, rows, columns)
    spread: dict[int, torch.Tensor] = {}
    for y, width in widths.items():
        if width not in spread:
            spread[width] = F.max_pool2d(image, (1, 2 * width + 1), 1, (0, width))
        result = torch.maximum(result, spread[width][:, :, reach + y : reach + y + rows])
    return result[0, 0].numpy()


def _blur_cv2(mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.sepFilter2D(mask, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_REPLICATE)


def _blur_torch(mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    import torch
    from torch.nn import functional as F

    reach = len(weights) // 2
    kernel = torch.from_numpy(weights)
    image = torch.from_numpy(np.ascontiguousarray(mask))[None, None]
    image = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    image = F.conv2d(image, kernel.view(1, 1, 1, -1))
    return F.conv2d(image, kernel.view(1, 1, -1, 1))[0, 0].numpy()

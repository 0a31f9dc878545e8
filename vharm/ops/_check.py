# SPDX-License-Identifier: Apache-2.0
"""Argument checks of the public ops: each message names the argument, what was expected, what came.

Checks run once, at the public edge, and build their text only when they fail (formatting a tensor
into a string waits for the GPU).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LAYOUTS = ("NCHW", "NHWC")
FLOAT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
IMAGE_DTYPES = (torch.uint8, torch.uint16, *FLOAT_DTYPES)
MASK_DTYPES = (torch.bool, *IMAGE_DTYPES)


def full_scale(dtype: torch.dtype) -> float:
    """The sample value that means 1.0."""
    return {torch.uint8: 255.0, torch.uint16: 65535.0}.get(dtype, 1.0)


def is_tensor(op: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(value).__name__}")


def has_dtype(op: str, name: str, tensor: Tensor, allowed: Sequence[torch.dtype]) -> None:
    if not isinstance(tensor, Tensor):
        is_tensor(op, name, tensor)
    if tensor.dtype not in allowed:
        expected = ", ".join(str(d).removeprefix("torch.") for d in allowed)
        raise TypeError(f"{op}: {name} must have dtype {expected}; got {tensor.dtype}")


def has_layout(op: str, layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"{op}: layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")


def has_shape(op: str, name: str, tensor: Tensor, expected: Sequence[int | str]) -> None:
    """`expected` mixes sizes and names of free dimensions, e.g. (n, "K")."""
    shape = tensor.shape
    if len(shape) == len(expected):
        for size, wanted in zip(shape, expected, strict=True):
            if size != wanted and not isinstance(wanted, str):
                break
        else:
            return
    sizes = ", ".join(str(e) for e in expected)
    raise ValueError(f"{op}: {name} must have shape [{sizes}], got {list(shape)}")


def on_device(op: str, name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{op}: {name} must be on {device} like the image, got {tensor.device}")


def image(op: str, tensor: Tensor, layout: str, *, name: str = "image") -> tuple[int, int, int]:
    """Checks an RGB image batch and returns (n, height, width)."""
    has_layout(op, layout)
    has_dtype(op, name, tensor, IMAGE_DTYPES)
    expected = ("N", 3, "H", "W") if layout == "NCHW" else ("N", "H", "W", 3)
    has_shape(op, name, tensor, expected)
    if layout == "NCHW":
        n, _, height, width = tensor.shape
    else:
        n, height, width, _ = tensor.shape
    return n, height, width


def mask(
    op: str, tensor: Tensor, size: tuple[int, int, int], layout: str, device: torch.device,
    *, name: str = "mask",
) -> None:  # fmt: skip
    """Checks a mask batch against an image's (n, height, width)."""
    has_dtype(op, name, tensor, MASK_DTYPES)
    n, height, width = size
    expected = (n, 1, height, width) if layout == "NCHW" else (n, height, width, 1)
    has_shape(op, name, tensor, expected)
    on_device(op, name, tensor, device)


def strength(op: str, value: float) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{op}: strength must be a number, got {type(value).__name__}")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{op}: strength must be in [0, 1], got {value}")
    return float(value)


def cu_seqlens(op: str, tensor: Tensor, tokens: Tensor) -> None:
    """Checks the bounds of packed sequences; their values only on the CPU, without waiting."""
    has_dtype(op, "cu_seqlens", tensor, (torch.int32, torch.int64))
    has_shape(op, "cu_seqlens", tensor, ("S+1",))
    if tensor.device != tokens.device:
        raise ValueError(
            f"{op}: cu_seqlens must be on {tokens.device} like the tokens, got {tensor.device}"
        )
    if tensor.shape[0] < 1:
        raise ValueError(f"{op}: cu_seqlens must have at least one element, got none")
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return
    values = tensor.tolist()
    if values[0] != 0 or values[-1] != tokens.shape[0] or values != sorted(values):
        raise ValueError(
            f"{op}: cu_seqlens must rise from 0 to the {tokens.shape[0]} tokens; got {values[:9]}"
        )

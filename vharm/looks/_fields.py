# SPDX-License-Identifier: Apache-2.0
"""Reading of hand-editable fields: each message names the key, what was expected, what came."""

from __future__ import annotations

import base64
import binascii
import difflib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vharm.finite import all_finite

PACKED_DTYPES = ("float16", "float32")


def nearest(word: object, known: Iterable[str]) -> str:
    """A hint such as " (did you mean 'contrast'?)", or nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def mapping(owner: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{owner}: expected an object of keys and values, got {_short(value)}")
    return value


def required(owner: str, data: Mapping[str, Any], key: str) -> Any:
    if key not in data:
        raise ValueError(f"{owner}: the key {key!r} is missing")
    return data[key]


def only(owner: str, data: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuses keys that mean nothing here: a misspelt key must not be ignored."""
    for key in data:
        if key not in known:
            raise ValueError(
                f"{owner}: unknown key {key!r}{nearest(key, known)}; known keys are "
                f"{', '.join(known)}"
            )


def number(owner: str, key: str, value: object, low: float, high: float) -> float:
    """A finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{owner}: {key} must be a number, got {_short(value)}")
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{owner}: {key} must be in [{low:g}, {high:g}], got {value}")
    return float(value)


def boolean(owner: str, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{owner}: {key} must be true or false, got {_short(value)}")
    return value


def triple(owner: str, key: str, value: object) -> tuple[float, float, float]:
    """Three finite numbers."""
    if (
        isinstance(value, (str, bytes, Mapping))
        or not isinstance(value, Sequence)
        or len(value) != 3
    ):
        raise ValueError(f"{owner}: {key} must be three numbers [r, g, b], got {_short(value)}")
    red, green, blue = (number(owner, key, v, -math.inf, math.inf) for v in value)
    return red, green, blue


def finite(owner: str, key: str, tensor: Tensor) -> None:
    """Refuses NaN and infinity; tensors of other devices are not waited for."""
    if tensor.device.type == "cpu" and not all_finite(tensor):
        raise ValueError(f"{owner}: {key} must be finite, got NaN or infinity")


def pack(tensor: Tensor, dtype: str) -> dict[str, Any]:
    """A tensor as {"shape", "dtype", "base64"}: little-endian samples in C order."""
    if dtype not in PACKED_DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(PACKED_DTYPES)}; got {dtype!r}")
    samples = tensor.detach().cpu().contiguous().numpy()
    if dtype == "float16":
        samples = samples.clip(-65504, 65504)
    raw = samples.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    return {
        "shape": list(tensor.shape),
        "dtype": dtype,
        "base64": base64.b64encode(raw).decode("ascii"),
    }


def unpack(owner: str, key: str, value: object) -> Tensor:
    """What `pack` made, or nested lists of numbers, as a float32 tensor."""
    if isinstance(value, Mapping):
        return _unpack_base64(f"{owner}: {key}", value)
    try:
        array = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: {key} must be nested lists of numbers or an object with shape, dtype and "
            f"base64, got {_short(value)}"
        ) from error
    return torch.from_numpy(array.copy())


def _unpack_base64(owner: str, value: Mapping[str, Any]) -> Tensor:
    only(owner, value, ("shape", "dtype", "base64"))
    shape = required(owner, value, "shape")
    dtype = required(owner, value, "dtype")
    text = required(owner, value, "base64")
    if dtype not in PACKED_DTYPES:
        raise ValueError(f"{owner}: dtype must be one of {', '.join(PACKED_DTYPES)}; got {dtype!r}")
    if not isinstance(shape, list) or not all(type(s) is int and s >= 0 for s in shape):
        raise ValueError(f"{owner}: shape must be a list of sizes, got {_short(shape)}")
    if not isinstance(text, str):
        raise ValueError(f"{owner}: base64 must be text, got {_short(text)}")
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{owner}: base64 is damaged: {error}") from error
    stored = np.dtype(dtype).newbyteorder("<")
    if len(raw) != math.prod(shape) * stored.itemsize:
        raise ValueError(
            f"{owner}: base64 holds {len(raw)} bytes, but shape {shape} of {dtype} needs "
            f"{math.prod(shape) * stored.itemsize}"
        )
    return torch.from_numpy(np.frombuffer(raw, stored).astype(np.float32).reshape(shape))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

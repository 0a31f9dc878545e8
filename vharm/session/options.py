# SPDX-License-Identifier: Apache-2.0
"""Checks of a Session's options, and the choice of its method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from ..ops import _backends

if TYPE_CHECKING:
    from ..methods import Method

TEMPORAL = ("per-frame", "smooth", "lock")


def check_options(
    *, strength: Any, temporal: Any, time_constant: Any, cut_threshold: Any, estimate_every: Any,
    batch: Any, backend: Any, device: Any, mask_threshold: Any,
) -> None:  # fmt: skip
    """Raises TypeError or ValueError naming the option."""
    _number("strength", strength, 0.0, 1.0)
    _number("time_constant", time_constant, 0.0, 1e9)
    _number("cut_threshold", cut_threshold, 0.0, math.inf)
    if temporal not in TEMPORAL:
        raise ValueError(f"temporal: expected one of {', '.join(TEMPORAL)}; got {temporal!r}")
    _number("mask_threshold", mask_threshold, 0.0, 1.0)
    _count("estimate_every", estimate_every)
    if batch is not None:
        _count("batch", batch)
    if backend is not None and backend not in _backends.names():
        names = ", ".join(_backends.names())
        raise ValueError(f"backend: expected one of {names}; got {backend!r}")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f'device: expected such as "cpu" or "cuda", got {device!r}') from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: {device} was asked for, but PyTorch sees no CUDA device")


def _number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low:g} to {high:g}, got {value}")


def _count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")


def choose_method(
    method: Any, weights: Any, device: torch.device, options: dict[str, Any]
) -> Method:
    """The method itself or the one of that name; weights go only to those that use them.

    A name may carry options, see `vharm.methods.spec`; those in `options` go before them.
    """
    from .. import methods
    from ..methods.spec import split_options

    if isinstance(method, methods.Method):
        if weights is not None or options:
            raise ValueError("method: is made already; give weights and options to its constructor")
        return method
    if method is not None and not isinstance(method, str):
        raise TypeError(
            "method: expected a name, a Method, a Look, a LookTrack or None, got "
            f"{type(method).__name__}"
        )
    name, own = split_options(methods.default_name() if method is None else method)
    options = {**own, **options}
    info = {row.name: row for row in methods.describe()}.get(name)
    if info is not None and info.needs_weights:
        options = {"device": device, **options}
        if weights is not None:
            options["weights"] = weights
    elif weights is not None and info is not None:
        raise ValueError(f"weights: the method {name!r} uses none, got {str(weights)!r}")
    return methods.get(name, **options)

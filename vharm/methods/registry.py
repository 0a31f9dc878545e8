# SPDX-License-Identifier: Apache-2.0
"""Which methods there are, by name."""

from __future__ import annotations

import difflib
import importlib.metadata
from dataclasses import dataclass
from typing import Any

from .base import Method
from .chen import ChenMethod
from .co2net import Co2NetMethod
from .harmonizer import HarmonizerMethod
from .histogram import Histogram
from .huang import HuangMethod
from .issam import IssamMethod
from .mkl import Mkl
from .reinhard import Reinhard
from .vhmae import VhmaeMethod

ENTRY_POINTS = "vharm.methods"

_methods: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class MethodInfo:
    """A row of `describe()`.

    `available` says whether `get(name)` works without options; `reason` why not. For a plug-in
    that cannot be loaded only `name` and `reason` say anything.
    """

    name: str
    summary: str
    when_to_use: str
    source: str
    licence: str
    weights_licence: str
    needs_weights: bool
    look_ahead: int
    available: bool
    reason: str | None


def register(cls: type[Method], *, replace: bool = False) -> type[Method]:
    """Adds a method class under its `name`; usable as a decorator.

    Raises:
        TypeError: not a class derived from `Method`. ValueError: no name, or the name is taken.
    """
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise TypeError(
            f"register: expected a class derived from vharm.methods.Method, got {cls!r}"
        )
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise ValueError(f"register: {cls.__name__} must have a name, got {name!r}")
    if not replace and _methods.get(name, cls) is not cls:
        raise ValueError(f"register: the name {name!r} is taken by {_methods[name].__qualname__}")
    _methods[name] = cls
    return cls


_OWN = (
    Mkl, Reinhard, Histogram, HarmonizerMethod, HuangMethod, IssamMethod, ChenMethod, Co2NetMethod,
    VhmaeMethod,
)  # fmt: skip
for _cls in _OWN:
    register(_cls)


def _plugins() -> dict[str, importlib.metadata.EntryPoint]:
    """Entry points of other packages, by name; a name taken here or twice is a fault."""
    return {e.name: e for e in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def _load(point: importlib.metadata.EntryPoint) -> type[Method]:
    """The plug-in's class.

    Raises:
        RuntimeError: it cannot be imported or is no method; the cause is chained.
    """
    try:
        cls = point.load()
    except Exception as error:  # a plug-in may fail in any way; it is told, not hidden
        raise RuntimeError(
            f"the method {point.name!r} ({point.value}) cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise RuntimeError(
            f"the method {point.name!r} ({point.value}) is not a class derived from "
            "vharm.methods.Method"
        )
    return cls


def names() -> list[str]:
    """All methods' names: the registered ones, then those of other packages."""
    return [*_methods, *(name for name in _plugins() if name not in _methods)]


def get(name: str, **options: Any) -> Method:
    """Makes a method.

    Args:
        name: one of `names()`.
        options: for the method's constructor, such as `weights=` for networks.

    Raises:
        TypeError: an option the method does not have. ValueError: unknown name. RuntimeError:
            a plug-in that cannot be loaded; methods without their weights raise `WeightsError`.
    """
    if not isinstance(name, str):
        raise TypeError(f"get: name must be text, got {type(name).__name__}")
    if name in _methods:
        return _methods[name](**options)
    plugins = _plugins()
    if name in plugins:
        return _load(plugins[name])(**options)
    known = names()
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"get: no method {name!r}{hint} (there are {', '.join(known)})")


def describe() -> list[MethodInfo]:
    """Every method with what it is, whether it can be used now, and if not, why."""
    rows = [_info(name, cls) for name, cls in _methods.items()]
    for name, point in _plugins().items():
        if name in _methods:
            reason = f"the name is taken; {point.value} is not used"
            rows.append(MethodInfo(name, "", "", point.value, "", "", False, 0, False, reason))
            continue
        try:
            rows.append(_info(name, _load(point)))
        except RuntimeError as error:
            rows.append(MethodInfo(name, "", "", point.value, "", "", False, 0, False, str(error)))
    return rows


def _info(name: str, cls: type[Method]) -> MethodInfo:
    reason = cls.why_not()
    return MethodInfo(
        name, cls.summary, cls.when_to_use, cls.source, cls.licence, cls.weights_licence,
        cls.needs_weights, cls.look_ahead, reason is None, reason,
    )  # fmt: skip


def default_name() -> str:
    """The method used where none is asked for: the first of the list that works as it is.

    Networks come before classical methods once their weights are shipped.
    """
    ready = [cls for cls in _methods.values() if cls.why_not() is None]
    trained = [cls for cls in ready if cls.needs_weights]
    return (trained or ready)[0].name

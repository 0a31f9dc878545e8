# SPDX-License-Identifier: Apache-2.0
"""Which implementation an op uses, and why.

Every op family registers an ordered list of candidates, each with a predicate that returns None
when the backend can run the request and otherwise the reason why not. The first that can is
chosen, once, at the public call; the name then travels in the op's schema, because a thread-local
context is not seen by autograd's threads.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Request:
    """What a candidate is asked about: the op, and the tensors' device and leading dtype."""

    op: str
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class Candidate:
    """One implementation of an op; `why_not` gives None when it can run the request."""

    name: str
    why_not: Callable[[Request], str | None]


@dataclass(frozen=True)
class Choice:
    """A row of `explain()`: what an op runs on, what else could, and why the rest cannot.

    `able` holds the backends that can run, best first; `backend` is the first of them.
    """

    op: str
    backend: str
    able: tuple[str, ...]
    reasons: dict[str, str]


_candidates: dict[str, tuple[Candidate, ...]] = {}
_forced: contextvars.ContextVar[str | None] = contextvars.ContextVar("vharm_backend", default=None)


def register(op: str, candidates: Sequence[Candidate]) -> None:
    """Declares an op's backends, best first; `reference` is always the last."""
    _candidates[op] = tuple(candidates)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Uses the named backend for every op called inside the block.

    Args:
        name: "reference", "cpp", "cuda" or "triton" (or one of those that `explain()` lists for a
            single op, such as "sdpa").

    Raises:
        ValueError: unknown name. An op that cannot run on the named backend raises RuntimeError
            with the reason; nothing falls back silently.
    """
    if name not in names():
        raise ValueError(f"backend: name must be one of {', '.join(names())}; got {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def names() -> tuple[str, ...]:
    """Every backend that some op has; the four kinds of vharm's own kernels first."""
    own = ("reference", "cpp", "cuda", "triton")
    found = {c.name: None for candidates in _candidates.values() for c in candidates}
    return (*own, *(name for name in found if name not in own))


def forced() -> str | None:
    """The backend asked for by the innermost `backend(...)` block, if any."""
    return _forced.get()


def choose(op: str, device: torch.device, dtype: torch.dtype) -> str:
    """The backend to use for an op on tensors of this device and leading dtype.

    Under torch.compile the choice is made while tracing and stays in the compiled graph.
    """
    request = Request(op, device, dtype)
    candidates = _candidates[op]
    name = _forced.get()
    if name is not None:
        for candidate in candidates:
            if candidate.name == name:
                if (reason := candidate.why_not(request)) is not None:
                    raise RuntimeError(f"{op}: backend {name!r} cannot run: {reason}")
                return name
        offered = ", ".join(c.name for c in candidates)
        raise RuntimeError(f"{op}: has no backend {name!r}; it has {offered}")
    for candidate in candidates:
        if candidate.why_not(request) is None:
            return candidate.name
    raise RuntimeError(f"{op}: no backend can run; see vharm.ops.explain()")


# What torch.compiler.assume_constant_result does, without its import of the whole compiler (and of
# triton), which would more than double the time of `import vharm`.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def explain(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> list[Choice]:
    """For every op, the backend it would use for tensors of this device and dtype, and why.

    Args:
        device: where the tensors would be.
        dtype: the image's dtype.

    Returns:
        One `Choice` per op; `reasons` holds, for each backend that cannot run, the reason.
    """
    rows = []
    for op, candidates in _candidates.items():
        request = Request(op, torch.device(device), dtype)
        reasons = {c.name: c.why_not(request) for c in candidates}
        able = tuple(name for name, reason in reasons.items() if reason is None)
        against = {name: reason for name, reason in reasons.items() if reason is not None}
        rows.append(Choice(op, able[0], able, against))
    return rows

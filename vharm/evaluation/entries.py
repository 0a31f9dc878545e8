# SPDX-License-Identifier: Apache-2.0
"""What is compared: methods with the way their Looks go over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..methods import Method
from ..session.options import TEMPORAL, choose_method

COMPOSITE = "composite"
"""The row every table starts with: the pasted picture as it is."""


@dataclass(frozen=True)
class Entry:
    """A row of the tables.

    Attributes:
        label: its name, unique.
        method: a Method, or None for the composite itself.
        temporal: as for `vharm.Session`.
        weights: the file the method was given, or "".
    """

    label: str
    method: Method | None = None
    temporal: str = "smooth"
    weights: str = ""


def make_entries(methods: Any, temporal: str, device: torch.device) -> list[Entry]:
    """The composite's row, then one for each method in the order given.

    Args:
        methods: names ("mkl"), names with a weights file ("harmonizer:best.safetensors"), either
            with a way over time of its own ("mkl@lock"), or `Method`s; one, a list, or a dict from
            labels to them.
        temporal: for those that name none.
        device: where networks run.

    Raises:
        TypeError, ValueError: naming what was expected and what came.
    """
    if temporal not in TEMPORAL:
        raise ValueError(f"temporal: expected one of {', '.join(TEMPORAL)}; got {temporal!r}")
    if isinstance(methods, str | Method):
        methods = [methods]
    if isinstance(methods, Mapping):
        pairs = [(str(label), spec) for label, spec in methods.items()]
    elif isinstance(methods, Iterable):
        pairs = [(None, spec) for spec in methods]
    else:
        raise TypeError(f"methods: expected names or Methods, got {type(methods).__name__}")
    entries, taken = [Entry(COMPOSITE)], {COMPOSITE}
    made: dict[tuple[str, str], Method] = {}
    for label, spec in pairs:
        if spec == COMPOSITE:
            continue
        entry = _entry(label, spec, temporal, device, made)
        if entry.label in taken:
            raise ValueError(f"methods: {entry.label} is given twice; give a dict with labels")
        taken.add(entry.label)
        entries.append(entry)
    return entries


def _entry(
    label: str | None, spec: Any, temporal: str, device: torch.device,
    made: dict[tuple[str, str], Method],
) -> Entry:  # fmt: skip
    if isinstance(spec, Method):
        return Entry(label or spec.name, spec, temporal)
    if not isinstance(spec, str):
        raise TypeError(f"methods: expected a name or a Method, got {type(spec).__name__}")
    rest, own, mode = spec.rpartition("@")
    if not own or (mode not in TEMPORAL and ":" in spec):
        rest, mode = spec, ""  # an @ inside the name of a weights file
    elif mode not in TEMPORAL:
        raise ValueError(f"methods: expected one of {', '.join(TEMPORAL)} behind the @ of {spec!r}")
    name, _, weights = rest.partition(":")
    if (name, weights) not in made:
        # One object for all its ways over time: a network is loaded once.
        made[name, weights] = choose_method(name, weights or None, device, {})
    short = f"{name}:{Path(weights).name}" if weights else name
    own_label = f"{short}@{mode}" if mode else short
    return Entry(label or own_label, made[name, weights], mode or temporal, weights)

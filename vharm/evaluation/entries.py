# SPDX-License-Identifier: Apache-2.0
"""What is compared: methods with the way their Looks go over time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..methods import Method
from ..methods.pixel import PixelMethod
from ..methods.spec import split_options
from ..session.options import TEMPORAL, choose_method

COMPOSITE = "composite"
"""The row every table starts with: the pasted picture as it is."""
RAW = ("given", "zero", "one", "predicted")
"""Masks a painting network can be shown when its own picture is scored, see `Entry.raw`."""
MASKS = ("given", "found")
_LABEL = re.compile(r"([\w .-]+)=(?=\w)")


@dataclass(frozen=True)
class Entry:
    """A row of the tables.

    Attributes:
        label: its name, unique.
        method: a Method, or None for the composite itself.
        temporal: as for `vharm.Session`.
        weights: the file the method was given, or "".
        raw: "" scores what `vharm.harmonize` gives. Otherwise what the network itself paints is
            scored, at its working size and not composited, as some papers' tables have it: shown
            the "given" mask, one that is all "zero" or all "one", or the one it "predicted".
    """

    label: str
    method: Method | None = None
    temporal: str = "smooth"
    weights: str = ""
    raw: str = ""
    finds_masks: bool = False


def make_entries(methods: Any, temporal: str, device: torch.device) -> list[Entry]:
    """The composite's row, then one for each method in the order given.

    Args:
        methods: names ("mkl"), names with a weights file ("harmonizer:best.safetensors"), either
            with a way over time of its own ("mkl@lock") and options of the method behind it
            ("huang@lock+look=residual"; "+raw=given" and "+masks=found" are those of `Entry`) and
            a label before it ("mine=harmonizer:best.safetensors"), or `Method`s; one, a list, or
            a dict from labels to them.
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
    made: dict[tuple[Any, ...], Method] = {}
    for label, spec in pairs:
        if spec == COMPOSITE:
            continue
        entry = _entry(label, spec, temporal, device, made)
        if entry.label in taken:
            raise ValueError(
                f"methods: {entry.label} is given twice; give them labels: LABEL={entry.label}"
            )
        taken.add(entry.label)
        entries.append(entry)
    return entries


def _entry(
    label: str | None, spec: Any, temporal: str, device: torch.device,
    made: dict[tuple[Any, ...], Method],
) -> Entry:  # fmt: skip
    if isinstance(spec, Method):
        return Entry(label or spec.name, spec, temporal)
    if not isinstance(spec, str):
        raise TypeError(f"methods: expected a name or a Method, got {type(spec).__name__}")
    own = _LABEL.match(spec)
    if own and label is None:
        label, spec = own[1], spec[own.end() :]
    bare, options = split_options(spec)
    tail = spec[len(bare) :]
    rest, own, mode = bare.rpartition("@")
    if not own or (mode not in TEMPORAL and ":" in bare):
        rest, mode = bare, ""  # an @ inside the name of a weights file
    elif mode not in TEMPORAL:
        raise ValueError(f"methods: expected one of {', '.join(TEMPORAL)} behind the @ of {spec!r}")
    name, _, weights = rest.partition(":")
    raw, masks = options.pop("raw", ""), options.pop("masks", MASKS[0])
    key = (name, weights, *sorted(options.items()))
    if key not in made:
        # One object for all its ways over time: a network is loaded once.
        made[key] = choose_method(name, weights or None, device, options)
    short = f"{name}:{Path(weights).name}" if weights else name
    own_label = (f"{short}@{mode}" if mode else short) + tail
    _check_raw(raw, made[key], spec)
    _check_masks(masks, made[key], spec)
    return Entry(
        label or own_label, made[key], mode or temporal, weights, raw, finds_masks=masks == "found"
    )


def _check_raw(raw: str, method: Method, spec: str) -> None:
    if not raw:
        return
    if raw not in RAW:
        raise ValueError(f"methods: expected raw to be one of {', '.join(RAW)} in {spec!r}")
    if not isinstance(method, PixelMethod):
        raise ValueError(f"methods: {method.name} paints no picture, so that {spec!r} has no raw")
    if raw == "predicted" and not method.predicts_masks:
        raise ValueError(f"methods: the weights of {spec!r} predict no masks")


def _check_masks(masks: str, method: Method, spec: str) -> None:
    if masks not in MASKS:
        raise ValueError(f"methods: expected masks to be one of {', '.join(MASKS)} in {spec!r}")
    if masks == "found" and not method.predicts_masks:
        raise ValueError(f"methods: that of {spec!r} cannot find masks")

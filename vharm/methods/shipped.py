# SPDX-License-Identifier: Apache-2.0
"""Weights that come with vharm: one file a network, beside its model card."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "weights"


def shipped(name: str) -> Path:
    """Where the weights of a network of this name are, or would be."""
    return FOLDER / f"{name}.safetensors"


def why_missing(name: str) -> str | None:
    """None where they are there, else what to do about it."""
    if shipped(name).is_file():
        return None
    return (
        f"{name}: this installation comes without trained weights; give a file with `--weights "
        f"FILE` or `weights=` (`vharm train {name}` makes one), or use a method that needs none: "
        "mkl, reinhard or histogram"
    )


def chosen(name: str, given: str | PathLike[str] | None) -> Path:
    """The file given, or the one that comes with vharm.

    Raises:
        vharm.models.weights.WeightsError: neither is there.
    """
    from vharm.models.weights import WeightsError

    if given is not None:
        return Path(given)
    reason = why_missing(name)
    if reason is not None:
        raise WeightsError(reason)
    return shipped(name)

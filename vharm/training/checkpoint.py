# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: whole or not there, and read without running anything they hold."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Any

import torch

LAST = "last.pt"
BEST = "best.pt"
FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that is missing or cannot be used; the message names the file."""


def save(path: str | PathLike[str], state: dict[str, Any]) -> None:
    """Writes tensors and plain values; a reader never sees half a file."""
    path = Path(path)
    # One process writes here; what a killed one left is overwritten by the next.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: str | PathLike[str]) -> dict[str, Any]:
    """Reads what `save` wrote, onto the CPU.

    Raises:
        CheckpointError: no such file, damaged, or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets in a damaged file
        raise CheckpointError(f"{path}: unreadable or truncated: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected a training checkpoint of format {FORMAT}")
    return state

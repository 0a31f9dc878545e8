# SPDX-License-Identifier: Apache-2.0
"""Going on with a training without repeating its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from . import checkpoint
from .config import TrainingConfig, make_config
from .recipe import Recipe


def continued(
    recipe: type[Recipe], given: TrainingConfig, file: str | PathLike[str] | None,
    settings: Iterable[str], values: Mapping[str, Any],
) -> TrainingConfig:  # fmt: skip
    """The settings of the training in `given.output`, with what was given now on top.

    The trainer refuses those that may not differ; see `trainer.FREE_SETTINGS`.

    Args:
        recipe: what is trained.
        given: made of `file`, `settings` and `values` alone.
        file, settings, values: as for `make_config`.

    Raises:
        CheckpointError: no training there. ConfigError: as `make_config`.
    """
    state = checkpoint.load(Path(given.output) / checkpoint.LAST)
    kept = state["config"] if state["recipe"] == recipe.name else {}
    return make_config(recipe.config_class, file, settings, values, base=kept)

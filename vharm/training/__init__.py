# SPDX-License-Identifier: Apache-2.0
"""One trainer for every method, and the recipes."""

from .checkpoint import CheckpointError
from .config import ConfigError, TrainingConfig, make_config, to_toml
from .export import export_weights
from .recipe import Figure, Recipe, register
from .registry import get as get_recipe
from .registry import names as recipe_names
from .resuming import continued
from .trainer import Outcome, Trainer, TrainingDivergedError

__all__ = [
    "CheckpointError",
    "ConfigError",
    "Figure",
    "Outcome",
    "Recipe",
    "Trainer",
    "TrainingConfig",
    "TrainingDivergedError",
    "continued",
    "export_weights",
    "get_recipe",
    "make_config",
    "recipe_names",
    "register",
    "to_toml",
]

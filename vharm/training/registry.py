# SPDX-License-Identifier: Apache-2.0
"""Which methods can be trained, by name."""

from __future__ import annotations

import difflib

from . import recipes  # noqa: F401  (registers them)
from .config import ConfigError
from .recipe import RECIPES, Recipe


def names() -> list[str]:
    """Methods that can be trained."""
    return list(RECIPES)


def get(name: str) -> type[Recipe]:
    """The recipe of a method.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"no recipe for {name!r}{hint} (there are {', '.join(RECIPES)})")

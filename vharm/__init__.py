# SPDX-License-Identifier: Apache-2.0
"""vharm: match a pasted foreground's colours to its background, in videos and pictures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import ops
from ._version import __version__
from .api import composite, get_include, harmonize

if TYPE_CHECKING:
    from . import data, evaluation, looks, media, methods, models, session
    from .looks import (
        FilterLook,
        Look,
        LookTrack,
        LutLook,
        ResidualLook,
        Smoother,
        load_look,
        lock,
        save_look,
    )  # fmt: skip
    from .session import Report, Session

# Imported when first asked for: `import vharm` must work, and be quick, without media libraries.
_LAZY = {
    "Session": "session", "Report": "session", "Look": "looks", "FilterLook": "looks",
    "LutLook": "looks", "ResidualLook": "looks", "LookTrack": "looks", "Smoother": "looks",
    "lock": "looks", "load_look": "looks", "save_look": "looks",
}  # fmt: skip
_MODULES = ("data", "evaluation", "looks", "media", "methods", "models", "session")

__all__ = [
    "FilterLook",
    "Look",
    "LookTrack",
    "LutLook",
    "Report",
    "ResidualLook",
    "Session",
    "Smoother",
    "__version__",
    "composite",
    "data",
    "evaluation",
    "get_include",
    "harmonize",
    "load_look",
    "lock",
    "looks",
    "media",
    "methods",
    "models",
    "ops",
    "save_look",
    "session",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

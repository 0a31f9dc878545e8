# SPDX-License-Identifier: Apache-2.0
"""Data: readers of published and home-made layouts, and composites synthesised from photographs."""

from __future__ import annotations

import importlib
from typing import Any

from .types import DataSet, Sample, SampleSet, Scene, SceneSet

# Imported when first asked for: the types above are all that most importers want.
_LAZY = {
    "Archive": "archive", "BorrowedMasks": "borrowed", "Chosen": "joined", "Clip": "clips",
    "CloseUps": "close_up", "Dancing": "dancing", "DataError": "errors", "draw_mask": "borrowed",
    "FileSamples": "clips", "FileScenes": "clips", "fill_hole": "inpaint", "inspect": "inspection",
    "Joined": "joined", "LAYOUTS": "layouts", "load_luts": "luts", "Lut": "luts",
    "open_data": "open", "open_photos": "open", "pack": "packing", "Problem": "clips",
    "RealComposite": "real_composite", "Recoloured": "recolour", "UnmaskedPhotos": "clips",
    "Windows": "joined", "write_composites": "real_composite",
}  # fmt: skip

__all__ = [
    "LAYOUTS",
    "Archive",
    "BorrowedMasks",
    "Chosen",
    "Clip",
    "CloseUps",
    "Dancing",
    "DataError",
    "DataSet",
    "FileSamples",
    "FileScenes",
    "Joined",
    "Lut",
    "Problem",
    "RealComposite",
    "Recoloured",
    "Sample",
    "SampleSet",
    "Scene",
    "SceneSet",
    "UnmaskedPhotos",
    "Windows",
    "draw_mask",
    "fill_hole",
    "inspect",
    "load_luts",
    "open_data",
    "open_photos",
    "pack",
    "write_composites",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

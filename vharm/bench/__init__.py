# SPDX-License-Identifier: Apache-2.0
"""How fast the way from file to file is on this machine, beside what it would be without vharm."""

from .cases import PRESET, Case, Clip, default_cases
from .clip import RATE, SIZES, make_clip
from .difference import Agreement, Interpolation, agreement, interpolation
from .measure import Measured, Share, measure, peak_memory, run_apart
from .table import as_data, limit, lines, table

__all__ = [
    "PRESET",
    "RATE",
    "SIZES",
    "Agreement",
    "Case",
    "Clip",
    "Interpolation",
    "Measured",
    "Share",
    "agreement",
    "as_data",
    "default_cases",
    "interpolation",
    "limit",
    "lines",
    "make_clip",
    "measure",
    "peak_memory",
    "run_apart",
    "table",
]

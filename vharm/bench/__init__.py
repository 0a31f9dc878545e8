# SPDX-License-Identifier: Apache-2.0
"""How fast the way from file to file is on this machine, beside what it would be without vharm."""

from .cases import Case, default_cases
from .clip import SIZES, make_clip
from .difference import agreement, holding
from .measure import Measured, Share, measure
from .table import limit, table

__all__ = [
    "SIZES",
    "Case",
    "Measured",
    "Share",
    "agreement",
    "default_cases",
    "holding",
    "limit",
    "make_clip",
    "measure",
    "table",
]

# SPDX-License-Identifier: Apache-2.0
"""A clip's way: read, estimate Looks at working size, smooth them, apply them, write."""

from .compare import COMPARISONS
from .cuts import CUT_THRESHOLD, CutDetector
from .mask_free import MASK_THRESHOLD
from .options import TEMPORAL
from .report import Report
from .session import Session
from .stages import Trace

__all__ = [
    "COMPARISONS",
    "CUT_THRESHOLD",
    "MASK_THRESHOLD",
    "TEMPORAL",
    "CutDetector",
    "Report",
    "Session",
    "Trace",
]

# SPDX-License-Identifier: Apache-2.0
"""Metrics under the published protocols, tables, reports and rankings."""

from __future__ import annotations

from .accumulate import BINS, Figure, Mean
from .metrics import fmse, fssim, mse, psnr, ssim, ssim_map
from .protocol import METRICS, PROTOCOLS, Metric, Protocol
from .rank import Ranking, rank, read_choices
from .report import write_report
from .result import ClipRow, Evaluation
from .run import evaluate
from .table import as_csv, as_json, as_markdown
from .temporal import colour_change, flicker, regional, tl, tl_weights

__all__ = [
    "BINS",
    "METRICS",
    "PROTOCOLS",
    "ClipRow",
    "Evaluation",
    "Figure",
    "Mean",
    "Metric",
    "Protocol",
    "Ranking",
    "as_csv",
    "as_json",
    "as_markdown",
    "colour_change",
    "evaluate",
    "flicker",
    "fmse",
    "fssim",
    "mse",
    "psnr",
    "rank",
    "read_choices",
    "regional",
    "ssim",
    "ssim_map",
    "tl",
    "tl_weights",
    "write_report",
]

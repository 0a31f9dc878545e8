# SPDX-License-Identifier: Apache-2.0
"""The same figures as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from typing import TYPE_CHECKING, Any

from .accumulate import Figure
from .entries import COMPOSITE
from .protocol import METRICS
from .result import Evaluation, Figures

if TYPE_CHECKING:
    from rich.table import Table

MISSING = "–"


def cell(figure: Figure | None, metric: str, *, error: bool = False) -> str:
    """A mean with the metric's digits, and its standard error where wanted and known."""
    if figure is None:
        return MISSING
    digits = METRICS[metric].digits
    text = f"{figure.mean:.{digits}f}"
    return f"{text} ± {figure.error:.{digits}f}" if error and figure.error is not None else text


def text_table(evaluation: Evaluation, figures: Figures | None = None, title: str = "") -> Table:
    """A table for `rich.console.Console.print`: arrows say what is better, the best is bold.

    Args:
        figures: `evaluation.totals` by default; or those of a subset or a bin.
        title: above it.
    """
    from rich.table import Table
    from rich.text import Text

    figures = evaluation.totals if figures is None else figures
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for name in evaluation.metrics:
        table.add_column(METRICS[name].heading, justify="right", no_wrap=True)
    if evaluation.improved:
        table.add_column("improved ↑", justify="right", no_wrap=True)
    for label in evaluation.methods:
        row: list[Any] = [Text(label)]
        for name in evaluation.metrics:
            best = evaluation.best(figures, name) == label
            value = cell(figures.get(label, {}).get(name), name)
            row.append(Text(value, style="bold" if best else ""))
        if evaluation.improved:
            row.append(improved(evaluation, label))
        table.add_row(*row)
    return table


def improved(evaluation: Evaluation, label: str) -> str:
    """The share of clips a method made better, as a table shows it."""
    share = evaluation.improved.get(label)
    return MISSING if share is None else f"{100 * share:.0f} %"


def bins_header(evaluation: Evaluation) -> tuple[str | None, list[str]]:
    """The metric shown by foreground's share, and the bins that have frames."""
    metric = next((n for n in ("fMSE", "MSE", "PSNR", "SSIM", "fSSIM") if n in evaluation.metrics),
                  None)  # fmt: skip
    return metric, list(evaluation.bins) if metric else []


def notes(evaluation: Evaluation) -> list[str]:
    """What must be known to read the figures, a sentence each."""
    e = evaluation
    frames = f"{e.clips} pictures" if e.frames == e.clips else f"{e.clips} clips, {e.frames} frames"
    lines = [f"{frames}; protocol {e.protocol.name}: {e.protocol.sentence()}."]
    if e.empty:
        lines.append(f"{e.empty} frames have an empty mask; they are left out of every mean.")
    for label, count in e.exact.items():
        if count:
            lines.append(f"{label}: {count} frames equal the true answer; they have no PSNR.")
    if e.flow:
        listed = ", ".join(f"{name} ({count} clips)" for name, count in e.flow.items())
        lines.append(
            f"Motion for TL and L_T: {listed}; between consecutive frames of each clip (published "
            "tables use other pairs and FlowNet2, so their TL is another number)."
        )
    if e.improved:
        lines.append("improved: share of clips whose fMSE is below the composite's.")
    return lines + [f"{text[0].upper()}{text[1:]}." for text in e.warnings]


def as_markdown(evaluation: Evaluation) -> str:
    """Tables of totals, subsets and bins, with standard errors, and the notes."""
    parts = [_markdown_table(evaluation, evaluation.totals, with_improved=True)]
    for name, figures in evaluation.subsets.items():
        parts += ["", f"## {name}", "", _markdown_table(evaluation, figures)]
    metric, names = bins_header(evaluation)
    if metric:
        parts += ["", f"## {METRICS[metric].heading} by the foreground's share of the frame", "",
                  _markdown_bins(evaluation, metric, names)]  # fmt: skip
    parts += ["", "Mean ± standard error over clips; the best is bold.", ""]
    parts += [f"- {line}" for line in notes(evaluation)]
    return "\n".join(parts) + "\n"


def _markdown_table(evaluation: Evaluation, figures: Figures, *, with_improved=False) -> str:
    with_improved = with_improved and bool(evaluation.improved)
    heads = ["method", *(METRICS[n].heading for n in evaluation.metrics)]
    rows = []
    for label in evaluation.methods:
        row = [label.replace("|", "\\|")]
        for name in evaluation.metrics:
            text = cell(figures.get(label, {}).get(name), name, error=True)
            row.append(f"**{text}**" if evaluation.best(figures, name) == label else text)
        rows.append(row + ([improved(evaluation, label)] if with_improved else []))
    return _markdown(heads + (["improved ↑"] if with_improved else []), rows)


def _markdown_bins(evaluation: Evaluation, metric: str, names: list[str]) -> str:
    counts = [f"{name} ({_frames(evaluation.bins[name], metric)} frames)" for name in names]
    rows = []
    for label in evaluation.methods:
        row = [label.replace("|", "\\|")]
        for name in names:
            figures = evaluation.bins[name]
            text = cell(figures.get(label, {}).get(metric), metric, error=True)
            row.append(f"**{text}**" if evaluation.best(figures, metric) == label else text)
        rows.append(row)
    return _markdown(["method", *counts], rows)


def _frames(figures: Figures, metric: str) -> int:
    """Frames of a bin, from the composite's row."""
    figure = figures.get(COMPOSITE, {}).get(metric)
    return 0 if figure is None else figure.count


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_csv(evaluation: Evaluation) -> str:
    """One line for each clip and method; a metric that is not defined there is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["clip", "subset", "method", "frames", "empty_masks", "foreground_ratio",
                     *evaluation.metrics, "seconds", "flow"])  # fmt: skip
    for row in evaluation.rows:
        scores = [_number(row.scores.get(name)) for name in evaluation.metrics]
        writer.writerow([row.clip, row.subset, row.method, row.frames, row.empty,
                         _number(row.ratio), *scores, f"{row.seconds:.4f}", row.flow])  # fmt: skip
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"


def as_json(evaluation: Evaluation) -> str:
    """Everything but the pictures."""
    e = evaluation
    data = {
        "protocol": dataclasses.asdict(e.protocol), "settings": e.settings,
        "clips": e.clips, "frames": e.frames, "empty_masks": e.empty, "methods": e.methods,
        "metrics": [dataclasses.asdict(METRICS[name]) for name in e.metrics],
        "totals": _figures(e.totals),
        "subsets": {name: _figures(figures) for name, figures in e.subsets.items()},
        "foreground_bins": {name: _figures(figures) for name, figures in e.bins.items()},
        "improved": e.improved, "exact_frames": e.exact, "flow": e.flow,
        "seconds": {"note": "of estimating and applying; not a benchmark", **e.seconds},
        "notes": notes(e), "markdown": as_markdown(e),
        "per_clip": [dataclasses.asdict(row) for row in e.rows],
    }  # fmt: skip
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _figures(figures: Figures) -> dict[str, Any]:
    for row in figures.values():
        for name, figure in row.items():
            if not math.isfinite(figure.mean):
                raise ValueError(f"{name}: the mean is {figure.mean}, expected a number")
    return {
        label: {
            name: {**dataclasses.asdict(figure), "interval95": figure.interval}
            for name, figure in row.items()
        }
        for label, row in figures.items()
    }

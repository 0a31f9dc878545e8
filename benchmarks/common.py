# SPDX-License-Identifier: Apache-2.0
"""How every benchmark here measures.

Correctness first: a subject is compared with the expected result before it is timed. All subjects
of a table run in one process, interleaved round by round, so that a slow moment of the machine
hits all of them; reported are medians and interquartile ranges, and ratios to the first subject.
The yardstick is a plain copy of the same bytes between buffers too large for the cache.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
THREADS = 2
"""For everybody, where the fixture `two_threads` is used."""


@dataclass
class Subject:
    """One implementation: `run` does the work; `check` is called once with what it returned."""

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], None] | None = None
    rounds: int | None = None  # slow peers need not run as often


@dataclass
class Row:
    """One line of a table; times in milliseconds."""

    name: str
    median_ms: float
    iqr_ms: float
    rounds: int
    ratio: float = 1.0  # this median over the first subject's: above 1 is slower


@dataclass
class Table:
    """A finished comparison."""

    title: str
    rows: list[Row]
    copy_ms: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        """How many times the named subject's median is the first one's."""
        return next(row.ratio for row in self.rows if row.name == name)

    def text(self) -> str:
        """The table as it is printed."""
        width = max(len(row.name) for row in self.rows)
        lines = [self.title, f"  {'':{width}}  {'median':>10}  {'IQR':>8}  {'ratio':>7}  x copy"]
        for row in self.rows:
            copies = f"{row.median_ms / self.copy_ms:6.1f}" if self.copy_ms else "     -"
            lines.append(
                f"  {row.name:{width}}  {row.median_ms:7.2f} ms  {row.iqr_ms:5.2f} ms  "
                f"{row.ratio:6.2f}x {copies}"
            )
        for key, value in self.notes.items():
            lines.append(f"  {key}: {value}")
        return "\n".join(lines)


def compare(
    title: str, subjects: Sequence[Subject], *, rounds: int, device: torch.device,
    copy_bytes: int | None = None, **notes: Any,
) -> Table:  # fmt: skip
    """Checks every subject, then times them interleaved; the first is what ratios refer to."""
    for subject in subjects:
        result = subject.run()
        if subject.check is not None:
            subject.check(result)
        del result
    times: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for i in range(rounds + 1):
        for subject in subjects:
            if i > (subject.rounds if subject.rounds is not None else rounds):
                continue
            elapsed = once(subject.run, device)
            if i > 0:  # the first round warms up
                times[subject.name].append(elapsed)
    rows = []
    for name, values in times.items():
        spread = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        rows.append(
            Row(name, statistics.median(values) * 1e3, (spread[2] - spread[0]) * 1e3, len(values))
        )
    for row in rows:
        row.ratio = row.median_ms / rows[0].median_ms
    copy = copy_time(copy_bytes, device) * 1e3 if copy_bytes else None
    return Table(title, rows, copy, dict(notes))


def once(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, the device's queue empty before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def copy_time(size: int, device: torch.device) -> float:
    """Seconds to copy `size` bytes between buffers too large for the cache (median of 5)."""
    big = max(size, 512 << 20)
    source = torch.zeros(big, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    values = [once(lambda: target.copy_(source), device) for _ in range(6)][1:]
    return statistics.median(values) * size / big


def peak_extra(run: Callable[[], Any]) -> int:
    """Bytes of tensor memory a call holds at its peak, beyond what was there before (CPU)."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()
    del result
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on."""
    from vharm import __version__

    facts: dict[str, Any] = {
        "vharm": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": _cpu_model(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "date": time.strftime("%Y-%m-%d"),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")


def publish(family: str, tables: Sequence[Table], device: torch.device, *, keep: bool) -> None:
    """Prints the tables; with `keep` also writes JSON and a plot under benchmarks/results."""
    for table in tables:
        print("\n" + table.text())
    if not keep:
        return
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{family}-{device.type}"
    content = {"machine": machine(device), "tables": [asdict(table) for table in tables]}
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    plot(stem.with_suffix(".png"), tables)


def plot(path: Path, tables: Sequence[Table]) -> None:
    """Bars of each table's medians, on a logarithmic axis; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    heights = [len(table.rows) for table in tables]
    figure, axes = pyplot.subplots(
        len(tables), 1, figsize=(8, 1.2 + 0.45 * sum(heights)), height_ratios=heights, squeeze=False
    )
    for axis, table in zip(axes[:, 0], tables, strict=True):
        names = [row.name for row in table.rows][::-1]
        values = [row.median_ms for row in table.rows][::-1]
        colors = ["#8aa"] * (len(names) - 1) + ["#c62"]
        axis.barh(names, values, color=colors)
        axis.set_xscale("log")
        axis.set_title(table.title, fontsize=9, loc="left")
        # The bars carry their numbers; those between powers of ten would run into each other.
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.tick_params(labelsize=8)
        for y, value in enumerate(values):
            axis.text(value, y, f" {value:.2f} ms", va="center", fontsize=7)
        axis.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

# SPDX-License-Identifier: Apache-2.0
"""Methods on a data set, scored while it streams by."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from .._version import __version__
from ..data.types import Sample
from .accumulate import Totals
from .entries import COMPOSITE, Entry, make_entries
from .gallery import choose_clips, picture_clips
from .harmonized import harmonized
from .protocol import METRICS, Protocol, choose_metrics, choose_protocol
from .resize import read_sample
from .result import ClipRow, Evaluation
from .scores import ClipScores, Prepared, prepare, score

BATCH_PIXELS = 16 * 256 * 256
"""How many pixels of pictures of one size go through a method together."""

Progress = Callable[[int, "int | None", str], None]


def evaluate(
    data: Any, methods: Any, *, protocol: str | Protocol = "vharm", temporal: str = "smooth",
    size: int | tuple[int, int] | None = None, rounded: bool | None = None, device: Any = None,
    metrics: Iterable[str] | None = None, limit: int | None = None, keep_images: int = 0,
    progress: Progress | None = None, about: dict[str, Any] | None = None,
) -> Evaluation:  # fmt: skip
    """Scores methods on composites, one clip in memory at a time.

    Each method gets every clip as `vharm.harmonize` would: estimated at the method's working
    size, applied at the clip's own, with the same smoothing over time. The row "composite", the
    input itself, always comes first.

    Args:
        data: a `vharm.data.DataSet` of Samples (anything with `len` and positions).
        methods: names ("mkl"), with a weights file ("harmonizer:best.safetensors"), with a way
            over time of their own ("mkl@lock"), `Method`s, or a dict from labels to such.
        protocol: "vharm", "co2net" or a `Protocol`.
        temporal: "smooth", "per-frame" or "lock", as for `vharm.Session`, for methods that name
            none. Pictures (clips of one frame) have no time.
        size: side in pixels, or (height, width), samples are resized to; None keeps the
            protocol's: as they are for "vharm", 256 for "co2net".
        rounded: whether results are rounded to 8 bits, as files are; None keeps the protocol's.
        device: where methods run; None is the CPU. Metrics are computed on the CPU.
        metrics: names out of `METRICS`; None takes all that the data allow.
        limit: use the first so many samples.
        keep_images: for how many clips pictures are made at the end (worst, median and best of
            each method in turn); those clips are read and harmonized again.
        progress: called as progress(done, total, stage) after every clip, stage "evaluate" or
            "pictures".
        about: what to say of the data in the settings: path, split, seed and so on.

    Returns:
        Means with standard errors, in all, by subset and by the foreground's share of the frame;
        and every clip's.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
        ImportError: motion must be estimated and OpenCV is missing.
        vharm.models.weights.WeightsError: a network without, or with unusable, weights.
    """
    chosen = choose_protocol(protocol, size=size, rounded=rounded)
    names = choose_metrics(metrics)
    where = torch.device("cpu" if device is None else device)
    for name, value, least in (("limit", limit, 1), ("keep_images", keep_images, 0)):
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f"{name}: expected {least} or more, got {value!r}")
    count = _length(data)
    count = count if limit is None else min(count, limit)
    run = _Run(make_entries(methods, temporal, where), chosen, names, where)
    for done in run.all(data, count):
        if progress is not None:
            progress(done, count, "evaluate")
    settings = {"temporal": temporal, "device": str(where), "data": dict(about or {}),
                "limit": limit, "weights": {e.label: e.weights for e in run.entries if e.weights},
                "versions": versions()}  # fmt: skip
    result = run.result(settings)
    picked = choose_clips(result, keep_images)
    if picked:
        result.gallery = picture_clips(picked, data, run.entries, chosen, where, progress)
    return result


def _length(data: Any) -> int:
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise TypeError(f"data: expected a DataSet of Samples, got {type(data).__name__}")
    if len(data) == 0:
        raise ValueError("data: expected at least one sample, got none")
    return len(data)


def versions() -> dict[str, str]:
    """Of what computed the numbers."""
    found = {"vharm": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for package in ("numpy", "opencv-python-headless"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class _Run:
    """One evaluation under way."""

    def __init__(
        self, entries: list[Entry], protocol: Protocol, metrics: tuple[str, ...],
        device: torch.device,
    ) -> None:  # fmt: skip
        self.entries, self.protocol, self.metrics, self.device = entries, protocol, metrics, device
        self.totals = Totals()
        self.rows: list[ClipRow] = []
        self.clips = self.frames = self.empty = 0
        self.exact = {entry.label: 0 for entry in entries}
        self.seconds = {entry.label: 0.0 for entry in entries}
        self.flow: dict[str, int] = {}
        self.warnings: list[str] = []
        self._names: set[str] = set()

    def all(self, data: Any, count: int) -> Iterator[int]:
        """Scores everything; yields how many samples are done."""
        for batch in self._batches(data, count):
            self._score(batch)
            yield self.clips

    def _batches(self, data: Any, count: int) -> Iterator[list[Sample]]:
        """Clips one at a time; consecutive pictures of one size together."""
        held: list[Sample] = []
        for index in range(count):
            sample = read_sample(data, index, self.protocol)
            if sample.name in self._names:
                raise ValueError(f"data: the name {sample.name!r} stands twice in the set")
            self._names.add(sample.name)
            shape = sample.composite.shape
            joins = held and shape[0] == 1 and shape == held[0].composite.shape
            room = (len(held) + 1) * math.prod(shape[2:]) <= BATCH_PIXELS
            if held and not (joins and room):
                yield held
                held = []
            held.append(sample)
        if held:
            yield held

    def _score(self, batch: list[Sample]) -> None:
        prepared = [prepare(sample, self.protocol, self.metrics) for sample in batch]
        for one in prepared:
            self.clips += 1
            self.frames += len(one.masks)
            self.empty += one.empty
            if one.flow is not None:
                self.flow[one.flow.estimator] = self.flow.get(one.flow.estimator, 0) + 1
        by_method = []
        for entry in self.entries:
            outputs, seconds, notes = harmonized(entry, batch, self.device, self.protocol.rounded)
            self.seconds[entry.label] += seconds
            self.warnings += [n for n in dict.fromkeys(notes) if n not in self.warnings]
            each = seconds / len(batch)
            rows = []
            for one, output in zip(prepared, outputs, strict=True):
                scores = score(one, output, self.protocol, self.metrics)
                rows.append(self._row(entry, one, scores, each))
            by_method.append(rows)
        for rows in zip(*by_method, strict=True):
            self.rows += rows

    def _row(self, entry: Entry, one: Prepared, scores: ClipScores, seconds: float) -> ClipRow:
        self.totals.add(entry.label, one.sample.subset, scores.values, scores.ratios)
        self.exact[entry.label] += scores.exact
        means = {name: math.fsum(v) / len(v) for name, v in scores.values.items()}
        ratio = math.fsum(scores.ratios) / max(1, len(scores.ratios))
        return ClipRow(
            one.sample.name, one.sample.subset, entry.label, len(one.masks), one.empty, ratio,
            means, seconds, "" if one.flow is None else one.flow.estimator,
        )  # fmt: skip

    def result(self, settings: dict[str, Any]) -> Evaluation:
        """The figures of all that was scored."""
        totals, subsets, bins = self.totals.figures()
        there = {metric for row in totals.values() for metric in row}
        return Evaluation(
            protocol=self.protocol, methods=[entry.label for entry in self.entries],
            metrics=[name for name in METRICS if name in there], totals=totals, subsets=subsets,
            bins=bins, rows=self.rows, clips=self.clips, frames=self.frames, empty=self.empty,
            exact=self.exact, improved=_improved(self.rows), seconds=self.seconds, flow=self.flow,
            settings=settings, warnings=self.warnings,
        )  # fmt: skip


def _improved(rows: list[ClipRow]) -> dict[str, float]:
    """By method, the share of clips whose fMSE is below the composite's."""
    before = {r.clip: r.scores["fMSE"] for r in rows
              if r.method == COMPOSITE and "fMSE" in r.scores}  # fmt: skip
    better: dict[str, list[bool]] = {}
    for row in rows:
        if row.method != COMPOSITE and row.clip in before:
            better.setdefault(row.method, []).append(row.scores["fMSE"] < before[row.clip])
    return {method: sum(found) / len(found) for method, found in better.items()}

# SPDX-License-Identifier: Apache-2.0
"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .accumulate import Figure
from .gallery import GalleryClip
from .protocol import METRICS, Protocol

Figures = dict[str, dict[str, Figure]]
"""Means by method and metric."""


@dataclass(frozen=True)
class ClipRow:
    """One method on one clip.

    Attributes:
        clip: the sample's name.
        subset: the sample's.
        method: the method's label.
        frames: frames of the clip.
        empty: those whose mask is empty; they were left out.
        ratio: mean share of the frame that is foreground, over those that were not.
        scores: mean by metric over frames, pairs or the clip; a metric that is not defined on this
            clip is missing.
        seconds: of estimating and applying; 0 for the composite.
        flow: what the motion was taken from, or "".
    """

    clip: str
    subset: str
    method: str
    frames: int
    empty: int
    ratio: float
    scores: dict[str, float]
    seconds: float
    flow: str


@dataclass
class Evaluation:
    """The outcome of `evaluate`.

    Attributes:
        protocol: how the metrics were computed.
        methods: labels, "composite" first.
        metrics: columns that have a value somewhere.
        totals: by method and metric, over everything.
        subsets: the same for each subset of the data.
        bins: the same by the foreground's share of the frame; metrics over frames only.
        rows: by clip and method, in the order of the data.
        clips: how many.
        frames: how many, empty masks included.
        empty: frames whose mask is empty.
        exact: by method, frames that equal the true answer (they have no PSNR).
        improved: by method, the share of clips whose fMSE is below the composite's; empty where
            there are no true answers.
        seconds: by method, of estimating and applying all frames: no benchmark, as the machine may
            have been busy and nothing was warmed up.
        flow: what motion was taken from, with how many clips.
        settings: what was asked for, and the versions of what computed it.
        warnings: sentences, each once.
        gallery: pictures of a few clips.
    """

    protocol: Protocol
    methods: list[str]
    metrics: list[str]
    totals: Figures
    subsets: dict[str, Figures]
    bins: dict[str, Figures]
    rows: list[ClipRow]
    clips: int
    frames: int
    empty: int
    exact: dict[str, int]
    improved: dict[str, float]
    seconds: dict[str, float]
    flow: dict[str, int]
    settings: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    gallery: list[GalleryClip] = field(default_factory=list)

    def best(self, figures: Figures, metric: str) -> str | None:
        """The label with the best mean, as tables show it; None where two share it.

        The composite takes part: it has the steadiest colours there can be.
        """
        digits, sign = METRICS[metric].digits, 1 if METRICS[metric].better == "lower" else -1
        means = sorted(
            (sign * round(figures[name][metric].mean, digits), name)
            for name in self.methods
            if metric in figures.get(name, {})
        )
        if not means or (len(means) > 1 and means[0][0] == means[1][0]):
            return None
        return means[0][1]

    def main_metric(self) -> str | None:
        """The column clips are compared by: fMSE where there are true answers."""
        for name in ("fMSE", "MSE", "PSNR", "SSIM", "fSSIM", "TL", "L_T1", "L_T2", "flicker"):
            if name in self.metrics:
                return name
        return None

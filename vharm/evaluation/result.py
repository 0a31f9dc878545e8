# SPDX-License-Identifier: Apache-2.0
"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .accumulate import Figure
from .protocol import METRICS, Protocol

Figures = dict[str, dict[str, Figure]]
"""Means by method and metric."""


@dataclass(frozen=True)
class GalleryClip:
    """One clip in pictures, all of one size.

    Attributes:
        clip: the sample's name.
        subset: the sample's.
        reasons: why it is shown, such as "worst of mkl".
        method: the one to show first.
        frame: which frame is shown: the one with the largest foreground error of `method`.
        frames: how many there are.
        ratio: the foreground's share of that frame.
        composite: uint8 [h,w,3].
        target: uint8 [h,w,3], or None.
        mask: uint8 [h,w].
        outputs: by method (without the composite), uint8 [h,w,3].
        errors: by method, float32 [h,w], 0 to 255: mean over channels of the distance to the
            target; to the composite where there is no target.
        scores: by method and metric, means over the clip.
        series: for clips, by name and method, one number for each frame, None where its mask is
            empty: "fMSE" and "change", the mean foreground luma after minus before.
    """

    clip: str
    subset: str
    reasons: tuple[str, ...]
    method: str
    frame: int
    frames: int
    ratio: float
    composite: np.ndarray
    target: np.ndarray | None
    mask: np.ndarray
    outputs: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    scores: dict[str, dict[str, float]]
    series: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)


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

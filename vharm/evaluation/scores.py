# SPDX-License-Identifier: Apache-2.0
"""All metrics of one clip's result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.types import Sample
from . import metrics as m
from . import temporal as t
from .flow import ClipFlow, clip_flow
from .protocol import Protocol

TEMPORAL_METRICS = ("TL", "L_T1", "L_T2")


@dataclass(frozen=True)
class Prepared:
    """A sample with what all methods' scores share.

    Attributes:
        sample: at the protocol's size.
        masks: float32 [T,1,H,W] in [0,1].
        keep: indices of frames with a foreground.
        ratios: share of the frame that is foreground, [T].
        flow: between frames, or None for pictures and where no metric needs it.
        weights: of the temporal loss, [T-1,1,H,W], or None.
    """

    sample: Sample
    masks: Tensor
    keep: list[int]
    ratios: list[float]
    flow: ClipFlow | None
    weights: Tensor | None

    @property
    def empty(self) -> int:
        """How many frames have no foreground."""
        return len(self.masks) - len(self.keep)


@dataclass(frozen=True)
class ClipScores:
    """One method's metrics on one clip.

    Attributes:
        values: by metric, one number for each frame with a foreground (`Metric.over` "frame"), for
            each pair of frames with one, or for the clip.
        ratios: the foreground's share of those frames, beside the values over frames.
        exact: frames that equal the true answer: they have no PSNR.
    """

    values: dict[str, list[float]]
    ratios: list[float]
    exact: int


def prepare(sample: Sample, protocol: Protocol, metrics: tuple[str, ...]) -> Prepared:
    """What is computed once for a sample; `sample` must have the protocol's size.

    Raises:
        ImportError, ValueError: a flow is needed and cannot be estimated; see `clip_flow`.
    """
    masks = sample.masks.float() / 255
    keep = m.has_foreground(masks, protocol).nonzero().flatten().tolist()
    flow = weights = None
    if len(masks) > 1 and keep and any(name in metrics for name in TEMPORAL_METRICS):
        flow = clip_flow(sample)
        if "TL" in metrics:
            reference = sample.composite if sample.target is None else sample.target
            weights = t.tl_weights(reference, masks, flow.flow)
    ratios = masks.mean((1, 2, 3)).tolist()
    return Prepared(sample, masks, keep, ratios, flow, weights)


def score(
    prepared: Prepared, output: Tensor, protocol: Protocol, metrics: tuple[str, ...]
) -> ClipScores:
    """Scores an output, float [T,3,H,W], 0 to 255; it is clamped to that first.

    Frames with an empty mask are left out of everything.
    """
    output = output.clamp(0, 255)
    output = output.round() if protocol.rounded else output
    values: dict[str, list[float]] = {}
    exact = 0
    if prepared.sample.target is not None:
        for number in prepared.keep:
            found = _frame(prepared, output, number, protocol, metrics)
            if math.isinf(found.get("PSNR", 0.0)):
                exact += 1
                del found["PSNR"]
            for name, value in found.items():
                values.setdefault(name, []).append(value)
    values.update(_over_time(prepared, output, metrics))
    return ClipScores(values, [prepared.ratios[n] for n in prepared.keep], exact)


def _frame(
    prepared: Prepared, output: Tensor, number: int, protocol: Protocol, metrics: tuple[str, ...]
) -> dict[str, float]:
    """The metrics of one frame."""
    one = slice(number, number + 1)
    out, truth = output[one], prepared.sample.target[one].float()
    masks = prepared.masks[one]
    found: dict[str, Tensor] = {}
    if "MSE" in metrics:
        found["MSE"] = m.mse(out, truth)
    if "fMSE" in metrics:
        found["fMSE"] = m.fmse(out, truth, masks, protocol)
    if "PSNR" in metrics:
        found["PSNR"] = m.psnr(out, truth, protocol)
    if "SSIM" in metrics or "fSSIM" in metrics:
        similarity = m.ssim_map(out, truth, protocol)
        found["SSIM"] = m.ssim_of(similarity)
        found["fSSIM"] = m.fssim_of(similarity, masks)
    return {name: float(value) for name, value in found.items() if name in metrics}


def _over_time(
    prepared: Prepared, output: Tensor, metrics: tuple[str, ...]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    flow = prepared.flow
    if flow is not None:
        if prepared.weights is not None:
            found["TL"] = _finite(t.tl(output, prepared.weights, flow.flow))
        name = "L_T1" if flow.exact else "L_T2"
        if name in metrics:
            found[name] = _finite(t.regional(output, prepared.masks, flow.flow, flow.valid))
    if len(output) > 1 and prepared.keep:
        kept = prepared.keep
        before = prepared.sample.composite[kept].float()
        for name, beside in (("flicker", before), ("drift", torch.zeros_like(before))):
            if name not in metrics:
                continue
            value = t.flicker(t.colour_change(output[kept], beside, prepared.masks[kept]))
            if value is not None:
                found[name] = [value]
    return {name: values for name, values in found.items() if values}


def _finite(values: Tensor) -> list[float]:
    return values[torch.isfinite(values)].tolist()

# SPDX-License-Identifier: Apache-2.0
"""Pictures of the clips that say most: the worst, the median and the best of each method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.types import Sample
from .entries import COMPOSITE, Entry
from .harmonized import harmonized
from .metrics import has_foreground
from .protocol import METRICS, Protocol
from .resize import read_sample
from .result import Evaluation, GalleryClip
from .scores import prepare, score
from .temporal import colour_change

SHOWN_SIDE = 400
"""Longer side, in pixels, of pictures in a report."""

LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Chosen:
    """A clip to be shown: its position in the data, and why."""

    index: int
    reasons: tuple[str, ...]
    method: str
    scores: dict[str, dict[str, float]]


def choose_clips(result: Evaluation, count: int) -> list[Chosen]:
    """At most `count` clips: worst, median and best of each method in turn, then next to those."""
    metric = result.main_metric()
    methods = [name for name in result.methods if name != COMPOSITE] or [COMPOSITE]
    if count == 0 or metric is None:
        return []
    sign = 1 if METRICS[metric].better == "lower" else -1
    place: dict[str, int] = {}
    scores: dict[str, dict[str, dict[str, float]]] = {}
    order: dict[str, list[tuple[float, str]]] = {name: [] for name in methods}
    for row in result.rows:
        place.setdefault(row.clip, len(place))
        scores.setdefault(row.clip, {})[row.method] = row.scores
        if row.method in order and metric in row.scores:
            order[row.method].append((sign * row.scores[metric], row.clip))
    for entries in order.values():
        entries.sort()
    chosen: dict[str, tuple[list[str], str]] = {}
    for rank in range(max(map(len, order.values()))):
        for kind in ("worst", "median", "best"):
            for name in methods:
                _take(chosen, order[name], rank, kind, name, count)
        if len(chosen) >= count:
            break
    return [
        Chosen(place[clip], tuple(reasons), method, scores[clip])
        for clip, (reasons, method) in chosen.items()
    ]


def _take(
    chosen: dict[str, tuple[list[str], str]], order: list[tuple[float, str]], rank: int, kind: str,
    name: str, count: int,
) -> None:  # fmt: skip
    if rank >= len(order):
        return
    middle = (len(order) - 1) // 2
    position = {"worst": len(order) - 1 - rank, "median": (middle + rank) % len(order),
                "best": rank}[kind]  # fmt: skip
    clip = order[position][1]
    reason = f"{kind} of {name}" if rank == 0 else ""
    if clip in chosen:
        if reason:
            chosen[clip][0].append(reason)
    elif len(chosen) < count:
        chosen[clip] = ([reason or f"among the {kind} of {name}"], name)


def picture_clips(
    chosen: list[Chosen], data: Any, entries: list[Entry], protocol: Protocol,
    device: torch.device, progress: Any = None,
) -> list[GalleryClip]:  # fmt: skip
    """Reads and harmonizes the chosen clips again, and keeps pictures of one frame of each."""
    found = []
    for number, one in enumerate(chosen):
        sample = read_sample(data, one.index, protocol)
        outputs = {}
        for entry in entries:
            outputs[entry.label] = harmonized(entry, [sample], device, protocol.rounded)[0][0]
        found.append(_pictured(one, sample, outputs, protocol))
        if progress is not None:
            progress(number + 1, len(chosen), "pictures")
    return found


def _pictured(
    one: Chosen, sample: Sample, outputs: dict[str, Tensor], protocol: Protocol
) -> GalleryClip:
    masks = sample.masks.float() / 255
    series = _series(sample, masks, outputs, protocol)
    frame = _frame_to_show(series, one.method, masks, protocol)
    truth = (sample.composite if sample.target is None else sample.target)[frame].float()
    errors = {
        label: _shown((output[frame] - truth).abs().mean(0, keepdim=True))[0].numpy()
        for label, output in outputs.items()
    }
    target = None if sample.target is None else _picture(sample.target[frame])
    return GalleryClip(
        clip=sample.name, subset=sample.subset, reasons=one.reasons, method=one.method,
        frame=frame, frames=len(masks), ratio=float(masks[frame].mean()),
        composite=_picture(sample.composite[frame]), target=target,
        mask=_picture(sample.masks[frame])[..., 0],
        outputs={k: _picture(v[frame]) for k, v in outputs.items() if k != COMPOSITE},
        errors=errors, scores=one.scores, series=series if len(masks) > 1 else {},
    )  # fmt: skip


def _series(
    sample: Sample, masks: Tensor, outputs: dict[str, Tensor], protocol: Protocol
) -> dict[str, dict[str, list[float | None]]]:
    prepared = prepare(sample, protocol, ("fMSE",))
    series: dict[str, dict[str, list[float | None]]] = {}
    for label, output in outputs.items():
        values = score(prepared, output, protocol, ("fMSE",)).values.get("fMSE", [])
        if values:
            series.setdefault("fMSE", {})[label] = _spread(values, prepared.keep, len(masks))
        change = colour_change(
            output[prepared.keep], sample.composite[prepared.keep].float(), masks[prepared.keep]
        )
        luma = (change @ change.new_tensor(LUMA)).tolist()
        series.setdefault("change", {})[label] = _spread(luma, prepared.keep, len(masks))
    return series


def _spread(values: list[float], places: list[int], length: int) -> list[float | None]:
    out: list[float | None] = [None] * length
    for place, value in zip(places, values, strict=True):
        out[place] = value
    return out


def _frame_to_show(
    series: dict[str, dict[str, list[float | None]]], method: str, masks: Tensor,
    protocol: Protocol,
) -> int:  # fmt: skip
    values = series.get("fMSE", {}).get(method)
    if values is not None:
        return max(range(len(values)), key=lambda i: -1.0 if values[i] is None else values[i])
    kept = has_foreground(masks, protocol).nonzero().flatten().tolist()
    return kept[len(kept) // 2] if kept else 0


def _shown(image: Tensor) -> Tensor:
    """`[C,H,W]` float, no larger than a report shows it."""
    height, width = image.shape[1:]
    scale = SHOWN_SIDE / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def _picture(image: Tensor) -> np.ndarray:
    """uint8 [h,w,C] of `[C,H,W]`, 0 to 255."""
    small = _shown(image.float()).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(small.permute(1, 2, 0).numpy())

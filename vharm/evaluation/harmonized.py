# SPDX-License-Identifier: Apache-2.0
"""Results of a method, made on the way a user's clip goes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..data.types import Sample
from ..media import Mask
from ..session import CUT_THRESHOLD, Report, Session
from ..session.sources import Collector, MemoryReader
from .entries import Entry

WORK = ("thumbnails", "estimate", "apply")
"""The stages of a Session whose times are reported; the rest is copying in memory."""


def harmonized(
    entry: Entry, samples: list[Sample], device: torch.device, rounded: bool
) -> tuple[list[Tensor], float, list[str]]:
    """What `vharm.harmonize` makes of each sample.

    Args:
        entry: the method.
        samples: one clip; or several pictures of one size, which are done in batches.
        device: where.
        rounded: give the method uint8 frames, and get such, instead of floats.

    Returns:
        For each sample its result, float32 [T,3,H,W], 0 to 255, on the CPU; seconds of estimating
        and applying for all; warnings.
    """
    if entry.method is None:
        return [sample.composite.float() for sample in samples], 0.0, []
    if len(samples) > 1 and entry.method.look_ahead:
        # To a method that looks ahead pictures side by side would be a clip.
        parts = [harmonized(entry, [sample], device, rounded) for sample in samples]
        notes = [note for part in parts for note in part[2]]
        return [part[0][0] for part in parts], sum(part[1] for part in parts), notes
    frames = torch.cat([sample.composite for sample in samples])
    masks = torch.cat([sample.masks for sample in samples])
    stills = all(len(sample.composite) == 1 for sample in samples)
    session = Session(
        entry.method, temporal="per-frame" if stills else entry.temporal, device=device,
        cut_threshold=math.inf if stills else CUT_THRESHOLD,
    )  # fmt: skip
    out, report = _run(session, frames if rounded else frames.float() / 255, masks)
    out = out.float() if rounded else out * 255
    seconds = sum(report.stages.get(stage, 0.0) for stage in WORK)
    notes = [note for note in report.warnings if note != _EMPTY]
    return list(out.split([len(s.composite) for s in samples])), seconds, notes


def _run(session: Session, frames: Tensor, masks: Tensor) -> tuple[Tensor, Report]:
    reader = MemoryReader(frames, "NCHW")
    writer = Collector(reader)
    # Masks of a Sample are full scale whatever their maximum is: nothing is to be guessed.
    report = session.run(reader, [Mask(mask[0]) for mask in masks], writer, threads=False)
    return writer.result(), report


# Empty masks are counted by the tables themselves.
_EMPTY = "every mask is empty: nothing was changed"

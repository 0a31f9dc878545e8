# SPDX-License-Identifier: Apache-2.0
"""Results of a method, made on the way a user's clip goes."""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.types import Sample
from ..media import Mask
from ..methods.pixel import PixelMethod
from ..session import CUT_THRESHOLD, Report, Session
from ..session.mask_free import NothingFoundError
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
    if entry.raw:
        return _painted(entry, samples, device)
    neighbours = entry.method.look_ahead or entry.method.shot() is not None
    if len(samples) > 1 and neighbours:
        # To a method that sees neighbouring frames pictures side by side would be a clip.
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
    given = None if entry.finds_masks else masks
    try:
        out, report = _run(session, frames if rounded else frames.float() / 255, given)
    except NothingFoundError:
        note = f"{entry.label} finds nothing pasted in some of the clips, which stay as they were"
        return [sample.composite.float() for sample in samples], 0.0, [note]
    out = out.float() if rounded else out * 255
    seconds = sum(report.stages.get(stage, 0.0) for stage in WORK)
    # How sure each clip's masks are is for whoever harmonizes that clip.
    notes = [] if entry.finds_masks else [note for note in report.warnings if note != _EMPTY]
    return list(out.split([len(s.composite) for s in samples])), seconds, notes


@torch.no_grad()
def _painted(
    entry: Entry, samples: list[Sample], device: torch.device
) -> tuple[list[Tensor], float, list[str]]:
    """What the network paints by itself, brought to the frames' size; nothing is composited."""
    method, start, results = entry.method, time.perf_counter(), []
    assert isinstance(method, PixelMethod)
    for sample in samples:
        size = tuple(sample.composite.shape[2:])
        work = method.working_size(*size)
        frames, masks = (
            _sized(picture.to(device).float() / 255, work)
            for picture in (sample.composite, sample.masks)
        )
        if entry.raw in ("zero", "one"):
            masks = torch.full_like(masks, float(entry.raw == "one"))
        elif entry.raw == "predicted":
            masks = method.predict_masks(frames)
        if method.shot() is not None:
            painted = method.render(frames, masks)
        else:  # one at a time: clips are long
            painted = torch.cat([method.render(f[None], m[None]) for f, m in
                                 zip(frames, masks, strict=True)])  # fmt: skip
        results.append(_sized(painted.float().clamp(0, 1), size).cpu() * 255)
    return results, time.perf_counter() - start, []


def _sized(picture: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(picture.shape[2:]) == tuple(size):
        return picture
    return F.interpolate(picture, size, mode="bilinear", align_corners=False, antialias=True)


def _run(session: Session, frames: Tensor, masks: Tensor | None) -> tuple[Tensor, Report]:
    reader = MemoryReader(frames, "NCHW")
    writer = Collector(reader)
    # Masks of a Sample are full scale whatever their maximum is: nothing is to be guessed.
    given = None if masks is None else [Mask(mask[0]) for mask in masks]
    report = session.run(reader, given, writer, threads=False)
    return writer.result(), report


# Empty masks are counted by the tables themselves.
_EMPTY = "every mask is empty: nothing was changed"

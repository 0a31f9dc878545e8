# SPDX-License-Identifier: Apache-2.0
"""What a run found out: counts, times, cuts, and how much the result flickers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..looks import Look

Progress = Callable[[int, "int | None", str], None]
"""Called as progress(done, total, stage) after every frame; total is None where the length is
unknown, stage is "estimate" (the first pass of temporal="lock") or "harmonize"."""


@dataclass
class Report:
    """The outcome of `Session.run`.

    Attributes:
        method: name of the method, or "look" / "look track" where Looks were given.
        temporal: "per-frame", "smooth" or "lock"; "given" where Looks were given.
        frames: frames written; as many as were read.
        seconds: wall time of the whole run, decoding and encoding included.
        stages: seconds spent in "decode", "mask" (reading it), "thumbnails", "estimate", "apply"
            and "encode" (and in "masks", where they were found); they overlap, as decoding (with
            thumbnails) and encoding run in threads of their own.
        estimated: frames on which a Look was estimated (see `Session`, `estimate_every`); 0 where
            Looks were given.
        empty_masks: frames whose mask was all zero; they passed through untouched.
        copied: frames that were untouched and are in the output as they came, not encoded again;
            only of codecs whose pictures stand alone (ProRes, MJPEG).
        cuts: indices of frames that begin a new shot.
        flicker: standard deviation over time, within shots, of the mean foreground colour's
            change (output minus input, root mean square over R, G, B, on a 0-255 scale); None
            for fewer than two frames with a foreground.
        looks: one line about the Looks that were applied.
        look: the Look of the whole clip, where there is one (temporal="lock" or a given Look).
        mask_confidence: where the method found the masks itself, how far its map stands out: mean
            inside minus mean outside, 0 to 1, over the frames in which it found something; None
            where masks were given.
        mask_area: share of the picture those masks take; None where masks were given.
        warnings: sentences worth a user's attention.
    """

    method: str = ""
    temporal: str = ""
    frames: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    estimated: int = 0
    empty_masks: int = 0
    copied: int = 0
    cuts: list[int] = field(default_factory=list)
    flicker: float | None = None
    looks: str = ""
    look: Look | None = None
    mask_confidence: float | None = None
    mask_area: float | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def fps(self) -> float:
        """Frames a second, end to end."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        parts = [
            f"{self.method}, {self.temporal}: {self.frames} frames in {self.seconds:.2f} s "
            f"({self.fps:.1f} frames/s)"
        ]
        if 0 < self.estimated < self.frames - self.empty_masks:
            parts.append(f"estimated on {self.estimated} of them")
        if self.mask_confidence is not None:
            parts.append(f"masks found with confidence {self.mask_confidence:.2f}")
        if self.flicker is not None:
            parts.append(f"flicker {self.flicker:.3f}")
        if self.cuts:
            parts.append(f"{len(self.cuts)} cuts")
        if self.empty_masks:
            parts.append(f"{self.empty_masks} frames with an empty mask")
        return "; ".join(parts)

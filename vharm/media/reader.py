# SPDX-License-Identifier: Apache-2.0
"""Readers: what every source of frames offers, and the one door to open any of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from .frame import ColorSpec, Frame


@dataclass
class Template:
    """What a writer takes over from a source besides its pixels.

    path is None where the source is no file. ``cut`` is (start, end) in the container's own
    seconds, for copying the other streams; end is None for "to the end".
    """

    path: Path | None = None
    codec: str | None = None
    profile: str | None = None
    pixel_format: str | None = None
    time_base: Fraction | None = None
    frame_rate: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    sample_aspect_ratio: Fraction | None = None
    interlaced: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    stream_metadata: dict[str, str] = field(default_factory=dict)
    chapters: list[Any] = field(default_factory=list)
    stream_index: int | None = None
    cut: tuple[Fraction, Fraction | None] | None = None
    names: list[str] | None = None  # file names of an image sequence


class Reader:
    """A source of frames: iterate it, use it in ``with``, ask it for sizes.

    width, height: pixels as stored, before any rotation. frame_rate: mean rate, or None.
    frame_count: an estimate where ``frame_count_exact`` is False; None if unknown.
    duration: seconds or None. color: the first frame's. rotation: degrees counter-clockwise to
    turn the picture for display. has_alpha: frames carry alpha. reiterable: iterating again
    starts from the beginning. still: one picture without a place in time. gives_away: whoever is
    given a frame is the only one who has it. inputs: the files that are read.
    """

    # Of the class, as readers that wrap another, and may keep its frames, take over what it has.
    gives_away = False

    def __init__(self, width: int, height: int, color: ColorSpec, template: Template) -> None:
        self.width = width
        self.height = height
        self.color = color
        self.template = template
        self.path: Path | None = template.path
        self.inputs: list[Path] = [template.path] if template.path else []
        self.frame_rate: Fraction | None = template.frame_rate
        self.frame_count: int | None = None
        self.frame_count_exact = False
        self.duration: float | None = None
        self.rotation = 0
        self.has_audio = False
        self.has_alpha = False
        self.reiterable = True
        self.still = False
        self.streams: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the files held open; a closed reader may be iterated no more."""

    def info(self) -> str:
        """Describe the source in one line."""
        parts = [str(self.path) if self.path else "frames in memory"]
        parts.append(f"{self.width}x{self.height}")
        if self.frame_rate:
            parts.append(f"{float(self.frame_rate):.6g} frames/s")
        if self.frame_count is not None:
            about = "" if self.frame_count_exact else "about "
            parts.append(f"{about}{self.frame_count} frame{'s' if self.frame_count != 1 else ''}")
        if self.duration is not None and not self.still:
            parts.append(f"{self.duration:.3f} s")
        parts.append(self.color.describe())
        if self.has_alpha:
            parts.append("alpha")
        if self.rotation:
            parts.append(f"rotated {self.rotation} degrees")
        return ", ".join(parts + self.streams)


def rate_of(value: Any, name: str = "frame_rate") -> Fraction | None:
    """Turn a number, a Fraction or text such as "30000/1001" into a frame rate.

    Raises TypeError or ValueError naming the argument.
    """
    if value is None:
        return None
    try:
        rate = Fraction(value)
    except TypeError:
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}") from None
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"{name}: expected a positive number, got {value!r}") from None
    if rate <= 0:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    # 29.97 typed as a decimal means 30000/1001 to every editor.
    for whole in (24, 30, 48, 60, 120):
        if isinstance(value, float | str) and abs(rate - Fraction(whole * 1000, 1001)) < 0.005:
            return Fraction(whole * 1000, 1001)
    return rate.limit_denominator(100000)

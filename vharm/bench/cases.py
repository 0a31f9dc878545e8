# SPDX-License-Identifier: Apache-2.0
"""What is measured: the ways a clip can go from file to file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CRF = 23
PRESET = "veryfast"
"""How cases encode, with H.264, unless they say otherwise."""
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower",
           "veryslow")  # fmt: skip

EAGER_METHOD = "harmonizer"
"""The method whose work the eager peer does."""


@dataclass(frozen=True)
class Case:
    """One way from file to file.

    Attributes:
        kind: "copy" (decode and encode by vharm's own reader and writer, nothing between),
            "harmonize" or "eager" (what one would write with PyTorch and PyAV alone).
        method: for "harmonize"; may carry options ("harmonizer+side=192").
        every: estimate on every n-th frame.
        preset: of x264.
    """

    kind: Literal["copy", "harmonize", "eager"]
    method: str | None = None
    every: int = 1
    preset: str = PRESET

    @property
    def name(self) -> str:
        """What tables call it."""
        if self.kind == "copy":
            return "decode + encode, nothing between"
        if self.kind == "eager":
            return f"{EAGER_METHOD} in eager PyTorch, float32"
        every = f", estimated every {self.every} frames" if self.every > 1 else ""
        preset = f", x264 {self.preset}" if self.preset != PRESET else ""
        return f"{self.method}{every}{preset}"


def default_cases(
    methods: Sequence[str], every: int = 5, *, eager: bool = True, presets: Sequence[str] = ()
) -> list[Case]:
    """The copy, each method with the network on every and on every n-th frame, and the peer.

    Args:
        methods: names, which may carry options.
        every: n.
        eager: whether the peer is wanted; it does the work of one method, and is left out beside
            others.
        presets: others of x264, with which the first method is to be measured too.

    Raises:
        ValueError: a preset that is not there; a method that is not there or cannot run here,
            with the reason.
    """
    from .. import methods as registry
    from ..methods.spec import split_options

    for preset in presets:
        if preset not in PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}; got {preset!r}")
    known = {row.name: row for row in registry.describe()}
    for name in (split_options(method)[0] for method in methods):
        if name not in known:
            raise ValueError(f"method: expected one of {', '.join(known)}; got {name!r}")
        if not known[name].available:
            raise ValueError(f"method: {name} cannot run here: {known[name].reason}")
    cases = [Case("copy")]
    for name in methods:
        cases.append(Case("harmonize", name))
        if every > 1:
            cases.append(Case("harmonize", name, every))
    cases += [Case("harmonize", methods[0], every, preset) for preset in presets]
    # Only beside the method whose work it does.
    if eager and EAGER_METHOD in methods:
        cases.append(Case("eager"))
    return cases


@dataclass(frozen=True)
class Clip:
    """What goes in.

    Attributes:
        path: of the composite. mask: of its mask; None where the clip has an alpha channel.
        end: seconds after which nothing is read; None for all.
    """

    path: Path
    mask: Path | None = None
    end: float | None = None

    def open(self) -> Any:
        """(reader, masks), as `vharm.harmonize` opens them."""
        from ..session.front import Source, open_source

        return open_source(
            Source(frames=self.path, masks=self.mask, end=self.end, on_short="loop", to_file=True)
        )

# SPDX-License-Identifier: Apache-2.0
"""The `.cube` file of a run, and the ffmpeg command that uses it."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..looks import LookTrack, load_look, save_look


def save_mean_cube(cube: str, track: str | Path, strength: float) -> str:
    """Writes the `.cube` of the mean over a saved track, and says in a sentence what it is.

    Raises:
        ValueError: the Looks are no colour maps, which a `.cube` file cannot hold.
    """
    looks = LookTrack.of(load_look(track))
    look = looks.lock()
    save_look(cube, look.with_strength(look.strength * strength))
    if len(looks) == 1:
        return "holds the one Look of the clip"
    shots = f" over {len(looks.cuts - {0}) + 1} shots" if looks.cuts - {0} else ""
    return (
        f"holds the mean of {len(looks)} Looks{shots}: it stands for the clip as a whole, not for "
        "each frame (--temporal lock harmonizes with exactly this kind of Look)"
    )


def ffmpeg_line(cube: str, source: str | None) -> str:
    """The command that applies the `.cube` file; source None stands for the foreground's file."""
    name = shlex.quote(source) if source else "FOREGROUND"
    suffix = Path(source).suffix if source else ".mov"
    given = shlex.quote(f"lut3d=file={_escaped(cube)}:interp=tetrahedral")
    return f"ffmpeg -i {name} -vf {given} graded{suffix}"


def _escaped(path: str) -> str:
    """A value inside a filter's options, inside a filter graph: two levels of escaping."""
    for level in ("\\':", "\\'[],;"):
        path = "".join(f"\\{c}" if c in level else c for c in path)
    return path

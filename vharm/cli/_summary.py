# SPDX-License-Identifier: Apache-2.0
"""What is told of a run: before it, after it, and as JSON."""

from __future__ import annotations

import json
from typing import Any

from ..session import Report, Session


def heading(session: Session, asked: str | None, look: str | None) -> str:
    """One line: which method and why, how over time, and where."""
    if look is not None:
        return f"applies the {session.method_name} of {look} as it is; on {session.device}"
    time = {
        "smooth": f"smoothed over {session.time_constant:g} s", "lock": "one Look for the clip",
        "per-frame": "each frame by itself",
    }[session.temporal]  # fmt: skip
    if session.estimate_every > 1:
        time += f", estimated every {session.estimate_every} frames"
    if asked is None:
        why = f"the default: {session.method.when_to_use.rstrip('.')}"
    else:
        why = "as asked"
    return f"method {session.method_name} ({why}); {time}; on {session.device}"


def lines(report: Report, files: dict[str, str]) -> list[str]:
    """The report for people."""
    plural = "" if report.frames == 1 else "s"
    out = [
        f"{report.frames} frame{plural} in {report.seconds:.2f} s ({report.fps:.1f} frames/s, "
        "reading and writing included)"
    ]
    if 0 < report.estimated < report.frames - report.empty_masks:
        out.append(f"estimated on {report.estimated} of {report.frames} frames")
    if report.flicker is not None:
        out.append(f"flicker {report.flicker:.2f} of 255: how much the change varies within a shot")
    if report.mask_confidence is not None:
        out.append(
            f"the mask was found by the method: confidence {report.mask_confidence:.2f} of 1, "
            f"{report.mask_area:.1%} of the picture"
        )
    if report.looks:
        out.append(report.looks)
    if report.cuts:
        listed = ", ".join(map(str, report.cuts[:8])) + (", ..." if len(report.cuts) > 8 else "")
        out.append(f"new shots at frame{'s' if len(report.cuts) > 1 else ''} {listed}")
    if report.empty_masks:
        out.append(f"{report.empty_masks} frames had an empty mask and passed through untouched")
    if report.copied:
        out.append(f"{report.copied} untouched frames were copied as they came, not encoded again")
    width = max(map(len, files))
    return out + [f"  {name:<{width}}  {path}" for name, path in files.items()]


def as_json(report: Report, files: dict[str, str]) -> str:
    """The report for programs."""
    data: dict[str, Any] = {
        name: getattr(report, name)
        for name in ("method", "temporal", "frames", "seconds", "fps", "stages",
                     "estimated", "empty_masks", "copied", "mask_confidence", "mask_area", "cuts",
                     "flicker", "looks", "warnings")
    }  # fmt: skip
    return json.dumps({**data, "files": files}, indent=2)

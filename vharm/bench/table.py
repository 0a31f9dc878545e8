# SPDX-License-Identifier: Apache-2.0
"""What was measured, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..media.threads import cores
from .cases import EAGER_METHOD, Case
from .difference import Agreement, Interpolation
from .measure import Measured, Share

THREADS = {
    "read": ("decode", "mask", "masks", "thumbnails"),
    "change": ("estimate", "apply"),
    "write": ("encode",),
}
"""Which stages a thread of a Session works on; the threads run beside each other."""


def table(results: Sequence[Measured]) -> str:
    """Speed, share of the first case's, CPU time and memory of each; then seconds by stage."""
    first, width = results[0], max(len(result.case.name) for result in results)
    lines = [f"{'':{width}}  frames/s  share  CPU ms/frame  CPU share  peak MiB  KiB/frame"]
    for result in results:
        share = Share.of(result, first)
        lines.append(
            f"{result.case.name:{width}}  {result.fps:8.1f}  {share.wall:5.0%}  "
            f"{1e3 * result.cpu_per_frame:12.1f}  {share.cpu:9.0%}  {result.peak / 2**20:8.0f}  "
            f"{result.size / result.frames / 2**10:9.1f}"
        )
    names = list(dict.fromkeys(name for result in results for name in result.stages))
    if names:
        lines += ["", f"{'ms/frame by stage':{width}}  " + "  ".join(f"{n:>10}" for n in names)]
    for result in results:
        if result.stages:
            values = (1e3 * result.stages.get(name, 0.0) / result.frames for name in names)
            lines.append(f"{result.case.name:{width}}  " + "  ".join(f"{v:10.1f}" for v in values))
    return "\n".join(lines)


def limit(result: Measured, copy: Measured) -> str:
    """What holds a case back, in a sentence or two.

    Args:
        result: of a "harmonize" case.
        copy: of the case with nothing between decode and encode.
    """
    busy = result.cpu / result.seconds / cores()
    by_thread = {
        thread: sum(result.stages.get(stage, 0.0) for stage in stages)
        for thread, stages in THREADS.items()
    }
    slowest = max(by_thread, key=by_thread.get)
    stage = max(THREADS[slowest], key=lambda name: result.stages.get(name, 0.0))
    cpu, floor = 1e3 * result.cpu_per_frame, 1e3 * copy.cpu_per_frame
    own = max(cpu - floor, 0.0)
    text = (
        f"{result.case.name}: of {cpu:.0f} ms CPU a frame {floor:.0f} are decode and encode alone, "
        f"{own:.0f} are harmonizing; "
    )
    if busy > 0.8:
        larger = "the codecs limit it" if floor > own else f"harmonizing ({stage}) limits it"
        return f"{text}all {cores()} cores are busy ({busy:.0%}), and {larger}."
    share = by_thread[slowest] / result.seconds
    return (
        f"{text}the cores are {busy:.0%} busy, and the thread that does most is "
        f'"{slowest}" ({stage}), at work or waiting for a core {min(share, 1):.0%} of the time.'
    )


def lines(
    results: Sequence[Measured],
    agreement: Agreement | None,
    interpolated: Sequence[tuple[str, Interpolation]],
) -> list[str]:
    """Sentences about what limits each method, the eager peer, and what interpolated Looks cost."""
    first = results[0]
    # With another preset decode and encode alone would take another time too.
    said = [limit(r, first) for r in results if r.stages and r.case.preset == first.case.preset]
    for result in results:
        if result.case.kind == "eager":
            ours = next(r for r in results if r.case == Case("harmonize", EAGER_METHOD))
            said.append(
                f"{ours.case.name} is {ours.fps / result.fps:.1f} times as fast as the eager peer "
                f"({result.cpu_per_frame / ours.cpu_per_frame:.1f} times less CPU)."
            )
    if agreement is not None:
        said.append(
            f"beside the eager peer's picture, before encoding ({agreement.frames} frames): PSNR "
            f"{agreement.psnr:.1f} dB in the foreground, its mean colour within "
            f"{agreement.colour:.2f} of 255 (it was moved by {agreement.moved:.1f})."
        )
    for method, found in interpolated:
        said.append(
            f"{method}, estimated every {found.every} frames instead of each ({found.frames} "
            f"frames): samples inside the mask differ by {found.mean:.2f} of 255 on average, "
            f"{found.largest:.0f} at most."
        )
    return said


def as_data(
    results: Sequence[Measured],
    agreement: Agreement | None,
    interpolated: Sequence[tuple[str, Interpolation]],
) -> dict[str, Any]:
    """All of it as plain JSON values."""
    first = results[0]
    return {
        "cores": cores(),
        "cases": [
            {
                "name": result.case.name, **asdict(result), "fps": result.fps,
                "share": Share.of(result, first).wall, "cpu_share": Share.of(result, first).cpu,
            }
            for result in results
        ],
        "agreement": None if agreement is None else asdict(agreement),
        "interpolated": [{"method": method, **asdict(found)} for method, found in interpolated],
    }  # fmt: skip

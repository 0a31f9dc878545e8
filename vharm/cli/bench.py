# SPDX-License-Identifier: Apache-2.0
"""`vharm bench`: how fast this machine harmonizes, and what holds it back."""

from __future__ import annotations

import json as json_format
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from . import _options as o
from ._errors import guarded

LONGEST_SECONDS = {"4k": 1.0}
"""Seconds measured by default, where fewer than `SECONDS`."""

SECONDS = 4.0


@guarded
def bench(
    clip: Annotated[
        Path | None,
        typer.Argument(metavar="CLIP", show_default=False, help="A video; else one is made."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", "-m", help="CLIP's mask (a short one is repeated).")
    ] = None,
    size: Annotated[str, typer.Option(help="Of the clip that is made.")] = "1080p",
    seconds: Annotated[
        float | None,
        typer.Option(min=0.2, max=600.0, help="How much is measured (4; 1 at 4k)."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="May be repeated, and carry options (harmonizer+side=192); else the default "
            "one and mkl.",
        ),
    ] = None,
    estimate_every: Annotated[
        int, typer.Option(min=1, help="Measure estimating every n-th frame too; 1: do not.")
    ] = 5,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure the first method with this preset of x264 too, such as ultrafast; may be "
            "repeated.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Medians are of so many.")] = 3,
    eager: Annotated[
        bool, typer.Option("--eager/--no-eager", help="The eager PyTorch peer too.")
    ] = True,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trace of the first method, for Perfetto (JSON)."),
    ] = None,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Measure from file to file: decode, estimate, apply, encode.

    Every case runs in a process of its own, in turn, H.264 out (x264 veryfast,
    crf 23): decode and encode with nothing between, which is the most that can
    be had; each method; and the same work in eager float32 PyTorch.

    [bold]Examples[/bold]

    What to expect of this machine:
      vharm bench
      vharm bench --size 4k --method mkl

    Your own clip, and a trace to open in ui.perfetto.dev:
      vharm bench clip.mp4 --mask matte.mp4 --profile trace.json
    """
    from .. import bench as b

    if clip is None and mask is not None:
        raise ValueError("mask: needs a CLIP it belongs to")
    if size not in b.SIZES:
        raise ValueError(f"--size: expected one of {', '.join(b.SIZES)}; got {size!r}")
    if seconds is None:
        seconds = SECONDS if clip is not None else LONGEST_SECONDS.get(size, SECONDS)
    cases = b.default_cases(
        method or _usual_methods(),
        estimate_every,
        eager=eager,
        presets=preset or (),
    )
    with tempfile.TemporaryDirectory(prefix="vharm-bench-") as folder:
        if clip is None:
            width, height = b.SIZES[size]
            made = b.make_clip(Path(folder), width, height, max(5, round(seconds * b.RATE)))
            given = b.Clip(*made)
        else:
            given = b.Clip(clip, mask, seconds)
        _check(given)
        results = b.measure(cases, given, rounds=rounds, progress=_tell)
        found = _differences(cases, given)
        if profile is not None:
            _tell(f"{cases[1].name}, traced")
            b.run_apart(cases[1], given, Path(folder) / "out.mp4", trace=profile)
    if json:
        typer.echo(json_format.dumps(b.as_data(results, *found), indent=1))
        return
    typer.echo(b.table(results))
    typer.echo("")
    for line in b.lines(results, *found):
        typer.echo(line)
    if profile is not None:
        typer.echo(f"{profile}: open it in ui.perfetto.dev or chrome://tracing")


def _usual_methods() -> list[str]:
    from .. import methods

    return list(dict.fromkeys((methods.default_name(), "mkl")))


def _check(clip: Any) -> None:
    """Opens both files, so that what is wrong with them is said at once."""
    reader, masks = clip.open()
    with reader:
        if masks is None and not reader.has_alpha:
            raise ValueError("mask: is needed, as CLIP has no alpha channel")
        typer.echo(f"vharm: {reader.info()}", err=True)
    if masks is not None:
        masks.close()


def _tell(name: str) -> None:
    typer.echo(f"vharm: {name} ...", err=True)


def _differences(cases: list[Any], clip: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """What the eager peer's result and interpolated Looks differ by."""
    from .. import bench as b

    agreement = None
    if any(case.kind == "eager" for case in cases):
        _tell("comparing with the eager peer")
        agreement = b.agreement(clip)
    interpolated = []
    for case in cases:
        if case.every > 1 and case.preset == b.PRESET:
            _tell(f"comparing {case.name}")
            found = b.interpolation(clip, case.method, case.every)
            interpolated.append((case.method, found))
    return agreement, interpolated

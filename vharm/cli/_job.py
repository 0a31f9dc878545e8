# SPDX-License-Identifier: Apache-2.0
"""The work behind `vharm harmonize`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import typer

from ..looks import Look, LookTrack, load_look
from ..media import Reader, open_reader, open_writer
from ..session import Session
from ..session.compare import output_size
from ..session.front import Source, open_source
from ..session.resources import return_freed_frames
from ._compare import ComparingWriter, KeepingReader, comparison_path
from ._cube import ffmpeg_line, save_mean_cube
from ._options import encoder_options
from ._progress import progress_bar
from ._summary import as_json, heading, lines

_SUFFIXES = {"look": ".json", "cube": ".cube"}


def run_job(given: SimpleNamespace) -> None:
    """Harmonizes one clip as the options say, and tells about it."""
    source = _source(given)
    compare = None if given.compare is None else given.compare.value
    files = _files(given, compare)
    _check_files(given, source, files)
    session = _session(given)
    reader, masks = open_source(source)
    with reader, contextlib.ExitStack() as stack:
        if masks is not None:
            stack.enter_context(masks)
        elif given.foreground is None and not (reader.has_alpha or _finds_masks(session)):
            raise ValueError(
                "mask: is needed, as COMPOSITE has no alpha channel: white where something was "
                "pasted in, black elsewhere (vharm harmonize --help says how to get one), or a "
                "method that finds it itself: --method huang"
            )
        if not given.quiet:
            typer.echo(f"vharm: {heading(session, given.method, given.look_in)}", err=True)
            typer.echo(f"vharm: {reader.info()}", err=True)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            report, note = _run(given, session, source, reader, masks, files)
    for warning in report.warnings:
        typer.echo(f"vharm: warning: {warning}", err=True)
    if given.json:
        typer.echo(as_json(report, files))
    elif not given.quiet:
        for line in lines(report, files):
            typer.echo(line)
        if "cube" in files:
            _tell_cube(given, note)


def _finds_masks(session: Session) -> bool:
    return session.method is not None and session.method.predicts_masks


def _show_warning(message: Warning | str, *args: Any) -> None:
    typer.echo(f"vharm: warning: {message}", err=True)


def _source(given: SimpleNamespace) -> Source:
    source = Source(
        frames=given.composite, masks=given.mask, foreground=given.foreground,
        background=given.background, premultiplied=given.premultiplied,
        frame_rate=given.frame_rate, start=given.start, end=given.end,
        mask_grow=given.mask_grow, mask_feather=given.mask_feather,
        invert_mask=given.invert_mask, on_short=given.mask_on_short.value, to_file=True,
    )  # fmt: skip
    if source.frames is None and source.foreground is None and source.background is None:
        raise ValueError("frames: nothing was given to harmonize (vharm harmonize --help)")
    source.check()
    return source


def _files(given: SimpleNamespace, compare: str | None) -> dict[str, str]:
    """What will be written, by what it is."""
    if given.compare_out is not None and compare is None:
        raise ValueError("--compare-out: needs --compare wipe or side-by-side")
    files = {"output": given.output}
    if compare is not None:
        files["compare"] = given.compare_out or comparison_path(given.output, compare)
    optional = (("look", given.look_out), ("cube", given.cube_out), ("mask", given.mask_out))
    for name, path in optional:
        if path is not None:
            files[name] = path
    return files


def _check_files(given: SimpleNamespace, source: Source, files: dict[str, str]) -> None:
    """Everything that could be refused after the work is refused before it."""
    read = [*source.paths(), given.look_in, given.reference, given.reference_mask, given.weights]
    taken = {Path(path).resolve(): str(path) for path in read if path is not None}
    for name, path in files.items():
        option = "--output" if name == "output" else f"--{name}-out"
        place = Path(path).resolve()
        if place in taken:
            raise ValueError(f"{option}: {path} is {taken[place]}, which is in use already")
        taken[place] = path
        if (suffix := _SUFFIXES.get(name)) and place.suffix.lower() != suffix:
            raise ValueError(f"{option}: expected a file ending in {suffix}, got {path}")
        if not place.parent.is_dir():
            raise FileNotFoundError(f"{option}: there is no folder {place.parent}")
        if place.is_file() and not given.overwrite:
            raise FileExistsError(f"{option}: {path} exists already; -y overwrites it")


def _session(given: SimpleNamespace) -> Session:
    method: Any = given.method
    if given.look_in is not None:
        if given.method is not None:
            raise ValueError("--look-in: takes the place of a method; give one of both")
        method = load_look(given.look_in)
    return Session(
        method, strength=given.strength, temporal=given.temporal.value,
        time_constant=given.time_constant, estimate_every=given.estimate_every,
        weights=given.weights, device=given.device, backend=given.backend,
        reference=given.reference, reference_mask=_reference_mask(given), swap=given.swap,
        **_threshold(given),
    )  # fmt: skip


def _threshold(given: SimpleNamespace) -> dict[str, float]:
    value = given.mask_threshold
    return {} if value is None else {"mask_threshold": value}


def _reference_mask(given: SimpleNamespace) -> Any:
    """The path; for masks that go along with a clip that is cut, a reader cut likewise."""
    path = given.reference_mask
    if path is None or given.reference is not None or (given.start is None and given.end is None):
        return path
    with open_reader(path) as whole:
        if whole.still:
            return path
        rate = given.frame_rate if whole.frame_rate is None else None
    return open_reader(path, start=given.start, end=given.end, frame_rate=rate)


def _run(
    given: SimpleNamespace, session: Session, source: Source, reader: Reader, masks: Any,
    files: dict[str, str],
) -> tuple[Any, str]:  # fmt: skip
    """The report, and a remark on the `.cube` file."""
    cube, look = files.get("cube"), files.get("look")
    one = session.temporal == "lock" if session.given is None else isinstance(session.given, Look)
    with contextlib.ExitStack() as stack:
        track: str | Path | None = look
        if cube is not None and not one:
            if isinstance(session.given, LookTrack):
                track = given.look_in
            elif look is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vharm-"))
                track = look = f"{folder}/looks.json"
        writer = _open_writers(given, source, reader, files)
        if given.compare is not None:
            reader = KeepingReader(reader)
        return_freed_frames(reader, session.method)
        update = stack.enter_context(progress_bar(not given.quiet))
        report = session.run(
            reader,
            masks,
            writer,
            progress=update,
            look_out=look,
            cube_out=cube if one else None,
            mask_out=given.mask_out,
        )
        if cube is None:
            return report, ""
        if one:
            return report, "holds the one Look of the clip"
        assert track is not None
        if not Path(track).exists():
            raise ValueError("cube_out: no frame has a foreground, so there is no Look to save")
        return report, save_mean_cube(cube, track, session.strength)


def _open_writers(
    given: SimpleNamespace, source: Source, reader: Reader, files: dict[str, str]
) -> Any:
    encoding = {
        "codec": given.codec, "crf": given.crf, "preset": given.preset,
        "pixel_format": given.pixel_format, "options": encoder_options(given.encoder_option or []),
        "audio": not given.no_audio, "overwrite": given.overwrite, "inputs": source.paths(),
    }  # fmt: skip
    result = open_writer(given.output, reader, **encoding)
    if "compare" not in files:
        return result
    try:
        kind = given.compare.value
        width, height = output_size(reader.width, reader.height, kind)
        comparison = open_writer(files["compare"], reader, width=width, height=height, **encoding)
    except BaseException:
        result.abort()
        raise
    return ComparingWriter(result, comparison, kind)


def _tell_cube(given: SimpleNamespace, note: str) -> None:
    typer.echo(f"the cube {note}. A LUT changes the whole picture, so use it on the foreground "
               "before it is laid over the background:")  # fmt: skip
    typer.echo(f"  {ffmpeg_line(given.cube_out, given.foreground)}")
    sys.stdout.flush()

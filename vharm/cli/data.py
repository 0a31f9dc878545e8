# SPDX-License-Identifier: Apache-2.0
"""`vharm data`: look at data sets, pack them for moving, compose real composites."""

from __future__ import annotations

import contextlib
import functools
import json as json_module
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from . import _options as o
from ._errors import FAILED, guarded

data = typer.Typer(
    name="data", help="Look at data sets, pack them, compose real composites.",
    no_args_is_help=True, rich_markup_mode="rich",
)  # fmt: skip

LayoutName = Annotated[
    str | None,
    typer.Option("--layout", metavar="NAME", help="The layout, where several fit or none."),
]
MaskFolder = Annotated[
    str | None,
    typer.Option("--masks", metavar="NAME", help='Folder of masks, such as "masks_tight".'),
]
Part = Annotated[
    str | None, typer.Option("--part", metavar="NAME", help="Part of an archive with several.")
]
Split = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="Only train, val or test.")
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many clips, evenly spread.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of all choices by chance.")]

# What the Python interface calls an argument, and what it is called here.
_OPTIONS = {
    "layout": "--layout", "masks": "--masks", "part": "--part", "split": "--split",
    "broken": "--broken", "path": "PATH", "target": "--output", "folder": "--output",
    "max_mib": "--max-mib", "limit": "--limit", "size": "--size", "quality": "--quality",
    "coverage": "--coverage", "count": "--count", "max_scale": "--max-scale",
    "frames": "--frames",
}  # fmt: skip


def _told_here(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the Python interface's names in its errors turned into options."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, TypeError, FileNotFoundError, FileExistsError) as error:
            raise type(error)(option_words(str(error))) from error

    return run


def option_words(text: str) -> str:
    """'layout="x"' becomes "--layout x", a leading "path:" becomes "PATH:"."""
    names = "|".join(_OPTIONS)
    text = re.sub(rf"^({names})\b(?=:|, \w+:)", lambda m: _OPTIONS[m[1]], text)
    return re.sub(rf'\b({names})="([^"]*)"', lambda m: f"{_OPTIONS[m[1]]} {m[2]}", text)


@data.command()
@guarded
@_told_here
def inspect(
    path: Annotated[Path, typer.Argument(help="A data set's folder, or an archive of pack.")],
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE.png", help="Write a contact sheet with outlines."),
    ] = None,
    split: Split = None,
    layout: LayoutName = None,
    masks: MaskFolder = None,
    part: Part = None,
    limit: Limit = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Pictures on the sheet.")] = 48,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Read a data set through: counts, sizes, coverage of the masks, and every broken pair.

    Exits with 1 where a pair is broken. A mask without a picture, or an empty one, is named but
    does not count as broken.
    """
    from ..data import inspect as inspect_data
    from ..data import open_data
    from ..data.sheet import contact_sheet

    where = {"split": split, "layout": layout, "masks": masks, "part": part, "limit": limit}
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise ValueError(f"--sheet: expected a name that ends in .png, got {sheet.name}")
    with _bar("reading", not json) as moved:
        found = inspect_data(path, **where, progress=moved)
    if json:
        typer.echo(json_module.dumps(found.as_dict(), indent=2))
    else:
        typer.echo("\n".join(found.lines()))
    broken = any(problem.blocks for problem in found.problems)
    if sheet is not None and found.clips:
        shown = open_data(path, **where, broken="skip")
        bad = {problem.name for problem in found.problems if problem.blocks}
        if bad:
            from ..data import Chosen

            shown = Chosen(shown, [n for n, name in enumerate(shown.names) if name not in bad])
        contact_sheet(shown, sheet, count=count)
        typer.echo(f"contact sheet: {sheet}", err=json)
    if broken:
        raise typer.Exit(FAILED)


@data.command()
@guarded
@_told_here
def pack(
    path: Annotated[Path, typer.Argument(help="A folder of a data set, or of several.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.tar", help="Archive.")],
    size: Annotated[int, typer.Option("--size", min=16, help="Longer side, pixels.")] = 256,
    quality: Annotated[int, typer.Option("--quality", min=50, max=100, help="Of JPEGs.")] = 90,
    max_mib: Annotated[
        float | None,
        typer.Option("--max-mib", min=0.01, help="Lower the quality until it fits in so many MiB."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, help="At most so many of each clip.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--part", metavar="NAME", help="Only this part; repeatable.")
    ] = None,
    extra: Annotated[
        list[Path] | None,
        typer.Option("--extra", help="A further file; luts.npz of PATH is taken by itself."),
    ] = None,
    masks: MaskFolder = None,
    broken: Annotated[
        str, typer.Option("--broken", help='"error" refuses broken pairs, "skip" leaves them out.')
    ] = "error",
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Write data sets into one small archive that can be read without unpacking.

    Takes the data set in PATH and those in the folders in it, photographs without masks, and
    luts.npz. The same input gives the same bytes.
    """
    from ..data import pack as pack_data

    settings = {
        "size": size, "quality": quality, "max_mib": max_mib, "frames": frames, "masks": masks,
        "broken": broken, "extras": extra or None, "only": only or None,
    }  # fmt: skip
    with _bar("packing", not json) as moved:
        done = pack_data(path, output, **settings, progress=moved)
    if json:
        told = {"path": str(done.path), "bytes": done.bytes, "quality": done.quality,
                "parts": done.parts, "extras": list(done.extras),
                "left_out": done.left_out}  # fmt: skip
        typer.echo(json_module.dumps(told, indent=2))
        return
    parts = ", ".join(f"{name} {number}" for name, number in done.parts.items())
    extras = f"; with {', '.join(done.extras)}" if done.extras else ""
    left = f"; {done.left_out} broken pairs left out" if done.left_out else ""
    typer.echo(f"{output}: {done.bytes / 2**20:.1f} MiB, quality {done.quality}; "
               f"{parts}{extras}{left}")  # fmt: skip


@data.command()
@guarded
@_told_here
def compose(
    foregrounds: Annotated[
        Path, typer.Argument(help="Clips with masks, or triples of foreground, background, matte.")
    ],
    backgrounds: Annotated[
        Path, typer.Argument(help="Photographs or clips; their masks are not used.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new one.")],
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Composites; else one a foreground.")
    ] = None,
    seed: Seed = 0,
    coverage: Annotated[
        tuple[float, float], typer.Option("--coverage", help="Share of the frame: least, largest.")
    ] = (0.3, 0.7),
    max_scale: Annotated[
        float, typer.Option("--max-scale", min=0.01, help="Foregrounds grow no more than this.")
    ] = 4.0,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option("--size", metavar="HEIGHT WIDTH", help="Else the background's."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, help="At most so many of each clip.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", metavar="NAME", help="Of the foregrounds.")
    ] = None,
    masks: MaskFolder = None,
    debug: o.Debug = False,
) -> None:
    """Lay foreground clips over unrelated backgrounds, as editors do, without any true answer.

    Writes NAME/composites/00000.png and NAME/masks/00000.png.
    """
    from ..data import RealComposite, open_data, write_composites

    front = open_data(foregrounds, layout=_of_foregrounds(foregrounds, layout), masks=masks)
    composed = RealComposite(
        front, _backgrounds(backgrounds), seed, count=count, coverage=coverage,
        max_scale=max_scale, size=size, frames=frames,
    )  # fmt: skip
    with _bar("composing", True) as moved:
        written = write_composites(composed, output, progress=moved)
    typer.echo(f"{output}: {composed.description}")
    example = written[0]
    typer.echo(f"try: vharm harmonize {example / 'composites'} --mask {example / 'masks'} -o out/")


def _of_foregrounds(path: Path, layout: str | None) -> str | None:
    """Triples give their foregrounds here."""
    from ..data.layouts import fitting

    if layout is not None or not path.is_dir():
        return "foregrounds" if layout == "triples" else layout
    return "foregrounds" if fitting(path) == ["triples"] else None


def _backgrounds(path: Path) -> Any:
    """Photographs without masks if there are any, else the frames of a data set."""
    from ..data import DataError, open_data, open_photos

    try:
        return open_photos(path)
    except DataError:
        return open_data(path)


@contextlib.contextmanager
def _bar(title: str, shown: bool) -> Iterator[Callable[..., None] | None]:
    """A progress bar on stderr, on a terminal only. The callback takes (what,) done and total."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def moved(*state: Any) -> None:
            what = f"{title} {state[0]}" if len(state) == 3 else title
            bar.update(task, description=what, completed=state[-2], total=state[-1])

        yield moved

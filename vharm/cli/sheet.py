# SPDX-License-Identifier: Apache-2.0
"""`vharm sheet`: a page for ranking results by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import _options as o
from ._errors import guarded


@guarded
def sheet(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=FOLDER...",
            show_default=False,
            help="Each method's results, such as mkl=out/mkl; the name may be left out.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page.")],
    side: Annotated[int, typer.Option("--side", min=16, help="Longer side of pictures.")] = 640,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many results, by chance.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order.")] = 0,
    title: Annotated[str, typer.Option("--title", help="Of the page.")] = "Which fits best?",
    debug: o.Debug = False,
) -> None:
    """Make a page on which people rank the results of several methods, unnamed and shuffled.

    The page is one file that needs no server. Choices are saved as CSV for `vharm rank`.

    [bold]Example[/bold]

    Results have the same names in every folder:
      vharm sheet composite=real mkl=out/mkl vhmae=out/vhmae -o sheet.html
    """  # fmt: skip
    from ..evaluation.ranking_sheet import write_ranking_sheet

    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--output: expected a name that ends in .html, got {output.name}")
    folders = named(results)
    try:
        made = write_ranking_sheet(folders, output, side=side, limit=limit, seed=seed, title=title)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(str(error).replace("results:", "NAME=FOLDER:", 1)) from error
    size = output.stat().st_size / 2**20
    typer.echo(f"{output}: {len(made.items)} results of {len(folders)} methods, {size:.1f} MiB")
    if made.left_out:
        more = ", ..." if len(made.left_out) > 3 else ""
        shown = ", ".join(made.left_out[:3])
        typer.echo(f"left out, as some method lacks them: {len(made.left_out)} ({shown}{more})")


def named(results: list[str]) -> dict[str, str]:
    """The folders by name; one without a name has that of the folder.

    Raises:
        ValueError: a name twice.
    """
    found: dict[str, str] = {}
    for text in results:
        name, separator, folder = text.partition("=")
        if not separator:
            name, folder = Path(text).name, text
        if name in found:
            raise ValueError(f"NAME=FOLDER: the name {name} stands twice")
        found[name] = folder
    return found

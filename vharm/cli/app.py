# SPDX-License-Identifier: Apache-2.0
"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from .._version import __version__
from .bench import bench
from .data import data
from .demo import demo
from .doctor import doctor
from .eval import evaluate
from .harmonize import harmonize
from .methods import methods
from .rank import rank
from .sheet import sheet
from .train import export, train

app = typer.Typer(
    name="vharm",
    help="Match a pasted foreground's colours to its background, in videos and pictures.",
    epilog="Start with: vharm demo. Then: vharm harmonize clip.mp4 --mask matte.mp4 -o out.mp4",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vharm {__version__}")
        raise typer.Exit


@app.callback()
def _everything(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


for _command in (harmonize, methods, doctor, demo, bench, sheet, rank, train, export):
    app.command()(_command)
app.command("eval")(evaluate)
app.add_typer(data)

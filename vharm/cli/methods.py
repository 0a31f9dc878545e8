# SPDX-License-Identifier: Apache-2.0
"""`vharm methods`: what there is to choose from."""

from __future__ import annotations

import dataclasses
import json as json_module

import typer
from rich.console import Console
from rich.table import Table

from . import _options as o
from ._errors import guarded


@guarded
def methods(json: o.Json = False, debug: o.Debug = False) -> None:
    """List the methods: what each does, when to use which, and whether it can run here."""
    from ..methods import default_name, describe

    rows, default = describe(), default_name()
    if json:
        typer.echo(json_module.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return
    console = Console()
    table = Table(show_lines=True, title_justify="left")
    for heading in ("method", "what it does", "when to use it", "weights", "can run"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        name = f"[bold]{row.name}[/bold]" + (" (default)" if row.name == default else "")
        able = "[green]yes[/green]" if row.available else "[yellow]not yet[/yellow]"
        table.add_row(
            name, row.summary, row.when_to_use, "needed" if row.needs_weights else "none", able
        )
    console.print(table)
    for row in rows:
        reason = (row.reason or "").removeprefix(f"{row.name}: ")
        reason = "" if row.available else f" Not yet: {reason}."
        licence = row.licence or "licence unknown"
        if row.weights_licence:
            licence += f", its weights {row.weights_licence}"
        text = f"{row.name}: {licence}; {row.source}.{reason}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)

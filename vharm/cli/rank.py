# SPDX-License-Identifier: Apache-2.0
"""`vharm rank`: scores from people's choices."""

from __future__ import annotations

import dataclasses
import json as json_module
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import _options as o
from ._errors import guarded

Choices = Annotated[
    str,
    typer.Argument(
        metavar="FILE", show_default=False,
        help='Choices: CSV with the columns "winner,loser" or "rank1,rank2,...", or JSON lines '
        '({"winner": ..., "loser": ...} or {"ranking": [...]}); a column "participant" may say '
        "who chose.",
    ),
]  # fmt: skip
Bootstrap = Annotated[
    int,
    typer.Option(
        "--bootstrap", min=0, metavar="N",
        help="How often choices (people, where they are known) are drawn anew for the intervals.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option("--seed", help="Of those draws.")]
Alpha = Annotated[
    float,
    typer.Option(
        "--alpha", help="Regularization: keeps the score of what always wins finite.",
    ),
]  # fmt: skip


@guarded
def rank(
    file: Choices,
    bootstrap: Bootstrap = 200,
    seed: Seed = 0,
    alpha: Alpha = 0.01,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Score methods from a user study: Bradley-Terry from choices between two, Plackett-Luce from
    rankings.

    [bold]Examples[/bold]

    choices.csv holds lines such as winner,loser and mkl,composite:
      vharm rank choices.csv
      vharm rank rankings.jsonl --bootstrap 1000 --json
    """
    from ..evaluation.rank import rank as fit
    from ..evaluation.rank import read_choices

    ranking = fit(read_choices(file), alpha=alpha, bootstrap=bootstrap, seed=seed)
    if json:
        typer.echo(json_module.dumps(dataclasses.asdict(ranking), indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("score", "95 % interval", "preferred to all", "pairs won", "pairs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for item in ranking.items:
        interval = "–" if item.low is None else f"{item.low:+.3f} … {item.high:+.3f}"
        table.add_row(
            Text(item.name), f"{item.score:+.3f}", interval, f"{100 * item.first:.1f} %",
            f"{100 * item.won:.1f} %", str(item.pairs),
        )  # fmt: skip
    Console().print(table)
    people = f" by {ranking.participants} participants" if ranking.participants else ""
    typer.echo(
        f"{ranking.model} scores of {ranking.choices} choices{people}; logarithms of strengths, "
        "sum 0"
    )
    if ranking.settings["bootstrap"]:
        typer.echo(
            f"intervals: {ranking.settings['bootstrap']} times {ranking.settings['resampled']} "
            f"drawn anew, seed {ranking.settings['seed']}"
        )

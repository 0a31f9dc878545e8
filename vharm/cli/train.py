# SPDX-License-Identifier: Apache-2.0
"""`vharm train` and `vharm export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import _options as o
from ._errors import FAILED, INTERRUPTED, guarded


@guarded
def train(
    method: Annotated[str, typer.Argument(help="What to train, such as harmonizer.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings in a TOML file.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting; after the file's."),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Short for --set data=...")] = None,
    luts: Annotated[str | None, typer.Option("--luts", help="Short for --set luts=...")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for checkpoints and log.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help='Time for this run, such as "9m" or "1h30m".')
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print all settings as TOML and train nothing.")
    ] = False,
    debug: o.Debug = False,
) -> None:
    """Train a method on your data.

    Checkpoints, a log and TensorBoard files appear in the output folder. Ctrl-C ends after the
    step at hand, with a checkpoint; --resume goes on to the same numbers. `torchrun
    --nproc-per-node N -m vharm train ...` trains on N devices.
    """
    from ..training import Trainer, continued, get_recipe, make_config, to_toml

    options = {"data": data, "luts": luts, "output": output, "budget": budget}
    values = {key: value for key, value in options.items() if value}
    recipe = get_recipe(method)
    chosen = make_config(recipe.config_class, config, settings or (), values)
    if resume:
        chosen = continued(recipe, chosen, config, settings or (), values)
    if show:
        typer.echo(to_toml(chosen))
        return
    trainer = Trainer(recipe(chosen), resume=resume, say=typer.echo)
    outcome = trainer.run()
    trainer.accelerator.end_training()
    if not trainer.main:
        return
    watched = recipe.watched.name
    best = "" if outcome.best is None else f"; best {watched} {outcome.best:.5g}"
    best += f" at step {outcome.best_step}" if best else ""
    typer.echo(
        f"{outcome.reason} after {outcome.step} steps and {outcome.seconds:.0f} s{best}; "
        f"checkpoints in {chosen.output}"
    )
    if outcome.reason == "interrupted":
        raise typer.Exit(INTERRUPTED)


@guarded
def export(
    folder: Annotated[Path, typer.Argument(help="Output folder of a training.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the weights and their model card.")
    ],
    last: Annotated[
        bool, typer.Option("--last", help="The last checkpoint instead of the best.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option("--results", help="JSON of `vharm eval`, for the model card's table."),
    ] = None,
    licence: Annotated[
        str, typer.Option("--licence", help="Of the weights: what the training data allow.")
    ] = "",
    description: Annotated[
        str, typer.Option("--data-description", help="What they were trained on, in words.")
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="How the network is to be used."),
    ] = None,
    average: Annotated[
        list[Path] | None,
        typer.Option(
            "--average",
            metavar="FOLDER",
            help="Another training of the same network; the mean of the weights is written. May "
            "be given several times.",
        ),
    ] = None,
    debug: o.Debug = False,
) -> None:
    """Write a training's weights as float16 safetensors, with a model card."""
    from ..training import export_weights

    paths = export_weights(
        folder, output, best=not last, results=results, licence=licence, data=description,
        settings=settings or (), average=average or (),
    )  # fmt: skip
    if not paths:
        raise typer.Exit(FAILED)
    for path in paths:
        typer.echo(f"{path}  {path.stat().st_size / 2**20:.2f} MiB")

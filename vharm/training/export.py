# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to what users load: float16 weights and a model card."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vharm._version import __version__

from . import checkpoint
from .config import ConfigError, make_config, to_toml
from .recipe import Recipe
from .registry import get

CARD_SUFFIX = ".md"
# Settings that are paths.
PLACES = (
    "data", "clips", "luts", "output", "pretrained", "start", "encoder", "backbone", "base",
    "flow_weights",
)  # fmt: skip


def export_weights(
    folder: str | PathLike[str], output: str | PathLike[str], *, best: bool = True,
    results: str | PathLike[str] | None = None, licence: str = "", data: str = "",
    settings: Iterable[str] = (), average: Iterable[str | PathLike[str]] = (),
) -> list[Path]:  # fmt: skip
    """Writes a training's averaged weights and a model card.

    Args:
        folder: output folder of the training.
        output: folder to write in, made if need be.
        best: the checkpoint that was best on validation; False takes the last one.
        results: JSON of `vharm eval`, for the card's table of results.
        licence: of the weights, such as "CC BY-NC 4.0".
        data: what they were trained on, in words.
        settings: "key=value" texts for settings that say how the network is used, and not how it
            was trained; see `Recipe.export_settings`.
        average: output folders of further trainings of the same networks, of which this one was
            started from another or the like; what is written is the mean of all their weights.

    Returns:
        The files written: weights, then a card for each.

    Raises:
        CheckpointError: no usable checkpoint, or one of other networks. ConfigError: `results` is
            not what `vharm eval` writes, or a setting that is not one of use.
    """
    state = _checkpoint(Path(folder), best)
    others = {Path(other).name: _checkpoint(Path(other), best) for other in average}
    kind = get(state["recipe"])
    settings = tuple(settings)
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key not in kind.export_settings:
            allowed = ", ".join(kind.export_settings) or "none"
            raise ConfigError(f"--set: may be given at export: {allowed}; got {key!r}")
    config = make_config(kind.config_class, None, settings, base=state["config"])
    # The recipe's data are not needed to write weights, and may not be on this machine.
    recipe = kind.__new__(kind)
    Recipe.__init__(recipe, config)
    networks = recipe.bare_networks()
    for name, network in networks.items():
        try:
            network.load_state_dict(
                _mean([_weights(one, name) for one in (state, *others.values())])
            )
        except (KeyError, RuntimeError) as error:
            raise checkpoint.CheckpointError(f"average: not the same networks: {error}") from error
        network.eval()
    facts = {
        "vharm": __version__,
        "recipe": state["recipe"],
        "steps": state["step"],
        "seconds": round(state["seconds"]),
        "seed": config.seed,
        "validation": state["figures"],
        "licence": licence,
        "data": data,
        **({"averaged_with": ", ".join(others)} if others else {}),
    }
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    table = None if results is None else _results(Path(results))
    paths = recipe.export(networks, output, facts)
    # A card is published; where things lay on the machine that trained is not.
    places = {key: Path(getattr(config, key)).name for key in PLACES if hasattr(config, key)}
    settings = to_toml(dataclasses.replace(config, **places))
    cards = []
    for path in paths:
        method = path.stem if len(paths) > 1 else state["recipe"]
        cards.append(path.with_suffix(CARD_SUFFIX))
        _write(cards[-1], model_card(facts, method, settings, path, table))
    return [*paths, *cards]


def _checkpoint(folder: Path, best: bool) -> dict[str, Any]:
    path = folder / (checkpoint.BEST if best else checkpoint.LAST)
    if best and not path.is_file() and (folder / checkpoint.LAST).is_file():
        raise checkpoint.CheckpointError(
            f"{path}: no such checkpoint, as the training has not come to a validation yet; "
            "`--last` (best=False) takes the last one"
        )
    return checkpoint.load(path)


def _weights(state: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """A network's running mean where the training kept one, else its weights."""
    averages = state["averages"]
    return averages[name]["tensors"] if name in averages else state["networks"][name]


def _mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensor by tensor; counts are the first's."""
    first, *others = states
    mean = dict(first)
    for name, tensor in first.items():
        if others and tensor.is_floating_point():
            mean[name] = torch.stack([tensor, *(other[name] for other in others)]).mean(0)
    return mean


def model_card(
    facts: Mapping[str, Any], method: str, settings: str, path: Path, results: str | None
) -> str:
    """The card as Markdown."""
    validation = ", ".join(f"{name} {value:.5g}" for name, value in facts["validation"].items())
    size = f"`{path.name}` ({path.stat().st_size / 2**20:.1f} MiB)"
    averaged = facts.get("averaged_with")
    also = (
        f" The weights are the mean of this training's and of those of: {averaged}."
        if averaged else ""
    )  # fmt: skip
    alone = ", this training's weights alone" if averaged else ""
    parts = [
        f"# {path.stem}",
        f'Weights for `vharm.harmonize(..., method="{method}")`: {size}.',
        f"**Licence of the weights:** {facts['licence'] or 'not stated'}. vharm's code is under "
        "Apache-2.0; the weights follow the terms of the pictures they were trained on.",
        f"**Data:** {facts['data'] or 'not stated'}",
        f"**Training:** {facts['steps']} steps in {facts['seconds'] / 3600:.2f} hours, seed "
        f"{facts['seed']}, vharm {facts['vharm']}.{also}",
        f"**On photographs held out of the training set, which chose the checkpoint{alone}:** "
        f"{validation}.",
    ]
    if results is not None:
        parts += ["## Results", results]
    parts += ["## Settings", f"```toml\n{settings}\n```"]
    return "\n\n".join(parts) + "\n"


def _results(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # Of places only the last part: where they were is nobody's business.
        data = {key: Path(str(value)).name for key, value in content["settings"]["data"].items()}
        told = ", ".join(f"{key} {value}" for key, value in data.items() if value != "None")
        return f"By `vharm eval` ({told}):\n\n{str(content['markdown']).strip()}"
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"results: {path} is not a file `vharm eval` wrote: {error}") from error


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)

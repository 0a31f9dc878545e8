# SPDX-License-Identifier: Apache-2.0
"""Settings of a training: dataclasses filled from a TOML file and from `key=value` pairs."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRECISIONS = ("float32", "bfloat16", "float16")
DEVICES = ("", "cpu", "cuda")
SCHEDULES = ("constant", "cosine", "step")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ConfigError(ValueError):
    """A setting that does not exist or cannot have that value; the message names it."""


@dataclass(frozen=True)
class TrainingConfig:
    """What every recipe has.

    Attributes:
        data: folder, archive or list that `vharm.data.open_data` reads.
        luts: look-up tables for recolouring, see `vharm.data.load_luts`; "" for none.
        output: folder for checkpoints, log and pictures.
        seed: everything random follows from it and from the step.
        steps: of the whole training.
        budget: time this run may take, such as "9m" or "2h"; "" for no limit. What is left is
            done by `--resume`.
        batch: pictures a step, over all processes.
        size: side in pixels.
        workers: processes that load data, in each process.
        device: "cpu", "cuda", or "" for the best there is.
        precision: of the network's arithmetic.
        learning_rate: at its highest.
        schedule: "constant", "cosine" (to `last_rate` of the highest), or "step".
        milestones: for "step": shares of `steps` after which the rate falls by `decay`.
        decay: factor at a milestone.
        last_rate: for "cosine": share of the rate that is left at the end.
        warm_up: share of `steps` over which the rate rises from 0.
        weight_decay: of AdamW; 0 makes it Adam.
        betas: of Adam.
        clip: largest norm of the gradient; 0 for none.
        average: decay of the weights' running mean, which is what is validated and exported; 0
            for none.
        log_every: steps between log entries.
        validate_every: steps between validations, after each of which a checkpoint is written.
        pictures: how many validation pictures are shown.
        threads: of the CPU, 0 for torch's own choice.
    """

    data: str = ""
    luts: str = ""
    output: str = "runs/train"
    seed: int = 0
    steps: int = 10000
    budget: str = ""
    batch: int = 16
    size: int = 256
    workers: int = 0
    device: str = ""
    precision: str = "float32"
    learning_rate: float = 3e-4
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    last_rate: float = 0.01
    warm_up: float = 0.02
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    clip: float = 5.0
    average: float = 0.999
    log_every: int = 20
    validate_every: int = 500
    pictures: int = 6
    threads: int = 0

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ConfigError(f'device: expected "cpu", "cuda" or "", got {self.device!r}')
        check_choice(self, "precision", PRECISIONS)
        check_choice(self, "schedule", SCHEDULES)
        for name in ("steps", "batch", "size", "log_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("seed", "workers", "pictures", "threads", "clip", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate: expected more than 0, got {self.learning_rate}")
        for name in ("average", "warm_up"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected a number in [0, 1), got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas: expected two numbers in [0, 1), got {self.betas}")
        seconds(self.budget)


Config = TypeVar("Config", bound=TrainingConfig)


def seconds(budget: str) -> float:
    """`budget` such as "90s", "9m", "1h30m" or "2d" in seconds; infinity for "".

    Raises:
        ConfigError: anything else.
    """
    if not budget:
        return float("inf")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", budget)
    if not parts or "".join(a + b for a, b in parts) != budget:
        raise ConfigError(f'budget: expected a time such as "90s", "9m" or "1h30m", got {budget!r}')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def make_config(
    kind: type[Config],
    file: str | PathLike[str] | None = None,
    settings: Iterable[str] = (),
    values: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Fills a configuration: defaults, `base`, the file, the settings, the values.

    Args:
        kind: the recipe's dataclass.
        file: TOML, keys at the top level.
        settings: "key=value" texts.
        values: by key.
        base: what to start from instead of the defaults.

    Raises:
        ConfigError: an unknown key (with the nearest one), a value of the wrong type, or a file
            that is missing or no TOML.
    """
    given = {**(base or {}), **({} if file is None else _from_file(Path(file)))}
    types = typing.get_type_hints(kind)
    for setting in settings:
        key, separator, text = (part.strip() for part in setting.partition("="))
        if not separator:
            raise ConfigError(f"--set: expected key=value, got {setting!r}")
        _known(kind, key)
        given[key] = _parse(key, text, types[key])
    return from_values(kind, {**given, **(values or {})})


def from_values(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from plain values, as they stand in a file or a checkpoint."""
    types = typing.get_type_hints(kind)
    checked = {}
    for key, value in values.items():
        _known(kind, key)
        checked[key] = _convert(key, value, types[key])
    return kind(**checked)


def to_values(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain values: tuples as lists."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(config).items()
    }


def to_toml(config: TrainingConfig) -> str:
    """The configuration as a file that `make_config` reads."""
    # JSON's texts, numbers, booleans and flat lists are TOML's.
    return "\n".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in to_values(config).items()
    )


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _known(kind: type[TrainingConfig], key: str) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    if key in names:
        return
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else f" (there are {', '.join(names)})"
    raise ConfigError(f"unknown setting {key!r}{hint}")


def _parse(key: str, text: str, wanted: Any) -> Any:
    """A value from the command line: as in a file, but quotes and brackets may be left out."""
    item = _items(wanted)
    is_text = wanted is str or str in typing.get_args(wanted)
    if is_text and item is None and text[:1] not in "\"'":
        return text
    if item is not None and text[:1] != "[":
        parts = [part.strip() for part in text.split(",")] if text else []
        return [_parse(key, part, item) for part in parts]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if is_text and item is None:
            return text
        raise ConfigError(f"{key}: expected {_name(wanted)}, got {text!r}") from error


def _convert(key: str, value: Any, wanted: Any) -> Any:
    item = _items(wanted)
    if item is not None:
        if not isinstance(value, (list, tuple)):
            value = [value]
        return tuple(_convert(key, one, item) for one in value)
    allowed = typing.get_args(wanted) or (wanted,)
    if value is None and NoneType in allowed:
        return None
    for kind in allowed:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    raise ConfigError(f"{key}: expected {_name(wanted)}, got {value!r}")


def _items(wanted: Any) -> Any:
    """The type of a tuple's items; None if no tuple is wanted."""
    if typing.get_origin(wanted) is tuple:
        return typing.get_args(wanted)[0]
    return None


def _name(wanted: Any) -> str:
    item = _items(wanted)
    if item is not None:
        return f"a list of {item.__name__}"
    return " or ".join(kind.__name__ for kind in typing.get_args(wanted) or (wanted,))


def check_choice(config: TrainingConfig, name: str, allowed: Iterable[str]) -> None:
    """Raises a ConfigError unless the setting is one of those allowed."""
    value, allowed = getattr(config, name), tuple(allowed)
    if value not in allowed:
        raise ConfigError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def check_share(config: TrainingConfig, *names: str, zero: bool = True, one: bool = True) -> None:
    """Raises a ConfigError unless the settings lie between 0 and 1, these included or not."""
    for name in names:
        value = getattr(config, name)
        inside = (value >= 0 if zero else value > 0) and (value <= 1 if one else value < 1)
        if not inside:
            limits = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
            raise ConfigError(f"{name}: expected a share in {limits}, got {value}")

# SPDX-License-Identifier: Apache-2.0
"""Settings from files, from the command line and from checkpoints."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from vharm.training import ConfigError, TrainingConfig, get_recipe, make_config, to_toml
from vharm.training.config import from_values, seconds, to_values
from vharm.training.schedule import rate


@dataclass(frozen=True)
class Example(TrainingConfig):
    """One setting of each type.

    Attributes:
        filters: texts.
        shares: numbers.
        cascade: yes or no.
        note: a text.
    """

    filters: tuple[str, ...] = ("shadow",)
    shares: tuple[float, ...] = (1.0,)
    cascade: bool = True
    note: str = ""


def with_set(*settings: str) -> Example:
    return make_config(Example, None, settings)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("learning_rat", "learning_rate"), ("lerning-rate", "learning_rate"), ("filter", "filters"),
     ("validate_evry", "validate_every")],
)  # fmt: skip
def test_typo_is_refused_with_the_nearest(typo: str, meant: str, tmp_path: Path) -> None:
    text = f"unknown setting '{typo}'; did you mean '{meant}'?"
    with pytest.raises(ConfigError) as caught:
        with_set(f"{typo}=1")
    assert str(caught.value) == text
    (tmp_path / "c.toml").write_text(f"{typo} = 1\n")
    with pytest.raises(ConfigError) as caught:
        make_config(Example, tmp_path / "c.toml")
    assert str(caught.value) == text


def test_a_name_like_no_other_lists_all() -> None:
    with pytest.raises(ConfigError, match=r"setting 'zzz' \(there are data, luts, .*note\)"):
        with_set("zzz=1")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps=1.5", "steps: expected int, got 1.5"),
        ("steps=many", "steps: expected int, got 'many'"),
        ("steps=true", "steps: expected int, got True"),
        ("steps=", "steps: expected int, got ''"),
        ("learning_rate='0.1'", "learning_rate: expected float, got '0.1'"),
        ("cascade=1", "cascade: expected bool, got 1"),
        ("cascade=yes", "cascade: expected bool, got 'yes'"),
        ("shares=1,a", "shares: expected float, got 'a'"),
        ("filters=[1]", "filters: expected str, got 1"),
        ("steps", "--set: expected key=value, got 'steps'"),
        ("steps=0", "steps: expected a positive number, got 0"),
        ("clip=nan", "clip: expected 0 or more, got nan"),
        ("learning_rate=nan", "learning_rate: expected more than 0, got nan"),
        ("warm_up=1", "warm_up: expected a number in [0, 1), got 1.0"),
        ("betas=0.9", "betas: expected two numbers in [0, 1), got (0.9,)"),
        ("precision=half", "precision: expected one of float32, bfloat16, float16, got 'half'"),
        ("device=gpu", 'device: expected "cpu", "cuda" or "", got \'gpu\''),
    ],
)
def test_bad_values_name_the_setting(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_set(setting)
    assert str(caught.value) == message


def test_wrong_types_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('steps = "5"\n')
    with pytest.raises(ConfigError, match="steps: expected int, got '5'"):
        make_config(Example, tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("filters=temperature,contrast", ("temperature", "contrast")),
        ("filters=temperature, contrast", ("temperature", "contrast")),
        ('filters=["temperature", "contrast"]', ("temperature", "contrast")),
        ("filters=hue", ("hue",)),
        ("filters=", ()),
        ("shares=1,0.5,0", (1.0, 0.5, 0.0)),
        ("shares=[1, 0.5, 0]", (1.0, 0.5, 0.0)),
        ("shares=2", (2.0,)),
        ("shares=[]", ()),
        ("learning_rate=3e-4", 3e-4),
        ("learning_rate=1", 1.0),
        ("steps=20_000", 20000),
        ("cascade=false", False),
        ("note=a b=c # d", "a b=c # d"),
        ('note="quoted"', "quoted"),
        ("note=2024", "2024"),
        ("note=true", "true"),
        ("note='half", "'half"),
        ("data=", ""),
        ("budget=90s", "90s"),
        (" note = spaces ", "spaces"),
    ],
)
def test_command_line_forms(setting: str, value: object) -> None:
    found = getattr(with_set(setting), setting.partition("=")[0].strip())
    assert found == value
    assert type(found) is type(value)


def test_later_ones_win(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("steps = 5\nbatch = 3\nsize = 7\n")
    config = make_config(Example, tmp_path / "c.toml", ["batch=4", "size=8"], {"size": 9})
    assert (config.steps, config.batch, config.size) == (5, 4, 9)


def test_round_trip_through_toml(tmp_path: Path) -> None:
    config = Example(
        data='a "b"\\c\té🎬', learning_rate=1e-5, milestones=(0.5, 0.75), filters=(),
        cascade=False, budget="1h",
    )  # fmt: skip
    (tmp_path / "c.toml").write_text(to_toml(config), encoding="utf-8")
    assert make_config(Example, tmp_path / "c.toml") == config
    assert from_values(Example, to_values(config)) == config
    assert make_config(Example) == Example()


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c\.toml: no such file"):
        make_config(Example, tmp_path / "c.toml")
    (tmp_path / "c.toml").write_text("steps == 5")
    with pytest.raises(ConfigError, match=r"c\.toml: not TOML"):
        make_config(Example, tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", math.inf), ("90s", 90), ("9m", 540), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)],
)
def test_budgets(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["90", "9 m", "m", "1h30", "-5m", "5M", "an hour", "1h,5m"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="budget: expected a time such as"):
        TrainingConfig(budget=text)


def test_rates() -> None:
    config = TrainingConfig(steps=100, warm_up=0.1, schedule="cosine", last_rate=0.2)
    shares = [rate(config, step) for step in range(100)]
    assert shares[:10] == pytest.approx([(n + 1) / 11 for n in range(10)])
    assert shares[10] == 1
    assert shares[55] == pytest.approx(0.6)
    assert shares[99] == pytest.approx(0.2, abs=2e-3)
    assert all(a > b for a, b in zip(shares[10:], shares[11:], strict=False))
    config = TrainingConfig(steps=100, warm_up=0, schedule="step", milestones=(0.5, 0.75))
    assert [rate(config, n) for n in (0, 49, 50, 74, 75)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    config = TrainingConfig(steps=100, warm_up=0, schedule="constant")
    assert {rate(config, n) for n in range(100)} == {1.0}


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[2] / "examples/training").glob("*.toml")),
    ids=lambda p: p.stem,
)
def test_the_examples_can_be_used(path: Path):
    method = re.search(r"vharm train (\w+) --config", path.read_text())[1]
    config = make_config(get_recipe(method).config_class, path)
    assert config.steps > 0

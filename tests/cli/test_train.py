# SPDX-License-Identifier: Apache-2.0
"""`vharm train` and `vharm export`: what users see before and around a training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vharm.training import make_config
from vharm.training.recipes.harmonizer import HarmonizerConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_help(vharm) -> None:
    result = vharm("train", "--help")
    assert result.exit_code == 0
    for word in ("method", "--config", "--set", "--resume", "--budget", "--show"):
        assert word in result.output
    assert "--last" in vharm("export", "--help").output


def one_line(result, *words: str) -> None:
    """Refused with exit code 2 and a single line that holds these words."""
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vharm: error: ")
    for word in words:
        assert word in lines[0]


def test_unknown_method(vharm) -> None:
    one_line(vharm("train", "harmoniser"), "did you mean 'harmonizer'?")


def test_show_prints_what_can_be_loaded_back(vharm, tmp_path: Path) -> None:
    given = ("--set", "filters=temperature,contrast", "--set", "steps=77", "--budget", "9m")
    result = vharm("train", "harmonizer", *given, "--show")
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout)["steps"] == 77
    (tmp_path / "c.toml").write_text(result.stdout)
    config = make_config(HarmonizerConfig, tmp_path / "c.toml")
    assert config == HarmonizerConfig(filters=("temperature", "contrast"), steps=77, budget="9m")
    again = vharm("train", "harmonizer", "--config", tmp_path / "c.toml", "--show")
    assert again.stdout == result.stdout


def test_typo_in_the_file(vharm, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("learning_rat = 1e-3\n")
    result = vharm("train", "harmonizer", "--config", tmp_path / "c.toml")
    one_line(result, "unknown setting 'learning_rat'; did you mean 'learning_rate'?")
    (tmp_path / "c.toml").write_text("steps = = 3\n")
    one_line(vharm("train", "harmonizer", "--config", tmp_path / "c.toml"), "c.toml: not TOML")
    one_line(vharm("train", "harmonizer", "--config", tmp_path / "none.toml"), "no such file")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("hold_out=0", "hold_out: expected a share in (0, 1), got 0.0"),
        ("encoder=b7", "encoder: expected one of b0, lite0, got 'b7'"),
        ("width=0", "width: expected more than 0"),
        ("own=2", "own: expected a share in [0, 1]"),
        ("budget=soon", "budget: expected a time"),
    ],
)
def test_bad_settings(vharm, setting: str, words: str) -> None:
    one_line(vharm("train", "harmonizer", "--set", setting), words)


def test_no_data(vharm, tmp_path: Path) -> None:
    result = vharm("train", "harmonizer", "-o", tmp_path / "run")
    one_line(result, "data: expected a folder or an archive, got none")
    assert not (tmp_path / "run").exists()
    one_line(vharm("train", "harmonizer", "--data", tmp_path / "none"), "none")


def test_nothing_to_export(vharm, tmp_path: Path) -> None:
    one_line(vharm("export", tmp_path, "-o", tmp_path / "out"), "best.pt: no such checkpoint")
    (tmp_path / "last.pt").touch()
    result = vharm("export", tmp_path, "-o", tmp_path / "out")
    one_line(result, "has not come to a validation yet", "--last")
    assert not (tmp_path / "out").exists()

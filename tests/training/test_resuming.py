# SPDX-License-Identifier: Apache-2.0
"""Going on without repeating the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from vharm.training import CheckpointError, checkpoint, continued, get_recipe, make_config
from vharm.training.config import to_values


def saved(folder: Path, **changes: object) -> Path:
    recipe = get_recipe("harmonizer")
    config = make_config(recipe.config_class, values={"steps": 77, "width": 0.5, **changes})
    checkpoint.save(folder / "last.pt", {"recipe": "harmonizer", "config": to_values(config)})
    return folder


def resumed(folder: Path, *settings: str, **values: object):
    recipe = get_recipe("harmonizer")
    given = make_config(recipe.config_class, None, settings, {"output": str(folder), **values})
    return continued(recipe, given, None, settings, {"output": str(folder), **values})


def test_what_is_not_said_is_as_it_was(tmp_path):
    config = resumed(saved(tmp_path), "budget=3m")
    assert (config.steps, config.width, config.budget) == (77, 0.5, "3m")
    assert config.output == str(tmp_path)


def test_what_is_said_counts(tmp_path):
    assert resumed(saved(tmp_path), "steps=80", data="elsewhere").steps == 80
    assert resumed(saved(tmp_path), data="elsewhere").data == "elsewhere"


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"last\.pt: no such checkpoint"):
        resumed(tmp_path)

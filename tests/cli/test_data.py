# SPDX-License-Identifier: Apache-2.0
"""`vharm data`: inspect, pack and compose."""

from __future__ import annotations

import json

import pytest
from data_sets import box_mask, make_clips, make_folders, save

from vharm.cli.data import option_words
from vharm.data import open_data


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path / "set")


@pytest.fixture
def clips(tmp_path):
    return make_clips(tmp_path / "clips")


def test_help(vharm):
    text = vharm("data", "--help").output
    for command in ("inspect", "pack", "compose"):
        assert command in text
    assert "contact sheet" in vharm("data", "inspect", "--help").output


def test_inspect(vharm, folders, tmp_path):
    result = vharm("data", "inspect", folders, "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    for line in ("6 scenes", "train 4, val 2", "64x48 (6)", "broken: nothing", "sheet.png"):
        assert line in result.stdout
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    found = json.loads(vharm("data", "inspect", folders, "--json", "--split", "val").stdout)
    assert found["clips"] == 2


def test_inspect_names_what_is_broken(vharm, folders, tmp_path):
    (folders / "masks/train/p1.png").unlink()
    save(folders / "masks/train/p2.png", box_mask((40, 64)))
    result = vharm("data", "inspect", folders, "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 1
    assert "train/p1: mask missing" in result.stdout
    assert "train/p2: sizes differ" in result.stdout
    assert (tmp_path / "sheet.png").exists()


def test_pack(vharm, folders, tmp_path):
    result = vharm("data", "pack", folders, "-o", tmp_path / "x.tar", "--max-mib", 1)
    assert result.exit_code == 0, result.output
    assert "images 6, photos 2" in result.stdout
    assert open_data(tmp_path / "x.tar", split="val").names == ("val/p0", "val/p1")
    told = json.loads(
        vharm(
            "data", "pack", folders, "-o", tmp_path / "x.tar", "--part", "photos", "--json"
        ).stdout
    )
    assert told["parts"] == {"photos": 2}


def test_compose(vharm, folders, clips, tmp_path):
    result = vharm(
        "data", "compose", clips, folders, "-o", tmp_path / "out", "--count", 3, "--frames", 2,
        "--coverage", 0.2, 0.4, "--size", 48, 64,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "3 real composites" in result.stdout
    data = open_data(tmp_path / "out")
    assert len(data) == 3
    assert data[0].composite.shape == (2, 3, 48, 64)
    # Scenes stand in where there are no photographs without masks.
    result = vharm("data", "compose", clips / "a", clips, "-o", tmp_path / "out2")
    assert result.exit_code == 0, result.output
    assert "_on_b" in str(list((tmp_path / "out2").iterdir()))


def test_errors_speak_of_options(vharm, folders, tmp_path):
    for arguments, told in (
        (("inspect", tmp_path / "nowhere"), "error: PATH: "),
        (("inspect", tmp_path), "has no known layout"),
        (("inspect", folders, "--layout", "coco"), "error: --layout: expected one of"),
        (("inspect", folders, "--split", "test"), "error: --split: no split 'test'"),
        (("inspect", folders, "--sheet", "x.jpg"), "--sheet: expected a name that ends in .png"),
        (("pack", folders, "-o", tmp_path / "x.zip"), "error: --output: expected a name"),
        (("pack", folders, "-o", tmp_path / "x.tar", "--max-mib", 0.01), "--max-mib: at quality"),
    ):
        result = vharm("data", *arguments)
        assert result.exit_code == 2, result.output
        assert told in result.stderr
        assert result.stderr.count("\n") == 1


def test_option_words():
    assert option_words('path: x; such as layout="folders"') == "PATH: x; such as --layout folders"
    assert option_words("a: path: b") == "a: path: b"

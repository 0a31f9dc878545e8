# SPDX-License-Identifier: Apache-2.0
"""`vharm harmonize` without a mask."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("av")
pytest.importorskip("typer")

import numpy as np
from finding import FindsOrange, orange_clip
from typer.testing import CliRunner

from vharm.cli.app import app
from vharm.media import open_mask, open_reader, open_writer
from vharm.methods import registry


@pytest.fixture
def finder(monkeypatch):
    monkeypatch.setattr(registry, "_methods", {**registry._methods, FindsOrange.name: FindsOrange})


@pytest.fixture
def clip(tmp_path):
    frames, masks = orange_clip()
    path = tmp_path / "clip.mp4"
    reader = open_reader(frames, frame_rate=25)
    with open_writer(path, reader, crf=4) as writer:
        for frame in reader:
            writer.write(frame)
    return path, masks


def call(*arguments):
    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"})
    return runner.invoke(app, [str(a) for a in ("harmonize", *arguments)])


def test_the_mask_is_found_told_of_and_saved(finder, clip, tmp_path):
    path, masks = clip
    out, matte = tmp_path / "out.mp4", tmp_path / "matte.mkv"
    options = ("-o", out, "--method", "finds-orange", "--mask-out", matte)
    result = call(path, *options)
    assert result.exit_code == 0, result.output
    assert "the mask was found by the method: confidence" in result.output
    assert str(matte) in result.output
    assert out.is_file()
    found = np.stack([m.unit() for m in open_mask(str(matte), width=64, height=48)]) > 0.5
    assert (found & masks).sum() / (found | masks).sum() > 0.85
    again = call(path, *options)
    assert again.exit_code == 2
    assert "exists already" in again.output
    result = call(path, *options, "-y", "--json", "-q", "--mask-threshold", "0.3")
    report = json.loads(result.stdout)
    assert report["mask_confidence"] > 0.5
    assert report["files"]["mask"] == str(matte)


def test_without_such_a_method_a_mask_is_needed(clip, tmp_path):
    path, _ = clip
    result = call(path, "-o", tmp_path / "out.mp4", "--method", "mkl")
    assert result.exit_code == 2
    assert "--method huang" in result.output
    matte = tmp_path / "matte.mp4"
    result = call(
        path, "-o", tmp_path / "out.mp4", "--method", "mkl", "--mask", path, "--mask-out", matte
    )
    assert result.exit_code == 2
    assert "--mask-out" in result.output
    assert not matte.exists()

# SPDX-License-Identifier: Apache-2.0
"""`vharm demo`, small and short."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from PIL import Image

from vharm.cli.demo_clip import DemoClip
from vharm.cli.demo_figures import measure
from vharm.cli.demo_files import SOUND_RATE, melody
from vharm.looks import load_look
from vharm.media import open_reader

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def clip() -> tuple[DemoClip, list]:
    made = DemoClip(160, 90, 8)
    return made, list(made.frames())


def test_all_files_are_there_and_belong_together(vharm, tmp_path):
    out = tmp_path / "d"
    result = vharm("demo", "--out", out, "--seconds", "0.4", "--size", "160x90")
    assert result.exit_code == 0, result.output
    names = ("composite", "mask", "truth", "harmonized", "wipe")
    for name in names:
        with open_reader(out / f"{name}.mp4") as reader:
            assert (reader.width, reader.height) == (160, 90)
            assert reader.has_audio == (name not in ("mask", "truth"))
            assert len(list(reader)) == 10
    assert load_look(out / "look.cube").size == 33
    assert json.loads((out / "look.json").read_text())["kind"] == "filter"
    assert Image.open(out / "sheet.png").size[0] > 1000
    line = next(x for x in result.stdout.splitlines() if "foreground MSE" in x)
    before, after = map(float, line.split()[-2:])
    # Visibly closer to the truth, and not by a hair.
    assert after < 0.8 * before
    assert str(out / "sheet.png") in result.stdout
    assert vharm("demo", "--out", out, "--seconds", "0.1", "--size", "160x90").exit_code == 0


@pytest.mark.parametrize("size", ["160", "161x90", "8x8", "axb"])
def test_sizes_that_cannot_be_encoded(vharm, tmp_path, size):
    assert vharm("demo", "--out", tmp_path, "--size", size).exit_code == 2


def test_only_the_foreground_is_under_the_wrong_light(clip):
    for composite, mask, truth in clip[1]:
        assert (composite[mask == 0] == truth[mask == 0]).all()
        assert np.abs(composite[mask == 255].astype(int) - truth[mask == 255]).mean() > 8
        assert 0.1 < (mask > 127).mean() < 0.6
        soft = (mask > 0) & (mask < 255)
        assert 0 < soft.mean() < 0.15


def test_two_shots_that_move(clip):
    made, frames = clip
    steps = [np.abs(a[2].astype(int) - b[2]).mean() for a, b in itertools.pairwise(frames)]
    assert int(np.argmax(steps)) == made.cut - 1
    within = steps[: made.cut - 1] + steps[made.cut :]
    assert min(within) > 0.1
    assert steps[made.cut - 1] > 2 * max(within)


def test_figures_by_hand():
    truth = [np.full((4, 4, 3), 100, np.uint8)] * 4
    mask = np.zeros((4, 4), np.uint8)
    mask[:2] = 255
    # Off by 10, 14 in the first shot and by 20, 20 in the second, inside the mask only.
    inside = mask[..., None] // 255
    pictures = [t + inside * np.uint8(k) for t, k in zip(truth, (10, 14, 20, 20), strict=True)]
    got = measure(pictures, truth, [mask] * 4, cut=2)
    assert got.foreground_mse == pytest.approx((100 + 196 + 400 + 400) / 4)
    expected = np.mean([10 * np.log10(255**2 / (k**2 / 2)) for k in (10, 14, 20, 20)])
    assert got.psnr == pytest.approx(expected)
    assert got.drift == pytest.approx(np.sqrt((4 + 4) / 4))
    with pytest.raises(ValueError, match="empty"):
        measure(pictures, truth, [mask * 0] * 4, cut=2)


def test_melody_is_quiet_and_without_clicks():
    sound = melody(1.0, 0.5)
    assert sound.shape == (SOUND_RATE,)
    assert 0.05 < np.abs(sound).max() < 0.5
    assert np.abs(np.diff(sound)).max() < 0.05

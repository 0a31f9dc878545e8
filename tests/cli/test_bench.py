# SPDX-License-Identifier: Apache-2.0
"""`vharm bench` on a clip of one's own, and what it refuses."""

from __future__ import annotations

import json

import pytest

from vharm.bench import make_clip

pytest.importorskip("av")
pytest.importorskip("cv2")


def test_a_clip_of_ones_own(vharm, tmp_path):
    clip, mask = make_clip(tmp_path, 96, 64, 8)
    trace = tmp_path / "trace.json"
    result = vharm(
        "bench", str(clip), "--mask", str(mask), "--method", "mkl", "--rounds", "1",
        "--preset", "ultrafast",
        "--profile", str(trace),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for phrase in ("nothing between", "mkl, estimated every 5", "x264 ultrafast", "peak MiB"):
        assert phrase in result.stdout
    assert result.stdout.count("instead of each") == 1
    assert json.loads(trace.read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (("--mask", "m.mp4"), "CLIP"),
        (("--size", "5k"), "--size"),
        (("--method", "mlk"), "--method"),
        (("--preset", "hasty"), "--preset"),
    ],
)
def test_what_is_refused(arguments, phrase, vharm):
    result = vharm("bench", *arguments)
    assert result.exit_code == 2
    assert phrase in result.stderr

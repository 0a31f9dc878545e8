# SPDX-License-Identifier: Apache-2.0
"""The clip that is made, the cases, what is compared, and that a wrong result would be noticed."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from vharm import bench, methods
from vharm.media import open_mask, open_reader

pytest.importorskip("av")
pytest.importorskip("cv2")

trained = "harmonizer" in {row.name for row in methods.describe() if row.available}
needs_network = pytest.mark.skipif(not trained, reason="no weights for harmonizer")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return bench.Clip(*bench.make_clip(tmp_path_factory.mktemp("clip"), 160, 96, 10))


def test_the_clip_moves_and_its_mask_covers_what_was_asked_for(clip):
    with open_reader(clip.path) as reader:
        pictures = [frame.planes[0].astype(float) for frame in reader]
        assert (reader.width, reader.height, reader.color.matrix) == (160, 96, "bt709")
    masks = [mask.unit() for mask in open_mask(clip.mask, width=160, height=96)]
    assert len(pictures) == len(masks) == 10
    assert np.mean(masks) == pytest.approx(0.15, abs=0.02)
    assert 0.01 < np.mean([((m > 0.05) & (m < 0.95)).mean() for m in masks]) < 0.2
    for one, other in itertools.pairwise(pictures):
        assert np.abs(one - other).mean() > 1
    inside = masks[0] > 0.9
    assert pictures[0][inside].mean() < pictures[0][~inside].mean() - 10


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((161, 96, 3), "width"), ((160, 96, 0), "frames"), ((160, 96, 3, 0.9), "coverage")],
)
def test_the_clip_refuses(arguments, name, tmp_path):
    options = {"coverage": arguments[3]} if len(arguments) > 3 else {}
    with pytest.raises(ValueError, match=name):
        bench.make_clip(tmp_path, *arguments[:3], **options)


def test_cases_are_measured_apart(clip, tmp_path):
    cases = [bench.Case("copy"), bench.Case("harmonize", "mkl", 5)]
    told = []
    results = bench.measure(cases, clip, rounds=1, progress=told.append)
    assert told == [case.name for case in cases]
    assert [result.frames for result in results] == [10, 10]
    assert all(0 < result.cpu < 60 and result.seconds > 0 for result in results)
    assert all(50 << 20 < result.peak < 4 << 30 for result in results)
    assert set(results[1].stages) >= {"decode", "mask", "thumbnails", "estimate", "apply", "encode"}
    text = bench.table(results)
    assert "mkl, estimated every 5 frames" in text
    assert "thumbnails" in text
    sparse = [("mkl", bench.interpolation(clip, "mkl", 5, 10))]
    said = bench.lines(results, None, sparse)
    assert "ms CPU a frame" in said[0]
    assert "every 5 frames" in said[-1]
    data = json.loads(json.dumps(bench.as_data(results, None, sparse)))
    assert data["cases"][0]["share"] == 1
    assert data["interpolated"][0]["every"] == 5


def test_the_first_case_is_measured_all_the_time(clip, monkeypatch):
    """On a machine that gets slower and slower shares hardly change."""
    cases = [bench.Case("copy"), bench.Case("harmonize", "mkl"), bench.Case("harmonize", "mkl", 5)]
    speeds, ran = dict(zip(cases, (1.0, 2.0, 1.25), strict=True)), []

    def run(case, clip, out):
        ran.append(case)
        seconds = (1 + len(ran) / 100) * speeds[case]
        return {"seconds": seconds, "cpu": 2, "frames": 10, "peak": 1, "stages": {}, "size": 1}

    monkeypatch.setattr(sys.modules["vharm.bench.measure"], "run_apart", run)
    found = bench.measure(cases, clip, rounds=3)
    assert ran == [cases[0], cases[1], cases[0], cases[2]] * 3
    shares = [bench.Share.of(result, found[0]).wall for result in found]
    assert shares == pytest.approx([1, 0.5, 0.8], rel=0.03)
    ran.clear()
    bench.measure(cases[:1], clip, rounds=2)
    assert ran == [cases[0]] * 2


def test_a_case_that_fails_says_why(clip, tmp_path):
    broken = bench.Clip(clip.path, tmp_path / "missing.mp4")
    with pytest.raises(RuntimeError, match=r"mkl.*missing\.mp4"):
        bench.run_apart(bench.Case("harmonize", "mkl"), broken, tmp_path / "out.mp4")


def test_a_trace_is_written(clip, tmp_path):
    path = tmp_path / "trace.json"
    case = bench.Case("harmonize", "mkl")
    assert bench.run_apart(case, clip, tmp_path / "out.mp4", trace=path)["frames"] == 10
    spans = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
    assert sum(span["name"] == "apply" for span in spans) == 10


def test_peak_memory_is_of_this_program_alone(tmp_path):
    size = np.ones(300 << 20, np.uint8).nbytes >> 20
    code = "from vharm.bench import peak_memory; print(peak_memory())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    own = int(result.stdout) >> 20
    code = f"import numpy; a = numpy.ones({size} << 20, numpy.uint8); {code}"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) >> 20 >= own + 0.9 * size


def test_interpolated_looks_differ_and_estimates_do_not(clip):
    assert bench.interpolation(clip, "mkl", 1, 8).largest == 0
    sparse = bench.interpolation(clip, "mkl", 5, 8)
    assert 0 < sparse.mean < sparse.largest


@needs_network
def test_the_eager_peer_gives_the_same_picture(clip):
    found = bench.agreement(clip, 4)
    assert found.frames == 4
    assert found.colour < 1.5
    assert found.psnr > 38
    # The composite itself would not pass.
    assert found.moved > 3


@needs_network
def test_the_eager_peer_writes_a_clip(clip, tmp_path):
    out = tmp_path / "out.mp4"
    assert bench.run_apart(bench.Case("eager"), clip, out)["frames"] == 10
    with open_reader(out) as reader:
        assert sum(1 for _ in reader) == 10


def test_default_cases():
    names = [case.name for case in bench.default_cases(["mkl+lightness=1.0"], 1)]
    assert names[1] == "mkl+lightness=1.0"
    names = [case.name for case in bench.default_cases(["mkl"], 1)]
    assert names == ["decode + encode, nothing between", "mkl"]
    with pytest.raises(ValueError, match="method"):
        bench.default_cases(["mlk"])

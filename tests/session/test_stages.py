# SPDX-License-Identifier: Apache-2.0
"""Stages: what is counted as what, threads, and the trace that viewers read."""

from __future__ import annotations

import builtins
import json
import threading
import time

import numpy as np
import pytest
from clips import ListWriter

from vharm.media import open_mask, open_reader
from vharm.session import Session, Trace
from vharm.session.stages import Stages, stage_marker


def test_a_stage_within_another_counts_as_itself_only():
    seconds: dict[str, float] = {}
    stages = Stages(seconds)
    with stages("decode"):
        time.sleep(0.01)
        with stages("mask"):
            time.sleep(0.05)
        with stages("mask"):
            time.sleep(0.05)
        stages.leave_out(0.004)
    assert seconds["mask"] >= 0.1
    assert 0.006 <= seconds["decode"] < 0.05


def test_a_stage_that_fails_is_counted_and_the_error_passes():
    seconds: dict[str, float] = {}
    stages = Stages(seconds)
    with pytest.raises(KeyError), stages("apply"):
        raise KeyError
    assert seconds["apply"] > 0


def test_stages_of_two_threads_do_not_take_from_each_other():
    seconds: dict[str, float] = {}
    stages = Stages(seconds)
    inside, done = threading.Event(), threading.Event()

    def other():
        inside.wait(5)
        with stages("encode"):
            time.sleep(0.05)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with stages("decode"):
        inside.set()
        assert done.wait(5)
    thread.join()
    assert seconds["decode"] >= 0.05
    assert seconds["encode"] >= 0.05


def test_without_nvtx_nothing_is_marked(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name == "nvtx":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    mark = stage_marker()
    assert mark("decode") is mark("encode")
    with mark("decode"), mark("mask"):
        pass


def test_the_trace_of_a_run_is_what_viewers_read(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    masks = np.zeros((6, 48, 64), bool)
    masks[:, 8:24, 8:30] = True
    trace, path = Trace(), tmp_path / "trace.json"
    reader, mask = open_reader(frames), open_mask(masks, width=64, height=48)
    report = Session("mkl").run(reader, mask, ListWriter(), trace=trace)
    trace.write(path)
    events = json.loads(path.read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {span["name"] for span in spans} == set(report.stages)
    assert sum(span["name"] == "encode" for span in spans) == 6
    assert min(span["ts"] for span in spans) == 0
    where = {span["name"]: names[span["tid"]] for span in spans}
    assert where["decode"] == where["mask"] == where["thumbnails"] == "vharm-read"
    assert where["estimate"] == where["apply"] == "vharm-change"
    assert where["encode"] not in ("vharm-read", "vharm-change")
    total = sum(span["dur"] for span in spans if span["name"] == "apply") * 1e-6
    assert total == pytest.approx(report.stages["apply"], rel=0.01, abs=1e-4)

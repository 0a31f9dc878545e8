# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest

from vharm.media import open_reader, open_writer
from vharm.media.threads import decoder_threads, matte_threads, x264_threads

pytest.importorskip("av")


def give_cores(monkeypatch, count):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(count), raising=False)


@pytest.mark.parametrize(
    ("cores", "clip", "matte", "encoder"),
    [(1, 1, 1, 1), (2, 2, 1, 2), (6, 6, 1, 6), (64, 8, 2, 33)],
)
def test_a_thread_for_each_core_a_few_for_mattes_and_no_more_than_rows(
    monkeypatch, cores, clip, matte, encoder
):
    give_cores(monkeypatch, cores)
    assert (decoder_threads(), matte_threads()) == (clip, matte)
    assert x264_threads(1080) == encoder
    assert x264_threads(16) == 1


@pytest.mark.parametrize(
    ("given", "expected"), [({}, 2), ({"threads": 5}, 5), ({"x264-params": "threads=3"}, 3)]
)
def test_x264_gets_a_thread_for_each_core_unless_told_otherwise(
    make_clip, tmp_path, monkeypatch, given, expected
):
    give_cores(monkeypatch, 2)
    path = tmp_path / "out.mp4"
    reader = open_reader(make_clip(width=64, height=192))
    with open_writer(path, reader, codec="libx264", options=given) as writer:
        for frame in reader:
            writer.write(frame)
    # x264 writes what it was set to into its first packet.
    assert int(re.search(rb" threads=(\d+) ", path.read_bytes())[1]) == expected

# SPDX-License-Identifier: Apache-2.0
"""Packets of untouched frames are copied where their codec allows it, in the frames' order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vharm import Session
from vharm.media import open_mask, open_reader, open_writer
from vharm.media.standalone import PacketOrder

pytest.importorskip("av")

KINDS = {".mov": ("prores_ks", "yuv422p10le"), ".mkv": ("mjpeg", "yuvj420p")}


@pytest.fixture(params=KINDS, ids=lambda suffix: KINDS[suffix][0])
def source(request, make_clip):
    codec, pixel_format = KINDS[request.param]
    pts = [0, 1, 2, 4, 7, 8, 9, 11, 12, 13, 14, 15]
    return make_clip(
        f"clip{request.param}", width=96, height=64, codec=codec, pixel_format=pixel_format,
        audio=False, pts=pts, time_base=Fraction(1, 25),
    )  # fmt: skip


def written(source, target, *, change=(), between=(None, None), **settings):
    """The writer of all frames of the source, those of `change` darker, as the source's kind."""
    settings = {"codec": KINDS[source.suffix][0], **settings}
    reader = open_reader(source, start=between[0], end=between[1])
    with reader, open_writer(target, reader, **settings) as writer:
        for number, frame in enumerate(reader):
            if number in change:
                frame = frame.replace_planes([plane // 2 for plane in frame.planes])
            writer.write(frame)
    return writer


@pytest.mark.parametrize("change", [(), (0,), (3, 4, 11), tuple(range(12))])
def test_untouched_frames_keep_their_bytes_and_all_their_places(source, tmp_path, packets, change):
    target = tmp_path / f"out{source.suffix}"
    writer = written(source, target, change=change)
    assert writer.copied_count == 12 - len(change)
    before, after = packets(source, "video"), packets(target, "video")
    assert [time for time, _ in after] == [time for time, _ in before]
    for number, ((_, old), (_, new)) in enumerate(zip(before, after, strict=True)):
        assert (old == new) == (number not in change)
    with open_reader(source) as old, open_reader(target) as new:
        for number, (a, b) in enumerate(zip(old, new, strict=True)):
            assert (a.time, a.color) == (b.time, b.color)
            if number in change:
                assert abs(float(b.planes[0].mean()) - float(a.planes[0].mean()) / 2) < 2
            else:
                assert all(map(np.array_equal, a.planes, b.planes))


def test_a_cut_clip_is_copied_from_its_own_beginning(source, tmp_path, packets):
    target = tmp_path / f"cut{source.suffix}"
    assert written(source, target, between=(4 / 25, 13 / 25)).copied_count == 6
    expected = [data for _, data in packets(source, "video")][3:9]
    assert [data for _, data in packets(target, "video")] == expected


def test_other_encodings_are_not_mixed(source, tmp_path):
    name, pixel_format = f"out{source.suffix}", KINDS[source.suffix][1]
    h264 = written(source, tmp_path / name, codec="libx264", pixel_format=pixel_format)
    assert h264.copied_count == 0
    assert written(source, tmp_path / name, options={"threads": "1"}).copied_count == 0


def test_another_container_gets_no_packets(source, tmp_path):
    suffix = {".mov": ".mkv", ".mkv": ".mov"}[source.suffix]
    assert written(source, tmp_path / f"out{suffix}").copied_count == 0


def test_h264_is_encoded_again(make_clip, tmp_path):
    source = make_clip()
    with open_reader(source) as reader, open_writer(tmp_path / "out.mp4", reader) as writer:
        for frame in reader:
            assert frame.packet is None
            writer.write(frame)
    assert writer.copied_count == 0


def test_a_session_copies_what_the_mask_does_not_touch(source, tmp_path, packets):
    masks = np.zeros((12, 64, 96), np.uint8)
    masks[5:8, 20:40, 30:60] = 255
    target = tmp_path / f"out{source.suffix}"
    with open_reader(source) as reader:
        mask = open_mask(masks, width=96, height=64, frame_count=12)
        writer = open_writer(target, reader, codec=KINDS[source.suffix][0])
        report = Session("mkl").run(reader, mask, writer)
    assert (report.frames, report.empty_masks, report.copied) == (12, 9, 9)
    pairs = zip(packets(source, "video"), packets(target, "video"), strict=True)
    same = [old == new for (_, old), (_, new) in pairs]
    assert same == [number not in (5, 6, 7) for number in range(12)]


def test_packets_wait_for_those_before_them():
    given = []
    order = PacketOrder(given.append)
    order.copied("a")
    order.expect()
    order.copied("c")
    order.expect()
    assert given == ["a"]
    order.encoded("b")
    assert given == ["a", "b", "c"]
    order.encoded("d")
    assert given == ["a", "b", "c", "d"]

# SPDX-License-Identifier: Apache-2.0
"""Packets of untouched frames are copied where their codec allows it, in the frames' order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vharm import Session
from vharm.media import open_mask, open_reader, open_writer
from vharm.media.standalone import PacketOrder

av = pytest.importorskip("av")

KINDS = {
    "prores": ("clip.mov", "prores_ks", "yuv422p10le"),
    "mjpeg": ("clip.mkv", "mjpeg", "yuvj420p"),
}


@pytest.fixture(params=KINDS)
def source(request, make_clip):
    name, codec, pixel_format = KINDS[request.param]
    pts = [0, 1, 2, 4, 7, 8, 9, 11, 12, 13, 14, 15]
    return make_clip(
        name, width=96, height=64, codec=codec, pixel_format=pixel_format, audio=False,
        pts=pts, time_base=Fraction(1, 25),
    )  # fmt: skip


def written(source, target, *, change=(), **settings):
    """All frames of the source, those of `change` darker; how many packets were copied."""
    codec = settings.pop("codec", None) or av.open(str(source)).streams.video[0].codec.name
    codec = "prores_ks" if codec == "prores" else codec
    with open_reader(source) as reader, open_writer(
        target, reader, codec=codec, **settings
    ) as writer:  # fmt: skip
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
    codec = {".mov": "prores_ks", ".mkv": "mjpeg"}[source.suffix]
    reader = open_reader(source, start=4 / 25, end=13 / 25)
    with reader, open_writer(target, reader, codec=codec) as writer:
        for frame in reader:
            writer.write(frame)
    assert writer.copied_count == 6
    expected = [data for _, data in packets(source, "video")][3:9]
    assert [data for _, data in packets(target, "video")] == expected


@pytest.mark.parametrize(
    "settings",
    [{"codec": "libx264"}, {"suffix": ".avi"}, {"options": {"threads": "1"}}],
)
def test_other_encodings_are_not_mixed(source, tmp_path, settings):
    suffix = settings.get("suffix", source.suffix)
    if suffix == ".avi" and source.suffix == ".mov":
        pytest.skip("AVI holds no ProRes")
    settings = {name: value for name, value in settings.items() if name != "suffix"}
    if "codec" in settings and source.suffix == ".mov":
        settings["pixel_format"] = "yuv422p10le"
    assert written(source, tmp_path / f"out{suffix}", **settings).copied_count == 0


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
    codec = {".mov": "prores_ks", ".mkv": "mjpeg"}[source.suffix]
    with open_reader(source) as reader:
        mask = open_mask(masks, width=96, height=64, frame_count=12)
        writer = open_writer(target, reader, codec=codec)
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

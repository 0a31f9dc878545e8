# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vharm.media import open_reader, open_writer

av = pytest.importorskip("av")

LOSSLESS = {"options": {"qp": 0}, "preset": "ultrafast"}


def copy(source, target, *, start=None, end=None, **settings):
    with (
        open_reader(source, start=start, end=end) as reader,
        open_writer(target, reader, **settings) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return writer


def assert_same_frames(first, second):
    ours, theirs = list(open_reader(first)), list(open_reader(second))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.pts * a.time_base == b.pts * b.time_base
        for plane, other in zip(a.planes, b.planes, strict=True):
            assert np.array_equal(plane, other)


@pytest.mark.parametrize(("source_suffix", "suffix"), [("mp4", "mkv"), ("mkv", "mp4")])
def test_other_container(make_clip, tmp_path, packets, source_suffix, suffix):
    source = make_clip(f"in.{source_suffix}", audio=True)
    target = tmp_path / f"out.{suffix}"
    copy(source, target, **LOSSLESS)
    assert_same_frames(source, target)
    sound, copied = packets(source), packets(target)
    assert [data for _, data in copied] == [data for stamp, data in sound if stamp >= 0 or
                                            suffix == "mp4"]  # fmt: skip
    assert float(copied[-1][0]) == pytest.approx(float(sound[-1][0]), abs=1e-3)


def test_subtitles_are_copied_where_they_fit(make_clip, tmp_path, packets):
    def extra(container, stream):
        lines = container.add_mux_stream("subrip")
        lines.time_base = Fraction(1, 1000)
        container.start_encoding()
        for number in range(3):
            line = av.Packet(f"line {number}".encode())
            line.stream, line.time_base = lines, Fraction(1, 1000)
            line.pts = line.dts = number * 100
            line.duration = 80
            container.mux(line)

    source = make_clip("in.mkv", extra=extra)
    assert copy(source, tmp_path / "out.mkv", **LOSSLESS).warnings == []
    assert packets(tmp_path / "out.mkv", "subtitles") == packets(source, "subtitles")
    assert len(packets(source, "subtitles")) == 3
    warnings = copy(source, tmp_path / "out.mp4", **LOSSLESS).warnings
    assert len(warnings) == 1
    assert "subtitle stream 1" in warnings[0]


def test_transport_stream_to_mp4(make_clip, tmp_path, packets):
    source = make_clip("in.ts", audio=True)
    copy(source, tmp_path / "out.mp4", **LOSSLESS)
    assert_same_frames(source, tmp_path / "out.mp4")
    assert open_reader(tmp_path / "out.mp4").has_audio

    def gap(path):
        first = next(iter(open_reader(path)))
        return float(packets(path)[0][0] - first.pts * first.time_base)

    assert gap(tmp_path / "out.mp4") == pytest.approx(gap(source), abs=1e-3)


def test_cut_moves_sound_and_picture_alike(make_clip, tmp_path, packets):
    source = make_clip(count=50, audio=True, options={"g": "10"})
    target = tmp_path / "out.mp4"
    copy(source, target, start=0.6, end=1.4, **LOSSLESS)
    frames, whole = list(open_reader(target)), list(open_reader(source))
    assert len(frames) == 20
    for index, frame in enumerate(frames):
        assert frame.time == pytest.approx(index / 25)
        assert np.array_equal(frame.planes[0], whole[15 + index].planes[0])
    sound = {data: stamp for stamp, data in packets(source)}
    copied = packets(target)
    assert len(copied) in range(36, 40)
    for stamp, data in copied:
        assert float(stamp) == pytest.approx(float(sound[data]) - 0.6, abs=1e-4)
        assert 0 <= stamp < 0.8


def test_metadata_and_chapters(make_clip, tmp_path):
    def extra(container, stream):
        container.metadata["title"] = "Dusk"
        stream.metadata["language"] = "deu"
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 240, "time_base": Fraction(1, 1000),
              "metadata": {"title": "One"}},
             {"id": 2, "start": 240, "end": 480, "time_base": Fraction(1, 1000),
              "metadata": {"title": "Two"}}]
        )  # fmt: skip

    source = make_clip("in.mkv", extra=extra)
    copy(source, tmp_path / "out.mkv", **LOSSLESS)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.metadata["title"] == "Dusk"
        assert container.streams.video[0].metadata["language"] in ("deu", "ger")
        chapters = [(c["metadata"]["title"], c["start"] * c["time_base"]) for c in
                    container.chapters()]  # fmt: skip
    assert chapters == [("One", 0), ("Two", Fraction(6, 25))]
    copy(source, tmp_path / "cut.mkv", start=0.2, **LOSSLESS)
    with av.open(str(tmp_path / "cut.mkv")) as container:
        starts = [c["start"] * c["time_base"] for c in container.chapters()]
    assert starts == [0, Fraction(1, 25)]


def test_sound_the_container_does_not_take_is_a_warning(make_clip, tmp_path):
    source = make_clip(audio=True)
    writer = copy(source, tmp_path / "out.webm", options={"cpu-used": 8, "deadline": "realtime"})
    assert len(writer.warnings) == 1
    assert "audio stream 1 (aac) is not copied" in writer.warnings[0]
    assert len(list(open_reader(tmp_path / "out.webm"))) == 12
    silent = copy(source, tmp_path / "out.mp4", audio=False, **LOSSLESS)
    assert silent.warnings == []
    assert not open_reader(tmp_path / "out.mp4").has_audio


def test_cover_picture_and_timecode(make_clip, tmp_path):
    plain = make_clip("plain.mp4", audio=True)
    source = tmp_path / "in.mp4"
    with av.open(str(plain)) as container, av.open(str(source), "w") as target:
        streams = [target.add_stream_from_template(s, opaque=True) for s in container.streams]
        streams[0].metadata["timecode"] = "01:00:00:00"
        cover = target.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
        cover.disposition = 0x400
        for packet in container.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
        black = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        target.mux(cover.encode(black) + cover.encode(None))
    assert open_reader(source).width == 64
    assert copy(source, tmp_path / "out.mp4", **LOSSLESS).warnings == []
    assert_same_frames(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        kinds = [(stream.type, stream.name) for stream in container.streams]
        codes = [stream.metadata.get("timecode") for stream in container.streams]
    with av.open(str(source)) as container:
        assert codes == [stream.metadata.get("timecode") for stream in container.streams]
    assert "01:00:00:00" in codes
    assert kinds == [("video", "h264"), ("audio", "aac"), ("data", None), ("video", "png")]


def test_avi_is_in_order(make_clip, tmp_path):
    copy(make_clip(), tmp_path / "out.avi", preset="ultrafast", crf=20)
    frames = list(open_reader(tmp_path / "out.avi"))
    assert open_reader(tmp_path / "out.avi").frame_rate == 25
    assert [frame.time for frame in frames] == [pytest.approx(i / 25) for i in range(12)]

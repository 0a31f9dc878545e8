# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from vharm.media import MediaError, open_reader
from vharm.media.pixel_formats import native_format

av = pytest.importorskip("av")


def by_pyav(path):
    with av.open(str(path)) as container:
        return [(f.pts, f.to_ndarray(format=f.format.name)) for f in container.decode(video=0)]


@pytest.mark.parametrize(("width", "height"), [(64, 48), (66, 50), (98, 34)])
def test_planes_are_the_decoders_own(make_clip, width, height):
    path = make_clip(width=width, height=height)
    reader = open_reader(path)
    assert (reader.width, reader.height) == (width, height)
    assert reader.frame_rate == 25
    assert reader.frame_count == 12
    expected = by_pyav(path)
    frames = list(reader)
    assert len(frames) == 12
    for frame, (pts, samples) in zip(frames, expected, strict=True):
        stacked = np.concatenate([plane.reshape(-1) for plane in frame.planes])
        assert np.array_equal(stacked, samples.reshape(-1))
        assert frame.pts == pts
        assert frame.planes[0].shape == (height, width)
        assert frame.planes[1].shape == (height // 2, width // 2)


def test_odd_size_rounds_chroma_up(make_clip, smooth):
    path = make_clip("odd.mkv", width=65, height=49, codec="ffv1")
    frame = next(iter(open_reader(path)))
    assert frame.planes[1].shape == (25, 33)
    for plane, expected in zip(frame.planes, smooth(65, 49, 0), strict=True):
        assert np.array_equal(plane, expected)


def test_planes_cannot_be_written_and_outlive_the_reader(make_clip):
    with open_reader(make_clip()) as reader:
        frames = list(reader)
    kept = frames[0].planes[0].copy()
    with pytest.raises(ValueError, match="read-only"):
        frames[0].planes[0][0, 0] = 1
    del reader
    junk = [np.ones(10**6, np.uint8) for _ in range(5)]
    assert len(junk) == 5
    assert np.array_equal(frames[0].planes[0], kept)


def test_tensors_share_memory_without_a_warning(make_clip, recwarn):
    frame = next(iter(open_reader(make_clip())))
    luma = frame.tensors()[0]
    assert luma.data_ptr() == frame.planes[0].ctypes.data
    assert torch.equal(luma, torch.from_numpy(frame.planes[0].copy()))
    assert not [w for w in recwarn if "writable" in str(w.message)]


@pytest.mark.parametrize(
    ("pixel_format", "depth", "subsampling"),
    [("yuv422p", 8, (1, 0)), ("yuv444p", 8, (0, 0)), ("yuv420p10le", 10, (1, 1)),
     ("yuv444p12le", 12, (0, 0)), ("yuv422p16le", 16, (1, 0))],
)  # fmt: skip
def test_depths_and_subsampling(make_clip, smooth, pixel_format, depth, subsampling):
    path = make_clip("deep.mkv", codec="ffv1", pixel_format=pixel_format)
    reader = open_reader(path)
    assert (reader.color.depth, reader.color.subsampling) == (depth, subsampling)
    for frame in reader:
        assert frame.planes[0].dtype == (np.uint8 if depth == 8 else np.uint16)
        expected = smooth(64, 48, frame.index, depth=depth, subsampling=subsampling)
        for plane, wanted in zip(frame.planes, expected, strict=True):
            assert np.array_equal(plane, wanted)


@pytest.mark.parametrize(
    ("name", "native"),
    [("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("p010le", "yuv420p10le"), ("gbrp", "rgb24"),
     ("bgr0", "rgb24"), ("pal8", "rgba"), ("gbrp10le", "rgb48le"), ("yuv440p", "yuv444p"),
     ("yuva420p", "yuva420p"), ("gray", "gray"), ("monob", "gray"), ("nv24", "yuv444p"),
     ("bgra", "rgba"), ("gbrpf32be", "gbrpf32le"), ("yuv411p", "yuv422p")],
)  # fmt: skip
def test_native_format(name, native):
    assert native_format(name) == native


def test_nv12_keeps_its_samples(smooth):
    from vharm.media.formats import frame_from_av

    luma, blue, red = smooth(64, 48, 3)
    stacked = np.concatenate([luma, np.stack([blue, red], -1).reshape(24, 64)])
    frame = frame_from_av(av.VideoFrame.from_ndarray(stacked, format="nv12"))
    for plane, expected in zip(frame.planes, (luma, blue, red), strict=True):
        assert np.array_equal(plane, expected)


@pytest.mark.parametrize(
    ("size", "tag", "matrix"),
    [((64, 48), 2, "bt601"), ((1280, 720), 2, "bt709"), ((64, 48), 1, "bt709"),
     ((64, 48), 9, "bt2020"), ((1280, 720), 5, "bt601")],
)  # fmt: skip
def test_matrix_choice_keeps_the_tag(make_clip, size, tag, matrix):
    path = make_clip(width=size[0], height=size[1], count=1, tags={"colorspace": tag})
    color = open_reader(path).color
    assert (color.matrix, color.matrix_tag) == (matrix, tag)


def test_full_range_is_seen(make_clip):
    color = open_reader(make_clip(tags={"color_range": 2})).color
    assert color.full_range
    assert (color.black, color.white) == (0, 255)
    color = open_reader(make_clip()).color
    assert (color.black, color.white) == (16, 235)


def test_tensors_are_made_once_for_the_same_planes(make_clip):
    frame = next(iter(open_reader(make_clip(count=2))))
    first = frame.tensors()
    assert frame.tensors() is first
    other = frame.replace_planes([plane.copy() + 1 for plane in frame.planes])
    assert torch.equal(other.tensors()[0], first[0] + 1)
    frame.planes = other.planes
    assert torch.equal(frame.tensors()[0], first[0] + 1)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_of_a_decoder(make_clip, threads):
    path = make_clip()
    for one, other in zip(open_reader(path), open_reader(path, threads=threads), strict=True):
        assert np.array_equal(one.planes[0], other.planes[0])
    with pytest.raises(ValueError, match="threads: expected at least 1, got 0"):
        open_reader(path, threads=0)


def test_start_and_end(make_clip):
    path = make_clip(count=25, options={"g": "10"})
    whole = list(open_reader(path))
    reader = open_reader(path, start=0.52, end=0.8)
    part = list(reader)
    assert [frame.index for frame in part] == list(range(7))
    assert part[0].pts == 0
    assert part[0].time == 0
    assert part[3].time == pytest.approx(0.12)
    for frame, original in zip(part, whole[13:20], strict=True):
        assert np.array_equal(frame.planes[0], original.planes[0])
    again = [frame.pts for frame in reader]
    assert again == [frame.pts for frame in part]
    with pytest.raises(ValueError, match=r"start: no frame .* 1\.000 s long"):
        open_reader(path, start=5)
    with pytest.raises(ValueError, match="end: expected more than start"):
        open_reader(path, start=0.5, end=0.5)


def test_truncated_file_says_how_far_it_got(make_clip):
    path = make_clip("cut.mkv", count=60, codec="ffv1")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = []
    with pytest.raises(MediaError, match=r"(\d+) frames decoded, up to") as caught:
        frames.extend(open_reader(path))
    assert caught.value.frames < 60
    assert caught.value.frames > 10
    assert caught.value.time == pytest.approx((caught.value.frames - 1) / 25, abs=0.01)


def test_truncated_mp4(make_clip):
    path = make_clip("cut.mp4", count=60, options={"preset": "ultrafast"})
    moved = path.with_name("fast.mp4")
    with (
        av.open(str(path)) as source,
        av.open(str(moved), "w", container_options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    data = moved.read_bytes()
    moved.write_bytes(data[: int(len(data) * 0.6)])
    with pytest.raises(MediaError, match="frames decoded"):
        list(open_reader(moved))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(MediaError, match="not a readable media file"):
        open_reader(path)


def test_damaged_frame_is_an_error(make_clip):
    path = make_clip(count=30, width=160, height=120, options={"qp": "20", "g": "5"})
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 400, 7):
        data[place] ^= 0xFF
    path.write_bytes(data)
    frames = []
    with pytest.raises(MediaError, match="broken or cut off") as caught:
        frames.extend(open_reader(path))
    assert 0 < caught.value.frames < 30


def test_cutting_pictures_by_seconds():
    array = np.zeros((10, 4, 4, 3), np.uint8) + np.arange(10, dtype=np.uint8)[:, None, None, None]
    reader = open_reader(array, frame_rate=10, start=0.3, end=0.6)
    assert reader.frame_count == 3
    for _ in range(2):
        frames = list(reader)
        assert [int(frame.planes[0][0, 0, 0]) for frame in frames] == [3, 4, 5]
        assert frames[0].time == 0
    with pytest.raises(ValueError, match="only with frame_rate"):
        open_reader(array, start=0.3)


def test_no_video_stream(tmp_path):
    path = tmp_path / "sound.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        block = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16",
                                           layout="mono")  # fmt: skip
        block.sample_rate = 8000
        container.mux(stream.encode(block))
    with pytest.raises(MediaError, match=r"no video stream \(found: audio\)"):
        open_reader(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        open_reader(tmp_path / "absent.mp4")
    with pytest.raises(ValueError, match="frame_rate: a video file carries its own"):
        open_reader(path, frame_rate=25)


def test_info_is_one_line(make_clip):
    text = open_reader(make_clip(audio=True)).info()
    assert "64x48" in text
    assert "4:2:0" in text
    assert "audio: aac" in text
    assert "\n" not in text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_and_tensors(dtype):
    rng = np.random.default_rng(0)
    array = (rng.random((5, 6, 7, 4)) * (1 if dtype == np.float32 else 255)).astype(dtype)
    for source in (array, torch.from_numpy(array).permute(0, 3, 1, 2), list(array)):
        reader = open_reader(source, frame_rate="29.97")
        assert (reader.width, reader.height, reader.frame_count) == (7, 6, 5)
        assert reader.frame_count_exact
        assert reader.has_alpha
        for _ in range(2):
            frames = list(reader)
            assert len(frames) == 5
            for frame, picture in zip(frames, array, strict=True):
                assert np.array_equal(frame.planes[0], picture[..., :3])
                assert np.array_equal(frame.alpha, picture[..., 3])
        assert frames[3].time == pytest.approx(3 * 1001 / 30000)
        assert frames[3].time_base == Fraction(1001, 30000)


def test_generator_is_lazy_and_read_once():
    made = []

    def pictures():
        for number in range(4):
            made.append(number)
            yield np.full((4, 6, 3), number, np.uint8)

    reader = open_reader(pictures())
    assert made == [0]
    assert reader.frame_count is None
    assert not reader.reiterable
    assert [int(frame.planes[0][0, 0, 0]) for frame in reader] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="only once"):
        list(reader)


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (np.zeros((2, 4, 6)), ValueError, r"expected \[H,W,3\]"),
        (np.zeros((4, 6, 3), np.int32), TypeError, "got int32"),
        (torch.zeros(5, 6, 3), ValueError, r"expected \[3,H,W\]"),
        ([np.zeros((4, 6, 3)), np.zeros((5, 6, 3))], ValueError, "frame 1 is 6x5"),
        ([], ValueError, "holds no frame"),
        (7, TypeError, "got int"),
    ],
)
def test_bad_arrays(source, error, text):
    with pytest.raises(error, match=text):
        list(open_reader(source))


def test_nothing_keeps_the_first_picture(make_clip):
    # Its side data is looked at, which would keep it until the collector comes: 12 MB in 4K.
    first, second, *_ = open_reader(make_clip())
    kept = [sys.getrefcount(frame.source[0]) for frame in (first, second)]
    assert kept[0] == kept[1]

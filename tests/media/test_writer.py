# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from vharm.media import ColorSpec, MediaError, codecs, open_reader, open_writer
from vharm.media.exif import matrix_of_rotation

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


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_lossless_copy_keeps_samples_and_sound(make_clip, tmp_path, packets, suffix):
    source = make_clip(f"in.{suffix}", audio=True)
    target = tmp_path / f"out.{suffix}"
    writer = copy(source, target, **LOSSLESS)
    assert writer.warnings == []
    assert writer.frame_count == 12
    assert_same_frames(source, target)
    assert packets(source) == packets(target)
    assert open_reader(target).has_audio
    assert open_reader(source).duration == pytest.approx(open_reader(target).duration, abs=1e-3)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("settings", [{}, {"preset": "fast", "crf": 30}])
def test_variable_frame_rate_with_b_frames(make_clip, tmp_path, settings):
    pts = [0, 1000, 1700, 4000, 4100, 9000, 9001, 12000, 15000, 21000, 21500, 24000]
    source = make_clip(pts=pts, time_base=Fraction(1, 30000), options={"bf": "2"})
    target = tmp_path / "out.mp4"
    copy(source, target, **settings)
    frames = list(open_reader(target))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(p, 30000) for p in pts]


def test_late_start_is_kept(make_clip, tmp_path):
    source = make_clip("late.mkv", pts=list(range(500, 980, 40)), time_base=Fraction(1, 1000))
    for name in ("out.mkv", "out.mp4"):
        copy(source, tmp_path / name, **LOSSLESS)
        assert_same_frames(source, tmp_path / name)
        assert next(iter(open_reader(tmp_path / name))).time == 0


TURN = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
MIRROR = (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(("matrix", "suffix"), [(TURN, "mp4"), (MIRROR, "mp4"), (TURN, "mkv")])
def test_display_matrix_is_carried_over(make_clip, tmp_path, matrix, suffix):
    source = make_clip(matrix=matrix)
    reader = open_reader(source)
    expected = reader.template.display_matrix
    assert expected[:2] == matrix[:2]
    target = tmp_path / f"out.{suffix}"
    copy(source, target, **LOSSLESS)
    again = open_reader(target)
    assert again.rotation == reader.rotation
    assert again.template.display_matrix[:6] == expected[:6]
    assert_same_frames(source, target)


@pytest.mark.parametrize(
    "tags",
    [
        {"colorspace": 1, "color_range": 1, "color_trc": 1, "color_primaries": 1},
        {"colorspace": 6, "color_range": 2, "color_trc": 6, "color_primaries": 6},
        {"colorspace": 9, "color_range": 1, "color_trc": 16, "color_primaries": 9},
        {"colorspace": 2, "color_range": 0, "color_trc": 2, "color_primaries": 2},
    ],
)
@pytest.mark.parametrize("untouched", [True, False])
def test_color_tags_are_identical_when_read_back(make_clip, tmp_path, tags, untouched):
    source = make_clip(tags=tags)
    reader = open_reader(source)
    with open_writer(tmp_path / "out.mp4", reader, **LOSSLESS) as writer:
        for frame in reader:
            writer.write(frame if untouched else frame.replace_planes(frame.planes))
    assert open_reader(tmp_path / "out.mp4").color == open_reader(source).color
    assert_same_frames(source, tmp_path / "out.mp4")


@pytest.mark.parametrize(
    ("pixel_format", "suffix", "codec"),
    [("yuv420p10le", "mp4", "h264"), ("yuv422p10le", "mp4", "h264"), ("yuv444p", "mp4", "h264"),
     ("yuv422p", "mkv", "h264"), ("yuv420p12le", "mkv", "hevc"), ("yuv420p16le", "mkv", "ffv1"),
     ("yuv444p10le", "mov", "h264")],
)  # fmt: skip
def test_pixel_format_is_kept(make_clip, tmp_path, pixel_format, suffix, codec):
    source = make_clip("deep.mkv", codec="ffv1", pixel_format=pixel_format)
    target = tmp_path / f"out.{suffix}"
    writer = copy(source, target)
    assert writer.warnings == []
    reader = open_reader(target)
    assert reader.template.pixel_format == pixel_format
    assert reader.template.codec == codec
    for ours, theirs in zip(reader, open_reader(source), strict=True):
        difference = np.abs(ours.planes[0].astype(int) - theirs.planes[0])
        assert difference.mean() < 2.5 * (1 << (reader.color.depth - 8))


def test_ffv1_on_request_is_lossless(make_clip, tmp_path):
    source = make_clip("deep.mkv", codec="ffv1", pixel_format="yuv422p10le", width=65, height=49)
    copy(source, tmp_path / "out.mkv", codec="ffv1")
    assert_same_frames(source, tmp_path / "out.mkv")


def test_prores_alpha_and_tags(make_clip, tmp_path):
    source = make_clip("in.mov", codec="prores_ks", pixel_format="yuva444p10le")
    writer = copy(source, tmp_path / "out.mov")
    reader = open_reader(tmp_path / "out.mov")
    assert reader.has_alpha
    assert reader.color == open_reader(source).color
    # The decoder gives 12 bits, the encoder takes 10.
    assert writer.warnings == [
        "prores_ks does not take yuva444p12le: frames are converted to yuva444p10le"
    ]
    opaque = copy(source, tmp_path / "out.mp4")
    assert any("alpha channel is not kept" in warning for warning in opaque.warnings)


def test_prores_stays_prores(make_clip, tmp_path):
    source = make_clip("in.mov", codec="prores_ks", pixel_format="yuv422p10le")
    copy(source, tmp_path / "out.mov")
    reader = open_reader(tmp_path / "out.mov")
    assert reader.template.codec == "prores"
    assert reader.template.profile == open_reader(source).template.profile


def test_odd_size_keeps_it(make_clip, tmp_path):
    source = make_clip("odd.mkv", codec="ffv1", width=65, height=49, pixel_format="yuv444p")
    copy(source, tmp_path / "out.mp4", **LOSSLESS)
    assert_same_frames(source, tmp_path / "out.mp4")
    odd = make_clip("odd420.mkv", codec="ffv1", width=65, height=49)
    with pytest.raises(ValueError, match=r"65x49 yuv420p: .* the size must be even"):
        copy(odd, tmp_path / "odd.mp4")
    assert not (tmp_path / "odd.mp4").exists()


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_matrix_of_rotation(make_clip, degrees):
    matrix = matrix_of_rotation(degrees)
    reader = open_reader(make_clip(matrix=matrix))
    assert abs(reader.rotation - degrees) in (0, 360)
    assert reader.template.display_matrix == matrix


def test_error_or_interrupt_leaves_nothing(make_clip, tmp_path):
    source = make_clip(audio=True)
    target = tmp_path / "out.mp4"
    target.write_bytes(b"what was there before")

    def run(error):
        with open_reader(source) as reader, open_writer(target, reader) as writer:
            for frame in reader:
                writer.write(frame)
                if frame.index == 5:
                    raise error

    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error):
            run(error)
        assert target.read_bytes() == b"what was there before"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]
    reader = open_reader(source)
    writer = open_writer(target, reader)
    writer.abort()
    with pytest.raises(ValueError, match="closed"):
        writer.write(next(iter(reader)))


def test_partial_file_goes_when_the_program_ends_early(make_clip, tmp_path):
    source = make_clip()
    code = (
        "import sys\nfrom vharm.media import open_reader, open_writer\n"
        "r = open_reader(sys.argv[1]); w = open_writer(sys.argv[2], r)\n"
        "w.write(next(iter(r))); raise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", code, source, tmp_path / "o.mp4"], check=False)
    assert done.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_full_disk(make_clip, tmp_path):
    source = make_clip("big.mkv", codec="ffv1", width=320, height=240, count=40)
    code = (
        "import sys, resource\nfrom vharm.media import MediaError, open_reader, open_writer\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "r = open_reader(sys.argv[1])\n"
        "try:\n"
        "    with open_writer(sys.argv[2], r, codec='ffv1') as w:\n"
        "        [w.write(f) for f in r]\n"
        "except MediaError as error:\n"
        "    print(error); sys.exit(4)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source, tmp_path / "o.mkv"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "the disk is full" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["big.mkv"]


def test_refusals(make_clip, tmp_path):
    source = make_clip()
    reader = open_reader(source)
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    for path in (source, link, tmp_path / "." / "clip.mp4"):
        with pytest.raises(ValueError, match="is an input"):
            open_writer(path, reader)
    with pytest.raises(ValueError, match="is an input"):
        open_writer(link, inputs=[source])
    with pytest.raises(FileNotFoundError, match=r"the folder .*absent does not exist"):
        open_writer(tmp_path / "absent" / "o.mp4", reader)
    with pytest.raises(ValueError, match="no suffix"):
        open_writer(tmp_path / "o", reader)
    with pytest.raises(ValueError, match=r"no container for the suffix '\.xyz'"):
        open_writer(tmp_path / "o.xyz", reader)
    with pytest.raises(ValueError, match="libx264 does not accept bogus, nonsense"):
        open_writer(tmp_path / "o.mp4", reader, options={"bogus": 1, "nonsense": 2})
    with pytest.raises(ValueError, match="preset=no-such"):
        open_writer(tmp_path / "o.mp4", reader, preset="no-such")
    with pytest.raises(ValueError, match="no encoder 'libx999'"):
        open_writer(tmp_path / "o.mp4", reader, codec="libx999")
    with pytest.raises(ValueError, match="pixel_format: libx264 does not take 'rgb24'"):
        open_writer(tmp_path / "o.mp4", reader, pixel_format="rgb24")
    (tmp_path / "there.mp4").touch()
    with pytest.raises(FileExistsError):
        open_writer(tmp_path / "there.mp4", reader, overwrite=False)
    with pytest.raises(MediaError, match="no frame was written"):
        open_writer(tmp_path / "o.mp4", reader).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", "link.mp4", "there.mp4"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(make_clip, tmp_path):
    reader = open_reader(make_clip())
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="cannot write in the folder"):
        open_writer(closed / "o.mp4", reader)


def test_wrong_frame_size(make_clip, tmp_path):
    reader = open_reader(make_clip())
    other = next(iter(open_reader(np.zeros((1, 8, 8, 3), np.uint8), frame_rate=5)))
    writer = open_writer(tmp_path / "o.mp4", reader)
    with pytest.raises(ValueError, match="frame: expected 64x48, got 8x8"):
        writer.write(other)


def test_arrays_to_video(tmp_path):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pictures = np.broadcast_to(ramp[None, None, :, None], (6, 48, 64, 3)).copy()
    with pytest.raises(ValueError, match="frame_rate: needed"):
        copy(pictures, tmp_path / "out.mp4")
    with (
        open_reader(pictures, frame_rate=24) as reader,
        open_writer(tmp_path / "out.mp4", reader) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    result = open_reader(tmp_path / "out.mp4")
    assert result.frame_rate == 24
    assert (result.color.matrix_tag, result.color.full_range) == (6, False)
    luma = np.stack([frame.planes[0] for frame in result]).astype(float)
    assert np.abs(luma[0, 20] - (16 + ramp / 255 * 219)).max() < 3
    with pytest.raises(ValueError, match="float frames cannot be written"):
        open_writer(tmp_path / "f.mp4", width=8, height=8, color=ColorSpec("rgb", 32),
                    frame_rate=24)  # fmt: skip


def test_forced_frame_rate(make_clip, tmp_path):
    copy(make_clip(), tmp_path / "out.mp4", frame_rate=50, **LOSSLESS)
    assert [f.time for f in open_reader(tmp_path / "out.mp4")] == [
        pytest.approx(i / 50) for i in range(12)
    ]


@pytest.mark.parametrize(
    ("codec", "given", "expected"),
    [
        ("libx264", {}, {"crf": "18"}),
        ("libx264", {"crf": 23}, {"crf": "23"}),
        ("libx264", {"options": {"b": "4M"}}, {"b": "4M"}),
        ("libvpx-vp9", {}, {"crf": "24", "b": "0"}),
        ("h264_nvenc", {}, {"rc": "vbr", "cq": "20", "b": "0"}),
        ("hevc_nvenc", {"crf": 27.5}, {"rc": "vbr", "cq": "27.5", "b": "0"}),
        ("h264_nvenc", {"options": {"b": "8M"}}, {"b": "8M"}),
        ("h264_nvenc", {"crf": 25, "options": {"rc": "constqp"}},
         {"rc": "constqp", "cq": "25", "b": "0"}),
        ("h264_qsv", {"crf": 25}, {"global_quality": "25"}),
        ("h264_amf", {}, {"rc": "cqp", "qp_i": "20", "qp_p": "20"}),
    ],
)  # fmt: skip
def test_quality_is_constant_whatever_the_encoder_calls_it(
    make_clip, monkeypatch, codec, given, expected
):
    reader = open_reader(make_clip())
    # Which encoders there are differs from build to build.
    monkeypatch.setattr(codecs, "encoder_formats", lambda _: ["yuv420p"])
    chosen = codecs.choose_encoding(
        ".mkv", next(iter(reader)).color, False, reader.template, codec=codec, **given
    )
    settings = dict(chosen.options)
    settings.pop("preset", None)
    assert settings == expected

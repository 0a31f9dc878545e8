# SPDX-License-Identifier: Apache-2.0
"""Looks written over the decoder's own frames: what is still to be decoded must not change."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from clips import ListWriter, texture

from vharm.looks import LutLook
from vharm.media import ColorSpec, Frame, Mask, open_reader, open_writer
from vharm.media.formats import overwritable
from vharm.media.reader import Reader
from vharm.media.standalone import packet_of
from vharm.session import Session

pytest.importorskip("av")

YUV = ColorSpec("yuv", 8, (1, 1), "bt601", False, matrix_tag=6)
HEIGHT, WIDTH, COUNT = 64, 96, 30
CODECS = [
    ("h264.mp4", "libx264", {"x264-params": "bframes=3:ref=4:b-pyramid=normal"}),
    ("zero.mp4", "libx264", {"tune": "zerolatency"}),
    ("h265.mp4", "libx265", {}),
    ("vp9.webm", "libvpx-vp9", {}),
    ("av1.mp4", "libsvtav1", {}),
    ("mpeg4.mp4", "mpeg4", {}),
    ("prores.mov", "prores_ks", {}),
    ("lossless.mkv", "ffv1", {}),
]


class Copying(ListWriter):
    """Keeps what the frames held when they were written."""

    def write(self, frame):
        super().write(tuple(plane.copy() for plane in frame.planes))


class Kept(Reader):
    """The frames of a reader that may belong to somebody else too."""

    def __init__(self, reader):
        self.__dict__.update(reader.__dict__)
        self.reader, self.frames = reader, []

    def __iter__(self):
        for frame in self.reader:
            self.frames.append((frame, tuple(plane.copy() for plane in frame.planes)))
            yield frame


def write_clip(path, codec, options):
    wide = texture(HEIGHT + COUNT, WIDTH + 2 * COUNT, seed=4)
    try:
        with open_writer(path, frame_rate=25, codec=codec, options=options) as writer:
            for n in range(COUNT):
                rgb = np.ascontiguousarray(wide[n : n + HEIGHT, 2 * n : 2 * n + WIDTH])
                color = ColorSpec("rgb", 8)
                writer.write(Frame((rgb,), color, n, n, Fraction(1, 25), 1, n / 25))
    except ValueError as error:
        if "encoder" in str(error):
            pytest.skip(str(error))
        raise


def masks():
    for n in range(COUNT):
        data = np.zeros((HEIGHT, WIDTH), np.uint8)
        data[10:50, 5 + n : 45 + n] = 200
        yield Mask(data)


def harmonized(reader, compare=None):
    writer = Copying()
    look = LutLook(LutLook.identity(5).grid * 0.6 + 0.3)
    report = Session(look).run(reader, masks(), writer, compare=compare)
    return writer.frames, report


@pytest.mark.parametrize(("name", "codec", "options"), CODECS, ids=[row[0] for row in CODECS])
def test_later_frames_are_decoded_as_before(tmp_path, name, codec, options):
    path = tmp_path / name
    write_clip(path, codec, options)
    kept = Kept(open_reader(path))
    expected, before = harmonized(kept)
    found, after = harmonized(open_reader(path))
    assert len(found) == len(expected) == COUNT
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert after.flicker == pytest.approx(before.flicker)
    # Frames that somebody else may have are as they were read.
    for frame, planes in kept.frames:
        for a, b in zip(frame.planes, planes, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_decoders_memory_is_used_once_it_needs_it_no_more(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, "libx264", {"x264-params": "bframes=3:ref=1"})
    moved = []
    for frame in list(open_reader(path)):
        before = frame.source[0].planes[0].buffer_ptr
        own = overwritable(frame)
        assert own.source[0] is frame.source[0]
        own.planes[0][...] = 17
        moved.append(own.source[0].planes[0].buffer_ptr != before)
    # Whole clip decoded: nothing is referred to any more.
    assert not any(moved)


def test_what_was_written_over_is_not_in_its_packet_any_more(tmp_path):
    path = tmp_path / "clip.mov"
    write_clip(path, "prores_ks", {})
    frame = next(iter(open_reader(path)))
    assert packet_of(frame) is not None
    assert packet_of(overwritable(frame)) is None


def test_a_frame_that_is_still_referred_to_is_copied(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, "libx264", {"x264-params": "bframes=0:ref=4"})
    frames = iter(open_reader(path, threads=1))
    first = next(frames)
    before = first.source[0].planes[0].buffer_ptr
    assert overwritable(first).source[0].planes[0].buffer_ptr != before


def test_only_untouched_yuv_pictures_can_be_written_over(tmp_path):
    frame = Frame(tuple(np.zeros(s, np.uint8) for s in YUV.plane_shapes(8, 6)), YUV)
    assert overwritable(frame) is None
    path = tmp_path / "grey.mkv"
    with open_writer(path, frame_rate=25, codec="ffv1") as writer:
        color = ColorSpec("gray", 8)
        writer.write(Frame((np.zeros((6, 8), np.uint8),), color, 0, 0, Fraction(1, 25), 1, 0.0))
    assert overwritable(next(iter(open_reader(path)))) is None


def test_comparisons_show_what_was_there_before(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, "libx264", {})
    expected, _ = harmonized(Kept(open_reader(path)), compare="wipe")
    found, _ = harmonized(open_reader(path), compare="wipe")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[0], other[0])

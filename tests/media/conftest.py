# SPDX-License-Identifier: Apache-2.0
"""Small clips made on the fly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest


def smooth_planes(width, height, index, *, depth=8, subsampling=(1, 1), low=16, high=235):
    """Y, U, V of a slowly moving gradient, within the limited range of that depth."""
    scale = 1 << (depth - 8)
    dtype = np.uint8 if depth == 8 else np.uint16
    y, x = np.mgrid[0:height, 0:width]
    luma = low + (x * 2 + y + index * 3) % (high - low)
    rows, columns = -(-height >> subsampling[1]), -(-width >> subsampling[0])
    y, x = np.mgrid[0:rows, 0:columns]
    planes = (luma, 90 + (x + index) % 60, 100 + (y + 2 * index) % 50)
    return tuple((plane * scale).astype(dtype) for plane in planes)


@pytest.fixture
def make_clip(tmp_path):
    """Return a function that writes a test clip with PyAV alone and returns its path."""
    av = pytest.importorskip("av")

    def make(name="clip.mp4", *, width=64, height=48, count=12, rate=25, codec="libx264",
             pixel_format="yuv420p", audio=False, pts=None, time_base=None, matrix=None,
             tags=None, options=None, extra=None):  # fmt: skip
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
            clock = time_base or Fraction(1, rate)
            stream.codec_context.time_base = clock
            if codec == "libx264":
                stream.options = {"qp": "0", "preset": "ultrafast", **(options or {})}
            for key, value in (tags or {}).items():
                setattr(stream.codec_context, key, value)
            if matrix is not None:
                stream.set_display_matrix(matrix)
            sound = container.add_stream("aac", rate=48000) if audio else None
            if extra is not None:
                extra(container, stream)
            for index in range(count):
                stamp = pts[index] if pts else index
                frame = picture(av, width, height, index, pixel_format)
                frame.time_base, frame.pts = clock, stamp
                container.mux(stream.encode(frame))
                if sound is not None:
                    seconds = float(stamp * clock)
                    for block in tone(av, seconds, float(clock) if pts else 1 / rate, rate, pts):
                        container.mux(sound.encode(block))
            container.mux(stream.encode(None))
            if sound is not None:
                container.mux(sound.encode(None))
        return path

    return make


def picture(av, width, height, index, pixel_format):
    """One av.VideoFrame of the moving gradient."""
    from vharm.media import Frame, make_av_frame
    from vharm.media.pixel_formats import color_of_format

    color = color_of_format(pixel_format, width, height)
    if color.layout == "yuv" and "yuva" not in pixel_format:
        planes = smooth_planes(
            width, height, index, depth=color.depth, subsampling=color.subsampling
        )
        return make_av_frame(Frame(planes, color))
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([(x * 3 + index) % 256, (y * 5) % 256, (x + y) % 256], -1).astype(np.uint8)
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixel_format)


def tone(av, seconds, _length, rate, pts):
    """Sound of one frame's length: a 440 Hz sine."""
    if pts:
        return
    samples = 48000 // rate
    first = round(seconds * 48000)
    wave = np.sin(2 * np.pi * 440 * np.arange(first, first + samples) / 48000)
    data = np.tile((wave * 0.3).astype(np.float32), (2, 1))
    block = av.AudioFrame.from_ndarray(data, format="fltp", layout="stereo")
    block.sample_rate, block.pts, block.time_base = 48000, first, Fraction(1, 48000)
    yield block


@pytest.fixture
def smooth():
    """Return the function that makes the samples the test clips are of."""
    return smooth_planes


@pytest.fixture
def packets():
    """Return a function that lists (pts in seconds, size) of a stream's packets."""
    av = pytest.importorskip("av")

    def read(path, kind="audio"):
        with av.open(str(path)) as container:
            stream = getattr(container.streams, kind)[0]
            return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]

    return read

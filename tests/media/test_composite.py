# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vharm.media import (
    ColorSpec,
    Frame,
    Mask,
    MediaError,
    composite,
    composite_reader,
    convert,
    open_mask,
    open_reader,
    open_writer,
)  # fmt: skip

av = pytest.importorskip("av")

RNG = np.random.default_rng(3)


def yuv(width, height, depth=8, subsampling=(1, 1), full=False, matrix="bt709"):
    color = ColorSpec("yuv", depth, subsampling, matrix, full)
    low, high = (0, 1 << depth) if full else (16 << (depth - 8), 235 << (depth - 8))
    planes = tuple(
        RNG.integers(low, high, shape).astype(color.dtype)
        for shape in color.plane_shapes(width, height)
    )
    return Frame(planes, color)


def soft(width, height):
    y, x = np.mgrid[0:height, 0:width]
    return np.clip(1.5 - np.hypot(x - width / 2, y - height / 2) / (height / 4), 0, 1).astype("f4")


CASES = [
    {"width": 16, "height": 12},
    {"width": 17, "height": 13},
    {"width": 16, "height": 12, "depth": 10},
    {"width": 15, "height": 9, "subsampling": (1, 0)},
    {"width": 15, "height": 9, "subsampling": (0, 0)},
    {"width": 16, "height": 12, "full": True},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("premultiplied", [False, True])
def test_zero_is_background_and_one_is_foreground(case, premultiplied):
    front, back = yuv(**case), yuv(**case)
    shape = (case["height"], case["width"])
    nothing = composite(front, back, Mask(np.zeros(shape, np.uint8)), premultiplied=premultiplied)
    whole = composite(front, back, Mask(np.full(shape, 255, np.uint8)), premultiplied=premultiplied)
    for ours, theirs in zip(nothing.planes, back.planes, strict=True):
        assert np.array_equal(ours, theirs)
    for ours, theirs in zip(whole.planes, front.planes, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_mixing_is_linear_and_local(case):
    front, back = yuv(**case), yuv(**case)
    weight = soft(case["width"], case["height"])
    result = composite(front, back, Mask(weight, 0, 1))
    expected = weight * front.planes[0] + (1 - weight) * back.planes[0]
    assert np.abs(result.planes[0] - expected).max() <= 0.51
    across, down = case.get("subsampling", (1, 1))
    rows, columns = result.planes[1].shape
    for row in range(rows):
        for column in range(columns):
            sites = weight[
                row << down : (row + 1) << down, column << across : (column + 1) << across
            ]
            mean = sites.mean()
            wanted = mean * front.planes[1][row, column] + (1 - mean) * back.planes[1][row, column]
            assert abs(result.planes[1][row, column] - wanted) <= 0.51
            if not sites.any():
                assert result.planes[2][row, column] == back.planes[2][row, column]


@pytest.mark.parametrize("full", [False, True])
def test_premultiplied_equals_straight(full):
    front, back = (yuv(16, 12, 16, (0, 0), full) for _ in range(2))
    weight = soft(16, 12)
    color = front.color
    zeros = (color.black, color.neutral, color.neutral)
    multiplied = tuple(
        np.rint(zero + weight * (plane - zero)).astype(np.uint16)
        for zero, plane in zip(zeros, front.planes, strict=True)
    )
    straight = composite(front, back, Mask(weight, 0, 1))
    other = composite(
        front.replace_planes(multiplied), back, Mask(weight, 0, 1), premultiplied=True
    )
    for a, b in zip(straight.planes, other.planes, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 2


def test_foreground_is_converted_to_the_background():
    y, x = np.mgrid[0:48, 0:64]
    rgb = np.stack([60 + x * 2, 200 - y * 2, 90 + y], -1).astype(np.uint8)
    front = Frame((rgb,), ColorSpec("rgb"))
    back = yuv(64, 48, 10, matrix="bt2020", full=False)
    if int(av.__version__.split(".")[0]) < 18:
        with pytest.raises(MediaError, match="needs PyAV 18"):
            convert(front, back.color)
        return
    result = composite(front, back, Mask(np.ones((48, 64), np.float32), 0, 1))
    r, g, b = (rgb[..., k] / 255 for k in range(3))
    luma = 64 + 876 * (0.2627 * r + 0.6780 * g + 0.0593 * b)
    assert np.abs(result.planes[0] - luma).max() < 2.5
    blue = 512 + 896 * ((b - (luma - 64) / 876) / 1.8814)
    blue = blue.reshape(24, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(result.planes[1] - blue)[1:-1, 1:-1].max() < 4
    full = composite(yuv(64, 48, full=True), yuv(64, 48), Mask(np.ones((48, 64), "f4"), 0, 1))
    assert full.planes[0].min() >= 16
    assert full.planes[0].max() <= 235


def test_alpha_is_the_matte_by_default():
    rgb = RNG.integers(0, 255, (6, 8, 3)).astype(np.uint8)
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:3] = 255
    front = Frame((rgb,), ColorSpec("rgb"), alpha=alpha)
    back = Frame((255 - rgb,), ColorSpec("rgb"))
    result = composite(front, back)
    assert np.array_equal(result.planes[0][:3], rgb[:3])
    assert np.array_equal(result.planes[0][3:], 255 - rgb[3:])
    assert np.array_equal(result.matte.data, alpha)
    with pytest.raises(ValueError, match="foreground: has no alpha"):
        composite(back, front)
    with pytest.raises(ValueError, match="foreground: is 8x6, the background 16x12"):
        composite(front, yuv(16, 12))
    with pytest.raises(ValueError, match="matte: is 3x2"):
        composite(front, back, Mask(np.zeros((2, 3), np.uint8)))


def test_hdr_over_sdr_is_refused():
    front = yuv(16, 12, 10)
    front.color = replace(front.color, transfer_tag=16)
    back = yuv(16, 12)
    back.color = replace(back.color, transfer_tag=1)
    with pytest.raises(ValueError, match="transfer function is pq, wanted is bt709"):
        convert(front, back.color)


def test_reader_composes_and_writes(make_clip, tmp_path):
    back = make_clip("back.mp4", audio=True)
    front = make_clip("front.mkv", codec="ffv1", pixel_format="yuv444p")
    mask = np.zeros((12, 48, 64), bool)
    mask[:, 10:30, 20:40] = True
    reader = composite_reader(
        open_reader(front), open_reader(back), open_mask(mask, width=64, height=48)
    )
    with open_writer(tmp_path / "out.mp4", reader, options={"qp": 0}) as writer:
        for frame in reader:
            writer.write(frame)
    outside = ~mask[0]
    result = open_reader(tmp_path / "out.mp4")
    assert result.has_audio
    for ours, theirs, own in zip(result, open_reader(back), open_reader(front), strict=True):
        assert ours.pts == theirs.pts
        assert np.array_equal(ours.planes[0][outside], theirs.planes[0][outside])
        assert np.array_equal(ours.planes[0][~outside], own.planes[0][~outside])


def test_reader_lengths(make_clip):
    back, short = make_clip(count=6), make_clip("short.mp4", count=4)
    mask = np.ones((48, 64), bool)

    def run(front, behind, matte):
        matte = open_mask(matte, width=64, height=48)
        return list(composite_reader(open_reader(front), open_reader(behind), matte))

    with pytest.raises(
        ValueError, match=r"foreground: has 4 frames, the background has more \(about 6\)"
    ):
        run(short, back, mask)
    with pytest.raises(ValueError, match=r"foreground: has more frames .*which has 4"):
        run(back, short, mask)
    with pytest.raises(ValueError, match="mask: has 3 frames"):
        run(back, back, np.ones((3, 48, 64), bool))
    with pytest.raises(ValueError, match="no alpha"):
        composite_reader(open_reader(short), open_reader(back))

# SPDX-License-Identifier: Apache-2.0
"""Cuts are found from as little as is enough to know."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vharm.media.frame import ColorSpec, Frame, yuv_format
from vharm.ops import rgb_to_yuv, shrink_planes, yuv_thumbnail
from vharm.session.cuts import CUT_THRESHOLD, CutDetector, cut_score

CPU = torch.device("cpu")


def scene(seed: int, height: int = 90, width: int = 160) -> torch.Tensor:
    """[H,W,3] float: soft shapes in colours of their own."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 6, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return wide[0].permute(1, 2, 0).clamp(0, 1).contiguous()


def yuv_frame(rgb: torch.Tensor, color: ColorSpec) -> Frame:
    planes = rgb_to_yuv(rgb, format=yuv_format(color))
    return Frame(tuple(plane.numpy() for plane in planes), color)


@pytest.mark.parametrize("height", [1080, 720, 721, 100])
def test_some_rows_of_a_yuv_frame_are_enough(height):
    random = np.random.default_rng(0)
    color = ColorSpec("yuv", 8, (1, 1), "bt709", False)
    rows = np.linspace(0, 1, height)[:, None]
    planes = []
    for shape in color.plane_shapes(320, height):
        slope = np.sin(9 * np.linspace(0, 1, shape[1])) * 60 + 40 * rows[: shape[0]]
        samples = (110 + slope + random.normal(0, 5, shape)).clip(16, 235).astype(np.uint8)
        planes.append(torch.from_numpy(samples))
    step = max(1, height // (4 * 36))
    size = (min(36, -(-height // step)), 64)
    some, every = (shrink_planes(planes, size, every=n) for n in (step, 1))
    assert float((some - every).abs().mean()) < 2


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("threshold", [CUT_THRESHOLD, 0.1, 0.02])
def test_decisions_are_those_of_the_whole_score(matrix, threshold):
    """What is left out where luma says enough changes no decision."""
    color = ColorSpec("yuv", 8, (1, 1), matrix, False)
    one, other = scene(1), scene(2)
    shots = [one, one * 0.8, one.roll(9, 1), other, other.roll(3, 0), 0.7 * one + 0.3 * other, one]
    frames = [yuv_frame(shot, color) for shot in shots]
    small = [yuv_thumbnail(f.tensors(), (36, 64), format=yuv_format(color)) for f in frames]
    whole = [cut_score(a, b) for a, b in zip(small, small[1:], strict=False)]
    assert min(whole) < threshold < max(whole)
    detector = CutDetector(threshold)
    found = [detector.see(frame, CPU) for frame in frames]
    # Luma of YUV frames is their own, whatever its weights.
    assert all(abs(score - threshold) > 0.02 * threshold for score in whole)
    assert found == [False, *(score >= threshold for score in whole)]


def test_rgb_frames_and_small_ones_are_seen():
    color = ColorSpec("rgb", 8)
    pictures = [(scene(seed, 20, 30) * 255).byte().numpy() for seed in (1, 1, 2, 2)]
    detector = CutDetector()
    assert [detector.see(Frame((p,), color), CPU) for p in pictures] == [False, False, True, False]
    detector, color = CutDetector(), ColorSpec("yuv", 8, (1, 1))
    frames = [yuv_frame(scene(seed, 20, 30), color) for seed in (1, 1, 2, 2)]
    assert [detector.see(frame, CPU) for frame in frames] == [False, False, True, False]


def test_a_thumbnail_may_be_written_over_once_it_was_seen():
    detector = CutDetector()
    buffer = scene(1, 36, 64).permute(2, 0, 1).contiguous()
    assert not detector.update(buffer)
    buffer.copy_(scene(2, 36, 64).permute(2, 0, 1))
    assert detector.update(buffer)

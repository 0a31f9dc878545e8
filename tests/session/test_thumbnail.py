# SPDX-License-Identifier: Apache-2.0
"""What the methods are shown of frames that are not YUV."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vharm.media.frame import ColorSpec, Frame
from vharm.session.apply import thumbnail

CPU = torch.device("cpu")
LINEAR = 8  # FFmpeg's number of it


def expected(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[H,W,C] in [0,1]: means over areas."""
    return F.interpolate(image.permute(2, 0, 1)[None], size, mode="area")[0]


@pytest.mark.parametrize("depth", [8, 10, 16])
@pytest.mark.parametrize("size", [(5, 7), (11, 13), (3, 13)])
def test_integers_become_shares_of_full_scale(depth, size):
    white = (1 << depth) - 1
    dtype = np.uint8 if depth == 8 else np.uint16
    samples = np.random.default_rng(0).integers(0, white + 1, (11, 13, 3)).astype(dtype)
    samples[:2], samples[2:4] = white, 0
    before = samples.copy()
    small = thumbnail(Frame((samples,), ColorSpec("rgb", depth)), size, CPU)
    image = torch.from_numpy(samples.astype(np.float32) / white)
    step = max(1, min(11 // (2 * size[0]), 13 // (2 * size[1])))
    torch.testing.assert_close(small, expected(image[::step, ::step], size), atol=1e-6, rtol=0)
    assert small.min() >= 0
    assert small.max() <= 1
    assert (samples == before).all()


def test_grey_has_a_range_of_its_own():
    samples = np.array([[0, 16, 126], [235, 255, 16]], np.uint8)
    small = thumbnail(Frame((samples,), ColorSpec("gray", 8, full_range=False)), (2, 3), CPU)
    row = torch.tensor([[0, 0, 110 / 219], [1, 1, 0]])
    torch.testing.assert_close(small, row.expand(3, 2, 3))


def test_floats_are_clamped_before_they_are_averaged():
    samples = torch.rand(6, 8, 3).numpy() * 2 - 0.5
    color = ColorSpec("rgb", 32)
    image = torch.from_numpy(samples).clamp(0, 1)
    small = thumbnail(Frame((samples,), color), (3, 4), CPU)
    torch.testing.assert_close(small, expected(image, (3, 4)))
    same = thumbnail(Frame((samples,), color), (6, 8), CPU)
    torch.testing.assert_close(same, image.permute(2, 0, 1))


def test_linear_light_is_encoded_before_it_is_averaged():
    samples = np.full((2, 2, 3), 0.2, np.float32)
    samples[0] = 0
    color = ColorSpec("rgb", 32, transfer_tag=LINEAR)
    small = thumbnail(Frame((samples,), color), (1, 1), CPU)
    grey = (1.055 * 0.2 ** (1 / 2.4) - 0.055) / 2
    torch.testing.assert_close(small, torch.full((3, 1, 1), grey))

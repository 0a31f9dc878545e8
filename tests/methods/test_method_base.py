# SPDX-License-Identifier: Apache-2.0
"""Working sizes, and the checks all methods share."""

from __future__ import annotations

import pytest
import torch

from vharm.methods import Mkl

FRAMES, MASKS = torch.rand(2, 3, 8, 10), torch.rand(2, 1, 8, 10)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1080, 1920), (144, 256)), ((2000, 1000), (256, 128)), ((100, 50), (100, 50)),
     ((1, 100000), (1, 256))],
)  # fmt: skip
def test_working_size_keeps_the_aspect(size, expected):
    assert Mkl().working_size(*size) == expected


def test_working_size_of_nothing():
    with pytest.raises(ValueError, match="height"):
        Mkl().working_size(0, 5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"frames": FRAMES.numpy()}, TypeError, "frames must be a torch.Tensor, got ndarray"),
        ({"frames": (FRAMES * 255).byte()}, TypeError, "frames must be floating point"),
        ({"frames": FRAMES[0]}, ValueError, r"frames must have shape \[B, 3, h, w\]"),
        ({"frames": FRAMES / 0}, ValueError, "frames must be finite"),
        ({"masks": MASKS[:1]}, ValueError, r"masks must have shape \[2, 1, 8, 10\]"),
        ({"masks": MASKS * torch.nan}, ValueError, "masks must be finite"),
        ({"masks": MASKS * 255}, ValueError, r"masks must be in \[0, 1\]"),
        ({"background": torch.rand(3, 3, 4, 4)}, ValueError, "background must have shape"),
        ({"background_weight": torch.rand(1, 1, 4, 4)}, ValueError, "background_weight must"),
        (
            {"background": torch.rand(1, 3, 4, 4), "background_weight": MASKS},
            ValueError,
            r"background_weight must have shape \[1, 1, 4, 4\] or \[2, 1, 4, 4\]",
        ),
    ],
)
def test_bad_input_is_refused_by_name(changes, error, message):
    with pytest.raises(error, match=message):
        Mkl().estimate(**({"frames": FRAMES, "masks": MASKS} | changes))


def test_no_frames_give_no_looks():
    assert Mkl().estimate(FRAMES[:0], MASKS[:0]) == []

# SPDX-License-Identifier: Apache-2.0
"""Crops around foregrounds: how large they become, what is left out, and the way from the CLI."""

from __future__ import annotations

import pytest
import torch
from scenes import write_photographs

from vharm.data import CloseUps, DataError, Scene, open_data
from vharm.data.close_up import crop_around


def square(height: int, width: int, top: int, left: int, side: int) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


@pytest.mark.parametrize(("top", "left"), [(70, 130), (0, 0), (0, 220), (120, 20)])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_share_is_reached_wherever_the_foreground_is(top, left, share):
    mask = square(200, 300, top, left, 80)
    rows, columns = crop_around(mask, share)
    crop = mask[rows, columns]
    assert share <= float((crop > 127).float().mean()) <= share + 0.1
    assert crop.shape[1] / crop.shape[0] == pytest.approx(1.5, abs=0.05)
    assert rows.start >= 0
    assert rows.stop <= 200
    assert columns.stop <= 300
    assert float((crop > 127).sum()) > 0.5 * 80 * 80


def test_what_cannot_be_cropped():
    assert crop_around(square(200, 300, 0, 0, 0), 0.5) is None  # nothing there
    assert crop_around(square(200, 300, 90, 90, 20), 0.5) is None  # the crop would be tiny
    assert crop_around(square(200, 200, 0, 0, 180), 0.5) is None  # larger already
    ring = square(200, 200, 50, 50, 100) - square(200, 200, 60, 60, 80)
    assert crop_around(ring, 0.5) is None


class Pair:
    """A scene that can be cropped, after one that cannot."""

    names, subsets = ("none", "one"), ()

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Scene:
        masks = torch.stack([square(128, 128, 40 + t, 40, 50 * index) for t in range(2)])[:, None]
        frames = masks.expand(-1, 3, -1, -1).contiguous()
        return Scene(self.names[index], frames, masks)


def test_frames_and_masks_are_cropped_alike():
    data = CloseUps(Pair(), 0.5)
    assert len(data) == 1
    assert data.names == ("one",)
    scene = data[0]
    assert scene.name == "one"
    assert scene.frames.shape[2:] == scene.masks.shape[2:]
    assert scene.frames.shape[2] < 128
    assert torch.equal(scene.frames[:, :1], scene.masks)
    with pytest.raises(IndexError):
        data[1]


def test_errors_name_the_argument(tmp_path):
    with pytest.raises(ValueError, match="share: expected more than 0, at most 0.9, got 1"):
        CloseUps(Pair(), 1)
    with pytest.raises(DataError, match="none of 1 scenes has a foreground to take 90%"):
        CloseUps([Pair()[0]], 0.9)
    folder = write_photographs(tmp_path / "set", 4, 96)
    with pytest.raises(ValueError, match="close_up: close-ups are of many sizes"):
        open_data(folder, close_up=0.5, dancing=2, recolour=("filters",))
    found = open_data(folder, close_up=0.3, recolour=("filters",))
    shares = [float((found[i].masks > 127).float().mean()) for i in range(len(found))]
    assert all(0.3 <= share <= 0.4 for share in shares)

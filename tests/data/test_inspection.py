# SPDX-License-Identifier: Apache-2.0
"""What inspection counts, and that it names everything that is broken."""

from __future__ import annotations

import json

import numpy as np
import pytest
from data_sets import box_mask, save, smooth_picture

from vharm.data import inspect, open_data
from vharm.data.sheet import OUTLINE, contact_sheet


def test_a_whole_set(folders, clips):
    found = inspect(folders)
    assert (found.clips, found.frames, found.photos) == (6, 6, 2)
    assert found.splits == {"train": 4, "val": 2}
    assert found.sizes == [("64x48", 6)]
    share = 24 * 28 / (48 * 64)
    assert found.coverage["mean"] == pytest.approx(share)
    assert found.coverage["counts"] == [0, 0, 0, 6, 0, 0, 0]
    assert found.problems == []
    text = "\n".join(found.lines())
    assert "set: layout folders, 6 scenes, 6 frames" in text
    assert "15% to  30%       6 ████" in text
    assert "broken: nothing" in text
    json.dumps(found.as_dict())
    assert inspect(folders, split="val", limit=1).clips == 1
    assert inspect(clips).frames == 8


def test_everything_broken_is_named(folders):
    (folders / "images/train/p0.png").write_bytes(b"no picture")
    save(folders / "masks/train/p1.png", box_mask((40, 64)))
    save(folders / "masks/train/p2.png", box_mask() * 0)
    (folders / "masks/train/p3.png").unlink()
    (folders / "images/val/p0.png").unlink()
    seen = []
    found = inspect(folders, progress=lambda *state: seen.append(state))
    assert seen[-1] == (4, 4)
    kinds = {problem.name: (problem.kind, problem.blocks) for problem in found.problems}
    assert kinds == {
        "train/p0": ("unreadable", True),
        "train/p1": ("sizes differ", True),
        "train/p2": ("mask empty", False),
        "train/p3": ("mask missing", True),
        "val/p0": ("picture missing", False),
    }
    assert found.clips == 2
    details = {problem.name: problem.detail for problem in found.problems}
    assert details["train/p1"] == "frame 0: frame 64x48, mask 64x40"
    assert "p0.png: not a readable picture" in details["train/p0"]
    text = "\n".join(found.lines())
    assert "broken: 5" in text
    assert "train/p3: mask missing: images/train/p3.png has no masks/train/p3.png" in text


def test_clips_that_change_size(clips):
    save(clips / "b/frames/00003.png", smooth_picture(0, (40, 64)))
    save(clips / "b/masks/00003.png", box_mask((40, 64)))
    (problem,) = inspect(clips).problems
    assert (problem.name, problem.kind) == ("b", "sizes differ")
    assert problem.detail == "frame 3: frame 64x40, mask 64x40, not 64x48"


def test_pictures_that_ask_to_be_turned(folders):
    image = pytest.importorskip("PIL.Image")
    path = folders / "images/train/p0.png"
    path.unlink()
    exif = image.Exif()
    exif[0x0112] = 6
    image.fromarray(smooth_picture(0)).save(path.with_suffix(".jpg"), exif=exif, quality=98)
    found = inspect(folders)
    assert found.turned == ["train/p0.jpg"]
    assert "read as stored: train/p0.jpg" in "\n".join(found.lines())
    assert found.problems == []
    # As stored: not turned, though OpenCV would do so by itself.
    assert open_data(folders)[0].frames.shape == (1, 3, 48, 64)


def test_soft_masks_are_counted(folders):
    save(folders / "masks/val/p0.png", box_mask() // 2)
    assert inspect(folders).soft_masks == 1


def test_contact_sheet(folders, tmp_path):
    import cv2

    path = contact_sheet(open_data(folders), tmp_path / "sheet.png", columns=4)
    sheet = cv2.imread(str(path))[..., ::-1]
    assert sheet.shape == (2 * 224 + 6, 4 * 206 + 6, 3)
    outline = (sheet == OUTLINE).all(axis=2)
    # The first tile: an outline at the mask's edge, 64x48 drawn 200x150 in the tile's middle.
    top, left = 6 + 25 + 12 * 150 // 48, 6 + 16 * 200 // 64
    assert outline[top - 2 : top + 3, left + 40].any()
    assert not outline[top + 20 : top + 40, left + 20 : left + 60].any()
    assert np.array_equal(sheet[-1, -1], (24, 24, 26))
    with pytest.raises(ValueError, match="columns: expected"):
        contact_sheet(open_data(folders), tmp_path / "x.png", columns=0)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["sheet.png"]

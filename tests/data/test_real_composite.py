# SPDX-License-Identifier: Apache-2.0
"""Foregrounds on unrelated backgrounds: coverage, placement, and writing them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_sets import box_mask, smooth_picture

from vharm.data import DataError, RealComposite, Scene, open_data, open_photos, write_composites
from vharm.data.real_composite import cover

RED = np.zeros((48, 64, 3), np.uint8) + np.uint8([250, 10, 10])


class Fronts:
    """A red box of a tenth of the frame; where `bottom`, it stands on its frame's edge."""

    def __init__(self, bottom=False, count=3):
        self.names, self.bottom, self.count_of = ("red",), bottom, count

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if index:
            raise IndexError
        mask = box_mask(box=(32, 48, 20, 39) if self.bottom else (10, 26, 20, 39))
        frames = torch.from_numpy(RED.transpose(2, 0, 1).copy())[None]
        masks = torch.from_numpy(mask)[None, None]
        repeat = (self.count_of, 1, 1, 1)
        return Scene("red", frames.repeat(repeat), masks.repeat(repeat))


class Behind:
    """Photographs of blue and a clip of two greens."""

    names = ("blue", "greens")

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 0:
            return torch.full((1, 3, 60, 90), 30, dtype=torch.uint8)
        frames = torch.full((2, 3, 60, 90), 60, dtype=torch.uint8)
        frames[1] = 70
        return Scene("greens", frames, torch.zeros(2, 1, 60, 90, dtype=torch.uint8))


def test_coverage_and_colours():
    data = RealComposite(Fronts(), Behind(), 1, count=6, coverage=(0.3, 0.5))
    assert len(data) == 6
    assert len({name.split("_on_")[1] for name in data.names}) == 2
    for sample in data:
        assert sample.target is None
        assert sample.composite.shape == (3, 3, 60, 90)
        share = float(sample.masks.float().mean()) / 255
        assert 0.27 < share < 0.55
        inside = (sample.masks == 255).expand_as(sample.composite)
        assert (sample.composite[:, 0][inside[:, 0]] == 250).all()
        outside = sample.composite[:, 0][(sample.masks == 0)[:, 0]]
        assert set(outside.unique().tolist()) <= {30, 60, 70}
    # A background shorter than the foreground runs back and forth.
    greens = next(s for s in data if s.name.endswith("greens"))
    corners = [int(frame[0][mask[0] == 0][0])
               for frame, mask in zip(greens.composite, greens.masks, strict=True)]  # fmt: skip
    assert corners == [60, 70, 60]


def test_what_its_frame_cut_off_stays_on_the_edge():
    for seed in range(6):
        sample = RealComposite(Fronts(bottom=True), Behind(), seed)[0]
        assert (sample.masks[0, 0, -1] > 127).any()
        assert not (sample.masks[0, 0, 0] > 127).any()


def test_no_more_than_the_largest_scale():
    sample = RealComposite(Fronts(), Behind(), 0, coverage=(0.6, 0.6), max_scale=1.0)[0]
    share = float(sample.masks.float().mean()) / 255
    assert share == pytest.approx(16 * 19 / (60 * 90), rel=0.1)


def test_same_seed_same_bits():
    one, two = (RealComposite(Fronts(), Behind(), 4, count=3, size=40) for _ in range(2))
    assert one.names == two.names
    assert one[2].composite.shape == (3, 3, 40, 40)
    assert torch.equal(one[2].composite, two[2].composite)
    assert torch.equal(one[-1].masks, two[2].masks)
    other = RealComposite(Fronts(), Behind(), 5, count=3, size=40)
    assert not torch.equal(one[2].composite, other[2].composite)


def test_cover_keeps_the_shape_of_things():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200
    assert (cover(picture, (20, 20)) == 200).all()
    assert cover(smooth_picture(0), (30, 90)).shape == (30, 90, 3)


def test_writing_and_reading_back(clips, folders, tmp_path):
    data = RealComposite(open_data(clips), open_photos(folders), 2, frames=2)
    assert [len(sample.masks) for sample in data] == [2, 2]
    seen = []
    paths = write_composites(data, tmp_path / "out", progress=lambda *state: seen.append(state))
    assert seen == [(1, 2), (2, 2)]
    assert [p.name for p in paths] == list(data.names)
    again = open_data(tmp_path / "out")
    assert set(again.names) == set(data.names)
    back = again[again.names.index(data.names[1])]
    assert torch.equal(back.composite, data[1].composite)
    assert torch.equal(back.masks, data[1].masks)
    with pytest.raises(FileExistsError, match="exists already and is not empty"):
        write_composites(data, tmp_path / "out")


def test_nothing_is_left_of_a_failed_writing(tmp_path):
    class Broken(Fronts):
        def __getitem__(self, index):
            scene = super().__getitem__(index)
            return Scene("red", scene.frames, scene.masks * 0)

    with pytest.raises(DataError, match="red: its mattes are empty"):
        write_composites(RealComposite(Broken(), Behind()), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments(folders):
    scenes = open_data(folders, limit=1)
    for settings, told in (
        ({"coverage": (0.0, 0.5)}, "coverage: expected"),
        ({"count": 0}, "count: expected 1 or more"),
        ({"max_scale": 0}, "max_scale: expected"),
    ):
        with pytest.raises(ValueError, match=told):
            RealComposite(Fronts(), Behind(), **settings)
    with pytest.raises(ValueError, match="backgrounds: none of another name than train/p0"):
        RealComposite(scenes, scenes)

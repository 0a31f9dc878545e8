# SPDX-License-Identifier: Apache-2.0
"""Filling holes, borrowed and drawn masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_sets import box_mask, smooth_picture

from vharm.data import BorrowedMasks, DataError, draw_mask, fill_hole, open_data, open_photos


def test_what_is_known_stays_and_a_flat_picture_is_restored():
    flat = np.full((37, 53, 3), (10, 120, 250), np.uint8)
    hole = box_mask((37, 53), (10, 30, 10, 50)) > 0
    damaged = flat.copy()
    damaged[hole] = 77
    assert np.array_equal(fill_hole(damaged, hole), flat)
    picture = smooth_picture(0)
    out = fill_hole(picture, box_mask() > 0)
    assert np.array_equal(out[box_mask() == 0], picture[box_mask() == 0])
    assert np.array_equal(fill_hole(picture, np.zeros(picture.shape[:2], bool)), picture)
    assert (fill_hole(picture, np.ones(picture.shape[:2], bool)) == 128).all()


def test_a_ramp_is_filled_smoothly_between_its_sides():
    ramp = np.repeat(np.linspace(0, 240, 64).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    hole = box_mask(box=(0, 48, 20, 44)) > 0
    damaged = np.where(hole[..., None], 255, ramp).astype(np.uint8)
    out = fill_hole(damaged, hole).astype(int)
    assert out[:, 20:44].max() <= ramp[:, 44].max() + 2
    assert out[:, 20:44].min() >= int(ramp[:, 19].min()) - 2
    assert np.abs(np.diff(out, axis=1)).max() < 60
    assert np.abs(out - ramp).max() < 45


def test_borrowed_masks(folders):
    photos, lender = open_photos(folders), open_data(folders)
    data = BorrowedMasks(photos, lender, seed=3)
    scene = data[1]
    assert (scene.name, scene.subset) == ("unmasked/u1", "borrowed")
    assert scene.masks.shape == (1, 1, 40, 70)
    assert torch.equal(scene.frames, photos[1])
    # A box of half the width and height, somewhere.
    assert abs(float(scene.masks.float().mean()) / 255 - 28 * 24 / (48 * 64)) < 0.01
    assert torch.equal(data[1].masks, BorrowedMasks(photos, lender, seed=3)[1].masks)
    assert torch.equal(data[-1].masks, data[1].masks)
    drawn = BorrowedMasks(photos, seed=3)
    different = [BorrowedMasks(photos, seed=s)[0].masks for s in range(4)]
    assert not any(torch.equal(drawn[0].masks, other) for other in different[:3])
    assert torch.equal(drawn[0].masks, different[3])
    assert not torch.equal(drawn[0].masks, BorrowedMasks(photos, seed=3, epoch=1)[0].masks)
    assert "drawn masks" in drawn.description


def test_bad_arguments(folders):
    photos, lender = open_photos(folders), open_data(folders)
    with pytest.raises(ValueError, match="drawn: expected 0 to 1"):
        BorrowedMasks(photos, drawn=0.5)
    with pytest.raises(ValueError, match="coverage: expected"):
        BorrowedMasks(photos, lender, coverage=(0.5, 0.2))
    with pytest.raises(DataError, match="unmasked/u0: 20 masks in a row do not cover 90% to 99%"):
        BorrowedMasks(photos, lender, coverage=(0.9, 0.99))[0]


def test_drawn_masks_vary_and_are_one_thing():
    import cv2

    shares = []
    for seed in range(30):
        mask = draw_mask(np.random.default_rng(seed), (64, 80))
        assert mask.shape == (64, 80)
        shares.append(mask.mean() / 255)
        count, _ = cv2.connectedComponents((mask > 127).astype(np.uint8))
        assert count <= 3
    assert max(shares) - min(shares) > 0.2

# SPDX-License-Identifier: Apache-2.0
"""iHarmony4 and HYouTube in the layouts they are published in."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from data_sets import as_picture, box_mask, save, smooth_picture

from vharm.data import DataError, open_data


@pytest.fixture
def iharmony4(tmp_path):
    """HCOCO: c1 with two masks, two composites of the first; Hday2night: a name with a dash."""
    root = tmp_path / "iHarmony4"
    entries = (("HCOCO", "c1", "1", "1"), ("HCOCO", "c1", "1", "2"), ("HCOCO", "c1", "2", "1"),
               ("Hday2night", "d9-3", "1", "1"))  # fmt: skip
    for number, (subset, name, mask, composite) in enumerate(entries):
        stem = f"{name}_{mask}_{composite}"
        save(root / subset / f"composite_images/{stem}.jpg", smooth_picture(number))
        box = (4, 20, 4, 4 + 8 * int(mask))
        save(root / subset / f"masks/{name}_{mask}.png", box_mask(box=box))
        save(root / subset / f"real_images/{name}.jpg", smooth_picture(90 + len(name)))
    (root / "HCOCO/HCOCO_train.txt").write_text("c1_1_1.jpg\nc1_2_1.jpg\n")
    (root / "HCOCO/HCOCO_test.txt").write_text("c1_1_2.jpg\n")
    (root / "Hday2night/Hday2night_train.txt").write_text("d9-3_1_1.jpg\n")
    return root


def test_iharmony4(iharmony4):
    data = open_data(iharmony4, split="train")
    assert data.names == ("HCOCO/c1_1_1", "HCOCO/c1_2_1", "Hday2night/d9-3_1_1")
    assert data.subsets == ("HCOCO", "Hday2night")
    assert "(HCOCO 2, Hday2night 1)" in data.description
    sample = data[1]
    assert sample.subset == "HCOCO"
    assert np.abs(as_picture(sample.composite[0]).astype(int) - smooth_picture(2)).mean() < 2
    assert np.abs(as_picture(sample.target[0]).astype(int) - smooth_picture(92)).mean() < 2
    assert np.array_equal(sample.masks[0, 0].numpy(), box_mask(box=(4, 20, 4, 20)))
    assert open_data(iharmony4, split="test").names == ("HCOCO/c1_1_2",)
    assert len(open_data(iharmony4)) == 4
    with pytest.raises(ValueError, match="no split 'val' .*train, test"):
        open_data(iharmony4, split="val")


def test_one_subset_alone(iharmony4):
    assert open_data(iharmony4 / "Hday2night").names == ("Hday2night/d9-3_1_1",)
    for file in (iharmony4 / "HCOCO").glob("*.txt"):
        file.unlink()
    assert len(open_data(iharmony4 / "HCOCO")) == 3
    with pytest.raises(ValueError, match="split: .*there: none"):
        open_data(iharmony4 / "HCOCO", split="train")


def test_iharmony4_with_files_missing(iharmony4):
    (iharmony4 / "HCOCO/masks/c1_2.png").unlink()
    (iharmony4 / "HCOCO/composite_images/c1_1_2.jpg").unlink()
    (iharmony4 / "Hday2night/real_images/d9-3.jpg").unlink()
    with pytest.raises(DataError) as caught:
        open_data(iharmony4)
    told = str(caught.value)
    assert "3 broken pairs" in told
    assert "HCOCO/c1_2_1: mask missing" in told
    assert "HCOCO_test.txt lists c1_1_2" in told
    assert "Hday2night/d9-3_1_1: target missing" in told
    assert open_data(iharmony4, broken="skip").names == ("HCOCO/c1_1_1",)


RELEASED = ("real_videos", "foreground_mask", "synthetic_composite_videos")
README = ("Ground-truth", "Mask", "Composite")
CLIPS = (("cce03c2a9b", "object_0"), ("cce03c2a9b", "object_1"), ("0a1b", "object_0"))
STEMS = ("00005", "00010", "00015")


@pytest.fixture(params=["object level", "no object level"])
def hyoutube(request, tmp_path):
    """Three clips of three frames; the first two of one video, the third is for testing."""
    root = tmp_path / "HYouTube"
    for number, (video, thing) in enumerate(CLIPS):
        inner = f"{video}/{thing}" if request.param == "object level" else video
        for frame, stem in enumerate(STEMS):
            truth = smooth_picture(len(video) * 10 + frame)
            save(root / RELEASED[0] / inner / f"{stem}.jpg", truth)
            mask = box_mask(box=(5, 25, 5 + number, 30 + number))
            save(root / RELEASED[1] / video / thing / f"{stem}.png", mask)
            composite = smooth_picture(number * 7 + frame)
            save(root / RELEASED[2] / video / thing / f"{stem}.jpg", composite)
    return root


def line(video, thing, stem=None, folders=RELEASED):
    real, mask, composite = (f"{folder}/{video}/{thing}" for folder in folders)
    real = f"{folders[0]}/{video}"
    if stem is None:
        return f"{real} {mask} {composite}"
    return f"{real}/{stem}.jpg {mask}/{stem}.png {composite}/{stem}.jpg"


def check(data, names=("cce03c2a9b/object_0", "cce03c2a9b/object_1")):
    assert data.names == names
    sample = data[1]
    assert sample.composite.shape == (3, 3, 48, 64)
    assert np.array_equal(sample.masks[2, 0].numpy(), box_mask(box=(5, 25, 6, 31)))
    assert np.abs(as_picture(sample.composite[2]).astype(int) - smooth_picture(9)).mean() < 2
    assert np.abs(as_picture(sample.target[2]).astype(int) - smooth_picture(102)).mean() < 2


@pytest.mark.parametrize("name", ["{}_list.txt", "{}.txt"])
def test_hyoutube_lists_of_clips(hyoutube, name):
    (hyoutube / name.format("train")).write_text("\n".join(line(*c) for c in CLIPS[:2]) + "\n")
    (hyoutube / name.format("test")).write_text(line(*CLIPS[2]))
    check(open_data(hyoutube, split="train"))
    assert open_data(hyoutube, split="test").names == ("0a1b/object_0",)
    assert len(open_data(hyoutube)) == 3


def test_hyoutube_lists_of_frames(hyoutube):
    rows = [line(*clip, stem) for clip in CLIPS[:2] for stem in STEMS]
    (hyoutube / "train_list.txt").write_text("\n".join(reversed(rows)))
    data = open_data(hyoutube, split="train")
    assert set(data.names) == {"cce03c2a9b/object_0", "cce03c2a9b/object_1"}
    check(open_data(hyoutube), names=data.names) if data.names[1].endswith("1") else None
    # Frames are in the clip's order whatever the list's is.
    assert np.array_equal(data[0].masks[0], data[0].masks[2])
    place = data.names.index("cce03c2a9b/object_0")
    assert np.abs(as_picture(data[place].composite[0]).astype(int) - smooth_picture(0)).mean() < 2


def test_hyoutube_columns_in_another_order(hyoutube):
    rows = [" ".join(reversed(line(*clip).split())) for clip in CLIPS[:2]]
    (hyoutube / "train.txt").write_text("\n".join(rows))
    check(open_data(hyoutube))


def test_hyoutube_without_lists_and_as_its_readme_says(hyoutube):
    all_names = ("0a1b/object_0", "cce03c2a9b/object_0", "cce03c2a9b/object_1")
    assert open_data(hyoutube).names == all_names
    for old, new in zip(RELEASED, README, strict=True):
        shutil.move(hyoutube / old, hyoutube / new)
    data = open_data(hyoutube)
    assert data.names == all_names
    assert data[0].composite.shape == (3, 3, 48, 64)
    with pytest.raises(ValueError, match="split: .*there: none"):
        open_data(hyoutube, split="train")


def test_hyoutube_with_files_missing(hyoutube):
    (hyoutube / "foreground_mask/0a1b/object_0/00010.png").unlink()
    with pytest.raises(DataError, match=r"0a1b/object_0: mask missing .*00010 not found"):
        open_data(hyoutube)
    (hyoutube / "train.txt").write_text("real_videos/x only-two")
    with pytest.raises(DataError, match="train.txt line 1: expected three paths"):
        open_data(hyoutube)

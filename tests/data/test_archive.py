# SPDX-License-Identifier: Apache-2.0
"""Packing and reading back: contents, budget, determinism, workers, damage."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch
from data_sets import as_picture, box_mask, make_clips, save, smooth_picture
from torch.utils.data import DataLoader

from vharm.data import Archive, DataError, open_data, open_photos, pack
from vharm.data.packing import parts_of


def first(batch):
    return batch[0]


@pytest.fixture
def several(folders):
    """A folder of photographs with clips, composites and tables below it."""
    make_clips(folders / "videos")
    save(folders / "real_composites/images/x.png", smooth_picture(1))
    save(folders / "real_composites/masks/x.png", box_mask() // 2)
    np.savez(folders / "luts.npz", luts=np.linspace(0, 1, 24, dtype=np.float32).reshape(8, 3))
    return folders


def test_what_is_packed(several, tmp_path):
    done = pack(several, tmp_path / "x.tar")
    assert done.parts == {"images": 6, "real_composites": 1, "videos": 2, "photos": 2}
    assert done.extras == ("luts.npz",)
    archive = Archive(done.path)
    assert archive.parts["photos"] == "photos"
    assert archive.size == 256
    tables = np.load(io.BytesIO(archive.extra("luts.npz")))["luts"]
    assert np.abs(tables.astype(np.float32).reshape(-1) - np.linspace(0, 1, 24)).max() < 1e-3
    with pytest.raises(ValueError, match=r"no extra file 'x'.*there: luts\.npz"):
        archive.extra("x")
    with tarfile.open(done.path) as tar:
        names = tar.getnames()
    assert names[0] == "index.json"
    assert {"images/frames/train/p0.jpg", "videos/masks/b/00004.png"} <= set(names)


def test_reading_back(several, tmp_path):
    path = pack(several, tmp_path / "x.tar", quality=95).path
    packed, plain = open_data(path, split="train"), open_data(several, split="train")
    assert packed.names == plain.names
    assert "x.tar, split train, layout archive, part images" in packed.description
    for a, b in zip(packed, plain, strict=True):
        assert (a.frames.float() - b.frames.float()).abs().mean() < 3
        assert torch.equal(a.masks, b.masks)
    videos = open_data(path, part="videos")
    assert torch.equal(videos.part(1, 3, 5).masks, open_data(several / "videos")[1].masks[3:5])
    sample = open_data(path, part="real_composites")[0]
    assert sample.target is None
    assert sample.masks.max() == 127
    assert open_photos(path).names == ("unmasked/u0", "unmasked/u1")
    assert len(open_data(path, split="val", borrowed=True)) == 4
    with pytest.raises(ValueError, match="part: the archive has 3 parts; say which"):
        open_data(path)
    with pytest.raises(ValueError, match="part: no part 'films'"):
        open_data(path, part="films")
    with pytest.raises(ValueError, match="layout: not for an archive"):
        open_data(path, layout="folders")


def test_pictures_are_made_smaller_never_larger(several, tmp_path):
    path = pack(several, tmp_path / "x.tar", size=32, only=["images"]).path
    scene = open_data(path)[0]
    assert scene.frames.shape == (1, 3, 24, 32)
    # Black and white masks stay so.
    assert set(scene.masks.unique().tolist()) == {0, 255}
    assert open_data(path, size=16)[0].frames.shape == (1, 3, 16, 16)


def test_same_input_same_bytes(several, tmp_path):
    one = pack(several, tmp_path / "1.tar").path.read_bytes()
    copy = shutil.copytree(several, tmp_path / "elsewhere" / several.name)
    assert pack(copy, tmp_path / "2.tar").path.read_bytes() == one
    save(copy / "images/val/p1.png", smooth_picture(99))
    assert pack(copy, tmp_path / "2.tar").path.read_bytes() != one


def test_the_budget_is_kept(tmp_path):
    random = np.random.default_rng(0)
    for number in range(6):
        noise = random.integers(0, 255, (120, 160, 3), dtype=np.uint8)
        save(tmp_path / f"set/images/{number}.png", noise)
        save(tmp_path / f"set/masks/{number}.png", box_mask((120, 160)))
    free = pack(tmp_path / "set", tmp_path / "free.tar")
    budget = free.bytes * 0.7 / 2**20
    done = pack(tmp_path / "set", tmp_path / "x.tar", max_mib=budget)
    assert done.bytes == done.path.stat().st_size <= free.bytes * 0.7
    assert 50 <= done.quality < 90 == free.quality
    assert done.bytes > free.bytes * 0.5
    with pytest.raises(ValueError, match="max_mib: at quality 50 it is still"):
        pack(tmp_path / "set", tmp_path / "y.tar", max_mib=0.01)
    assert {p.name for p in tmp_path.iterdir()} == {"set", "free.tar", "x.tar"}


def test_workers_and_pickles(several, tmp_path):
    data = open_data(pack(several, tmp_path / "x.tar").path, part="videos", size=16)
    here = [scene.frames for scene in data]
    for method in ("fork", "spawn"):
        loader = DataLoader(
            data, batch_size=1, num_workers=2, collate_fn=first, multiprocessing_context=method
        )
        for a, b in zip(loader, here, strict=True):
            assert torch.equal(a.frames, b)
    assert torch.equal(pickle.loads(pickle.dumps(data))[1].frames, here[1])


def test_damage_is_told(several, tmp_path):
    path = pack(several, tmp_path / "x.tar").path
    data, whole = open_data(path, part="images"), path.read_bytes()
    path.write_bytes(whole[:-3000])
    with pytest.raises(DataError, match=r"x\.tar: ends early"):
        Archive(path)
    with pytest.raises(DataError, match="was changed since it was opened"):
        data[0]
    path.write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match="not an archive of `vharm data pack`"):
        open_data(path)
    with tarfile.open(path, "w") as tar:
        tar.add(several / "luts.npz", "luts.npz")
    with pytest.raises(DataError, match="its first member is no index"):
        open_data(path)


def test_nothing_is_left_of_a_failed_packing(several, tmp_path):
    (several / "images/val/p1.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"p1\.png"):
        pack(several, tmp_path / "x.tar")
    assert [p.name for p in tmp_path.iterdir()] == [several.name]
    (several / "masks/val/p1.png").unlink()
    with pytest.raises(DataError, match="1 broken pairs"):
        pack(several, tmp_path / "x.tar")
    done = pack(several, tmp_path / "x.tar", broken="skip")
    assert (done.left_out, done.parts["images"]) == (1, 5)


def test_bad_arguments(several, tmp_path):
    for settings, told in (
        ({"size": 4}, "size: expected 16"),
        ({"quality": 20}, "quality: expected 50 to 100"),
        ({"broken": "?"}, "broken: expected"),
        ({"only": ["films"]}, "no part 'films' to pack; there: images, "),
    ):
        with pytest.raises(ValueError, match=told):
            pack(several, tmp_path / "x.tar", **settings)
    with pytest.raises(ValueError, match="target: expected a name that ends in .tar"):
        pack(several, tmp_path / "x.zip")
    with pytest.raises(ValueError, match="Looked for"):
        parts_of(tmp_path / "set/images/unmasked")


def test_clips_are_no_sets_of_their_own(tmp_path):
    """HYouTube's folders, or a clip's, are not packed a second time under their own names."""
    make_clips(tmp_path / "v")
    parts, broken = parts_of(tmp_path / "v")
    assert [part.name for part in parts] == ["sequences"]
    assert broken == 0
    packed = open_data(pack(tmp_path / "v", tmp_path / "v.tar", frames=2).path)
    assert [packed.count(i) for i in range(2)] == [2, 2]
    assert as_picture(packed[0].frames[0]).shape == (48, 64, 3)

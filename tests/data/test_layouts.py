# SPDX-License-Identifier: Apache-2.0
"""Every layout is found, read rightly, and told apart from the others."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch
from data_sets import as_picture, box_mask, save, smooth_picture
from torch.utils.data import DataLoader

from vharm.data import DataError, DataSet, Sample, Scene, open_data, open_photos


def first(batch):
    return batch[0]


def test_folders(folders):
    data = open_data(folders)
    assert isinstance(data, DataSet)
    assert data.names == (*(f"train/p{n}" for n in range(4)), "val/p0", "val/p1")
    scene = data[4]
    assert isinstance(scene, Scene)
    assert np.array_equal(as_picture(scene.frames[0]), smooth_picture(10))
    assert np.array_equal(scene.masks[0, 0].numpy(), box_mask())
    assert len(list(data)) == 6
    with pytest.raises(IndexError):
        data[6]


def test_split_limit_and_description(folders):
    data = open_data(folders, split="train", limit=2)
    assert data.names == ("train/p0", "train/p2")
    assert data.description == (
        "2 natural scenes from set, split train, evenly spread (2 asked for), layout folders"
    )
    assert str(folders.parent) not in data.description
    assert open_data(folders, split="val")[1].name == open_data(folders)[5].name
    with pytest.raises(ValueError, match=r"split: no split 'test' .*there: train, val"):
        open_data(folders, split="test")
    with pytest.raises(ValueError, match="limit: expected 1 or more"):
        open_data(folders, limit=0)


def test_sizes(folders):
    assert open_data(folders, size=32)[0].frames.shape == (1, 3, 32, 32)
    scene = open_data(folders, size=(24, 32))[0]
    assert scene.masks.shape == (1, 1, 24, 32)
    # Halved exactly: area means of 2x2 pixels.
    blocks = smooth_picture(0).reshape(24, 2, 32, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(as_picture(scene.frames[0]) - blocks).max() <= 0.5
    for size, error in ((0, ValueError), ("big", TypeError), ((1, 2, 3), TypeError)):
        with pytest.raises(error, match="size: expected"):
            open_data(folders, size=size)


def test_a_resize_that_shrinks_one_side_and_grows_the_other_is_smooth():
    from vharm.data._pictures import resize_picture

    stripes = np.zeros((64, 8), np.uint8)
    stripes[::2] = 200
    out = resize_picture(stripes, (16, 16))
    assert np.abs(out.astype(int) - 100).max() <= 1


def test_masks_alone(folders):
    data = open_data(folders, size=20)
    assert torch.equal(data.masks(3), data[3].masks)


def test_unmasked_photographs(folders, tmp_path):
    photos = open_photos(folders)
    assert photos.names == ("unmasked/u0", "unmasked/u1")
    assert photos[0].shape == (1, 3, 40, 70)
    plain = save(tmp_path / "plain/x.jpg", smooth_picture(3)).parent
    assert open_photos(plain, size=16)[0].shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="no known layout"):
        open_data(plain)
    joined = open_data(folders, split="val", size=32, borrowed=True)
    assert joined.names == ("val/p0", "val/p1", "unmasked/u0", "unmasked/u1")
    assert joined[2].masks.max() == 255
    assert joined[3].subset == "borrowed"


def test_sequences(clips):
    data = open_data(clips)
    assert data.names == ("a", "b")
    assert data[1].frames.shape == (5, 3, 48, 64)
    assert np.array_equal(as_picture(data[1].frames[3]), smooth_picture(33))
    assert np.array_equal(data[0].masks[2, 0].numpy(), box_mask(box=(12, 36, 18, 46)))
    assert torch.equal(data.part(1, 2, 4).frames, data[1].frames[2:4])
    with pytest.raises(ValueError, match="start, stop: expected a part of the 3 frames of a"):
        data.part(0, 2, 4)
    alone = open_data(clips / "b", masks="masks_tight")
    assert alone.names == ("b",)
    assert alone[0].masks.sum() == 5 * 100 * 255
    with pytest.raises(DataError, match="a: mask missing"):
        open_data(clips, masks="masks_tight")
    assert open_data(clips, masks="masks_tight", broken="skip").names == ("b",)


def test_sequences_with_other_numbering_are_paired_by_position(clips):
    for file in sorted((clips / "a/masks").iterdir()):
        file.rename(file.with_name(f"m{file.name}"))
    assert np.array_equal(open_data(clips)[0].masks[1, 0].numpy(), box_mask(box=(12, 36, 17, 45)))


def test_sequences_below_splits(clips, tmp_path):
    root = tmp_path / "split"
    (root / "test").mkdir(parents=True)
    shutil.move(clips, root / "train")
    shutil.copytree(root / "train/a", root / "test/c")
    assert open_data(root, split="train").names == ("train/a", "train/b")
    assert open_data(root, split="test").names == ("test/c",)


def test_videos(tmp_path):
    pytest.importorskip("av")
    from fractions import Fraction

    from vharm.media import ColorSpec, Frame, open_writer

    def write(path, pictures):
        path.parent.mkdir(exist_ok=True)
        with open_writer(path, frame_rate=25, crf=4) as writer:
            for i, picture in enumerate(pictures):
                color = ColorSpec("rgb" if picture.ndim == 3 else "gray", 8)
                writer.write(Frame((picture,), color, i, i, Fraction(1, 25), 1, i / 25))

    pictures = [smooth_picture(n) for n in range(4)]
    masks = [box_mask(box=(12, 36, 16 + n, 44 + n)) for n in range(4)]
    write(tmp_path / "c/frames.mp4", pictures)
    write(tmp_path / "c/mask.mp4", masks)
    data = open_data(tmp_path)
    assert data.count(0) == 4
    part = data.part(0, 1, 3)
    # Forked workers must not hang on decoders that were open here.
    for scene in DataLoader(data, batch_size=1, num_workers=1, collate_fn=first):
        assert torch.equal(scene.frames, data[0].frames)
    assert np.abs(as_picture(part.frames[0]).astype(int) - pictures[1]).mean() < 4
    assert np.abs(part.masks[1, 0].numpy().astype(int) - masks[2]).mean() < 3

    write(tmp_path / "t/foreground.mp4", pictures)
    write(tmp_path / "t/matte.mp4", masks)
    save(tmp_path / "t/background.png", np.full((48, 64, 3), 7, np.uint8))
    triple = open_data(tmp_path / "t")[0]
    assert triple.target is None
    outside = (triple.masks == 0).expand_as(triple.composite)
    assert outside.any()
    assert (triple.composite[outside] == 7).all()
    scene = open_data(tmp_path / "t", layout="foregrounds")[0]
    assert isinstance(scene, Scene)
    assert torch.equal(scene.masks, triple.masks)
    with pytest.raises(ValueError, match="fits several layouts: sequences and triples"):
        open_data(tmp_path)


def test_triples_of_pictures(tmp_path):
    front, behind = smooth_picture(0), smooth_picture(1)
    matte = box_mask() // 2
    for folder, picture in (("foreground", front), ("background", behind), ("mask", matte)):
        save(tmp_path / folder / "x.png", picture)
    sample = open_data(tmp_path)[0]
    share = matte[..., None] / 255
    wanted = share * front + (1 - share) * behind
    assert np.abs(as_picture(sample.composite[0]) - wanted).max() <= 0.5
    save(tmp_path / "foreground/y.png", front)
    with pytest.raises(DataError, match="y: background missing"):
        open_data(tmp_path)


def test_composites(tmp_path):
    save(tmp_path / "composites/x.png", smooth_picture(0))
    save(tmp_path / "masks/x.png", box_mask())
    sample = open_data(tmp_path)[0]
    assert isinstance(sample, Sample)
    assert sample.target is None
    save(tmp_path / "targets/x.png", smooth_picture(1))
    assert np.array_equal(as_picture(open_data(tmp_path)[0].target[0]), smooth_picture(1))
    with pytest.raises(ValueError, match="recolour: .* holds composites already"):
        open_data(tmp_path, recolour=("colour",))


def test_a_name_that_says_composites(tmp_path):
    for name in ("real_composites", "plain"):
        save(tmp_path / name / "images/x.png", smooth_picture(0))
        save(tmp_path / name / "masks/x.png", box_mask())
    assert isinstance(open_data(tmp_path / "real_composites")[0], Sample)
    assert isinstance(open_data(tmp_path / "plain")[0], Scene)
    assert isinstance(open_data(tmp_path / "plain", layout="composites")[0], Sample)


def test_errors_say_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="path: .* does not exist"):
        open_data(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"Looked for: iharmony4: .*hyoutube: .*triples: "):
        open_data(tmp_path)
    with pytest.raises(ValueError, match="layout: expected one of iharmony4, .*got 'coco'"):
        open_data(tmp_path, layout="coco")
    with pytest.raises(ValueError, match="part: only archives have parts"):
        open_data(tmp_path, part="x")
    with pytest.raises(ValueError, match='broken: expected "error" or "skip"'):
        open_data(tmp_path, broken="maybe")


def test_broken_files_are_named(folders):
    whole = (folders / "images/train/p0.png").read_bytes()
    (folders / "images/train/p0.png").write_bytes(whole[: len(whole) // 2])
    (folders / "images/train/p1.png").write_bytes(b"nothing of the kind")
    save(folders / "masks/train/p2.png", box_mask((40, 64)))
    save(folders / "masks/train/p3.png", smooth_picture(1))
    data = open_data(folders)
    for index, told in enumerate((r"p0\.png: ends early", r"p1\.png: not a readable picture",
                                  "frame 0 is 64x48 and mask 0 is 64x40", "coloured")):  # fmt: skip
        with pytest.raises(DataError, match=told):
            data[index]
    save(folders / "masks/train/p3.png", box_mask() // 255)
    with pytest.raises(DataError, match="mask of 0 and 1"):
        data[3]
    (folders / "masks/train/p3.png").unlink()
    with pytest.raises(DataError, match=r"train/p3: mask missing \(images/train/p3.png has no"):
        open_data(folders)
    skipped = open_data(folders, broken="skip")
    assert "train/p3" not in skipped.names
    assert "1 broken pairs left out" in skipped.description


def test_a_jpeg_that_ends_early_is_seen(tmp_path):
    from vharm.data._pictures import decode_colour

    path = save(tmp_path / "x.jpg", smooth_picture(0, (200, 200)))
    data = path.read_bytes()
    assert decode_colour(data, "x").shape == (200, 200, 3)
    for cut in (len(data) // 2, len(data) - 2):
        with pytest.raises(DataError, match=f"x: ends early \\({cut} bytes"):
            decode_colour(data[:cut], "x")
    # A camera may write more after the picture.
    assert decode_colour(data + b"trailer", "x").shape == (200, 200, 3)


def test_masks_of_other_kinds(tmp_path):
    from vharm.data._pictures import decode_mask

    deep = save(tmp_path / "deep.png", box_mask().astype(np.uint16) * 257)
    assert np.array_equal(decode_mask(deep.read_bytes(), "deep"), box_mask())
    import cv2

    cut_out = np.dstack([smooth_picture(0), box_mask()])
    cv2.imwrite(str(tmp_path / "alpha.png"), cut_out)
    assert np.array_equal(decode_mask((tmp_path / "alpha.png").read_bytes(), "a"), box_mask())


def test_sets_can_be_pickled_and_read_by_workers(folders):
    data = open_data(folders, size=32, borrowed=True)
    again = pickle.loads(pickle.dumps(data))
    loader = DataLoader(data, batch_size=1, num_workers=2, collate_fn=first)
    for index, scene in enumerate(loader):
        assert scene.name == again[index].name
        assert torch.equal(scene.frames, again[index].frames)
        assert torch.equal(scene.masks, again[index].masks)

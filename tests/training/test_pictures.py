# SPDX-License-Identifier: Apache-2.0
"""From a data set to training pictures and a validation set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scenes import Samples, Scenes, as_bytes, write_photographs
from torch.utils.data import DataLoader

from vharm.data.augment import Cached
from vharm.training import ConfigError, pictures
from vharm.training.pictures import PictureSet, Validation, collate, open_pictures

torch.set_num_threads(1)
OPTIONS = {"seed": 0, "hold_out": 0.25, "borrowed": 0.0, "least_crop": 1.0}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("cv2")
    return write_photographs(tmp_path_factory.mktemp("photographs") / "set", 8)


def write_picture(path: Path, picture: torch.Tensor) -> None:
    from vharm.data._pictures import encode_png

    path.parent.mkdir(parents=True, exist_ok=True)
    shown = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
    path.write_bytes(encode_png(as_bytes(shown).numpy()))


def test_folder_without_splits_is_trained_on_whole(photographs: Path) -> None:
    training, held = open_pictures(str(photographs), 32, **OPTIONS)
    assert (len(training), len(held)) == (6, 2)
    names = {training.scenes[i].name for i in range(6)} | {held[i].name for i in range(2)}
    assert names == {f"{i:03d}" for i in range(8)}
    again = open_pictures(str(photographs), 32, **OPTIONS)[1]
    assert [again[i].name for i in range(2)] == [held[i].name for i in range(2)]
    other = open_pictures(str(photographs), 32, **{**OPTIONS, "seed": 5})[1]
    assert {other[i].name for i in range(2)} != {held[i].name for i in range(2)}


def test_of_a_set_with_splits_only_train(photographs: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        for split, span in (("train", range(4)), ("test", range(4, 8))):
            (tmp_path / kind / split).mkdir(parents=True)
            for i in span:
                file = photographs / kind / f"{i:03d}.png"
                (tmp_path / kind / split / file.name).write_bytes(file.read_bytes())
    training, held = open_pictures(str(tmp_path), 32, **OPTIONS)
    names = [s[i].name for s in (training.scenes, held) for i in range(len(s))]
    assert sorted(names) == [f"train/{i:03d}" for i in range(4)]


def test_no_more_are_held_out_than_tell_something(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MOST_HELD_OUT", 1)
    training, held = open_pictures(str(photographs), 32, **OPTIONS)
    assert (len(training), len(held)) == (7, 1)


@pytest.mark.parametrize("size", [32, 300])
def test_photographs_without_masks_borrow_one(photographs: Path, tmp_path: Path, size: int) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for file in (photographs / kind).iterdir():
            (tmp_path / kind / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="no photographs without masks"):
        open_pictures(str(tmp_path), size, **{**OPTIONS, "borrowed": 0.5})
    write_picture(tmp_path / "images/unmasked/a.png", torch.ones(3, 30, 40))
    write_picture(tmp_path / "images/unmasked/b.png", torch.zeros(3, 50, 40))
    training, held = open_pictures(str(tmp_path), size, **{**OPTIONS, "borrowed": 0.5})
    assert (len(training), len(held)) == (6, 2)
    items = [training[epoch, 1] for epoch in range(24)]
    assert {item.frame.shape for item in items} == {(3, size, size)}
    means = [float(item.frame.double().mean()) for item in items]
    assert 255 in means
    assert 0 in means
    own = sum(0 < mean < 255 for mean in means)
    assert 6 <= own <= 18


def test_items_follow_from_their_key() -> None:
    training = PictureSet(Cached(Scenes(3)), 32, seed=4)
    item = training[2, 1]
    assert item.key == (2, 1)
    assert torch.equal(item.frame, training[2, 1].frame)
    assert not torch.equal(item.frame, training[3, 1].frame)
    assert not torch.equal(item.frame, PictureSet(Cached(Scenes(3)), 32, seed=5)[2, 1].frame)


def test_half_the_composites_are_the_set_s_own() -> None:
    training = PictureSet(Cached(Samples(4)), 32, seed=0, least_crop=1.0)
    items = [training[epoch, i] for epoch in range(50) for i in range(4)]
    own = [item for item in items if item.composite is not None]
    assert len(own) / 200 == pytest.approx(0.5, abs=0.1)
    for item in own[:10]:
        # Cropped and turned alike: darker and bluer inside, the same outside but for what a mask
        # that rounds to 0 lets through.
        outside = (item.mask == 0).expand_as(item.frame)
        apart = item.composite[outside].int() - item.frame[outside].int()
        assert apart.abs().max() <= 1
        inside = (item.mask == 255).expand_as(item.frame)
        assert (item.composite[inside].float() < item.frame[inside].float()).float().mean() > 0.9
    for share, count in ((0.0, 0), (1.0, 4)):
        all_or_none = PictureSet(Cached(Samples(4)), 32, seed=0, own=share)
        assert sum(all_or_none[0, i].composite is not None for i in range(4)) == count


def test_collate() -> None:
    training = PictureSet(Cached(Samples(4)), 32, seed=0)
    items = [training[epoch, i] for epoch in range(2) for i in range(4)]
    batch = collate(items)
    assert batch.given == tuple(item.composite is not None for item in items)
    assert 0 < sum(batch.given) < 8
    frames, masks, keys, composites, given = batch.to(torch.device("cpu"))
    assert frames.shape == composites.shape == (8, 3, 32, 32)
    assert masks.shape == (8, 1, 32, 32)
    assert keys[5] == (1, 1)
    assert given == batch.given
    for i, item in enumerate(items):
        expected = item.frame if item.composite is None else item.composite
        assert torch.equal(composites[i], expected)
    scenes = PictureSet(Cached(Scenes(4)), 32, seed=0)
    assert collate([scenes[0, 1]]).composites is None


@pytest.mark.parametrize("kind", [Scenes, Samples])
def test_validation_figures(kind: type[Scenes]) -> None:
    scenes = Cached(kind(5), 32)
    validation = Validation(scenes, (), 16, ("brightness", "saturation"), pictures=2)
    seen = []

    def untouched(small, small_mask, frame, mask):
        seen.append((small.shape, small_mask.shape, frame.shape, mask.shape))
        return frame

    figures, shown = validation(untouched, torch.device("cpu"))
    assert seen == [((5, 3, 16, 16), (5, 1, 16, 16), (5, 3, 32, 32), (5, 1, 32, 32))]
    assert figures["fmse"] == pytest.approx(figures["composite_fmse"], rel=1e-4)
    assert figures["psnr"] == pytest.approx(figures["composite_psnr"], rel=1e-4)
    assert list(shown) == ["validation/0", "validation/1"]
    assert shown["validation/0"].shape == (3, 32, 96)
    # By hand, in double precision.
    made, wanted = validation.composite.double(), validation.target.double()
    square = (made - wanted).square()
    inside = (validation.mask > 127).double()
    expected = (square * inside).sum((1, 2, 3)) / (3 * inside.sum((1, 2, 3)))
    assert figures["fmse"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert figures["mse"] == pytest.approx(float(square.mean()), rel=1e-5)
    assert figures["fmse"] > 10

    figures, _ = validation(lambda *_: validation.target.float() / 255, torch.device("cpu"))
    assert figures["fmse"] < 1e-6
    if kind is Samples:
        assert torch.equal(validation.composite[2], scenes[2].composite[0])


def test_errors(photographs: Path) -> None:
    with pytest.raises(ConfigError, match="data: expected a folder or an archive, got none"):
        open_pictures("", 32, **OPTIONS)
    with pytest.raises(ConfigError, match="data: too few pictures to hold 1% out: 8 in"):
        open_pictures(str(photographs), 32, **{**OPTIONS, "hold_out": 0.01})
    with pytest.raises(FileNotFoundError):
        open_pictures(str(photographs / "none"), 32, **OPTIONS)


def test_workers_read_what_is_not_in_memory() -> None:
    scenes = Cached(Samples(4), 32, most_bytes=0)
    assert not scenes.in_memory
    training = PictureSet(scenes, 32, seed=0)
    keys = [[(0, 1), (0, 3)], [(1, 2), (0, 0)]]
    loader = DataLoader(training, batch_sampler=keys, collate_fn=collate, num_workers=1)
    kept = PictureSet(Cached(Samples(4), 32), 32, seed=0)
    for batch, part in zip(loader, keys, strict=True):
        expected = collate([kept[key] for key in part])
        assert torch.equal(batch.frames, expected.frames)
        assert torch.equal(batch.masks, expected.masks)
        assert batch.given == expected.given

# SPDX-License-Identifier: Apache-2.0
"""Windows of frames for training: stills, dances, clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

from scenes import Samples, Scenes

from vharm.data.augment import Cached
from vharm.training import ConfigError
from vharm.training.pictures import PictureSet
from vharm.training.windows import ClipFrames, WindowSet, apart, collate, open_clips, tall


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def windows(lengths, **options) -> WindowSet:
    pictures = PictureSet(Cached(Scenes(4, 48), 48), 32, seed=3)
    return WindowSet(pictures, lengths, **options)


def test_tall_and_apart_are_inverse():
    frames = torch.rand(3, 4, 3, 8, 6)
    assert tall(frames).shape == (3, 3, 32, 6)
    assert torch.equal(apart(tall(frames), 4), frames.flatten(0, 1))


def test_windows_of_one_are_the_pictures():
    found = windows((1,))
    for key in ((0, 0), (5, 2)):
        item, picture = found[key], found.pictures[key]
        assert torch.equal(item.frames, picture.frame[None])
        assert torch.equal(item.masks, picture.mask[None])


def test_stills_stand_and_dances_move():
    still, dance = windows((3,), dancing=0)[0, 1], windows((3,), dancing=1)[0, 1]
    for item in (still, dance):
        assert item.frames.shape == (3, 3, 32, 32)
        assert item.masks.shape == (3, 1, 32, 32)
    assert torch.equal(still.frames[0], still.frames[2])
    assert not torch.equal(dance.frames[0], dance.frames[2])
    assert not torch.equal(dance.masks[0], dance.masks[2])
    again = windows((3,), dancing=1)[0, 1]
    assert torch.equal(again.frames, dance.frames)
    assert not torch.equal(windows((3,), dancing=1)[1, 1].frames, dance.frames)


def test_epochs_take_turns_and_mixed_batches_are_cut_to_the_shortest():
    found = windows((1, 4), dancing=1)
    assert [len(found[epoch, 0].frames) for epoch in range(4)] == [1, 4, 1, 4]
    batch = collate([found[1, 0], found[2, 1]])
    assert batch.length == 1
    assert torch.equal(batch.frames[0], found[1, 0].frames[1:2])
    assert collate([found[1, 0], found[1, 1]]).length == 4


class Clips:
    """Clips that can be read in parts."""

    def __init__(self, kind: type[Scenes], frames: int = 6) -> None:
        self.scenes = kind(2, 40, frames=frames)
        self.parts: list[tuple[int, int, int]] = []

    def __len__(self) -> int:
        return len(self.scenes)

    def count(self, index: int) -> int:
        return self.scenes.frames - index

    def part(self, index: int, start: int, stop: int):
        self.parts.append((index, start, stop))
        found = self.scenes[index]
        cut = {
            name: getattr(found, name)[start:stop]
            for name in ("frames", "composite", "masks", "target")
            if getattr(found, name, None) is not None
        }
        return dataclasses.replace(found, **cut)


def test_clips_give_consecutive_frames_and_their_own_composites():
    data = Clips(Scenes)
    found = windows((3,), clips=ClipFrames(data, 3, 48), clip_share=1)
    assert found[0, 0].frames.shape == (3, 3, 32, 32)
    assert all(stop - start == 3 for _, start, stop in data.parts)
    own = windows((3,), clips=ClipFrames(Clips(Samples), 3, 48), clip_share=1)[0, 0]
    assert own.composites.shape == own.frames.shape
    differs = (own.composites != own.frames).any(1, keepdim=True)
    assert differs.any()
    assert not (differs & (own.masks == 0)).float().mean() > 0.05  # but for the resized rim
    with pytest.raises(ConfigError, match="clips: no clip has 9 frames, the longest has 6"):
        ClipFrames(data, 9)


def test_clips_from_files(tmp_path: Path):
    from vharm.data._pictures import encode_png

    for kind, channels in (("frames", 3), ("masks", 1)):
        folder = tmp_path / "set" / "walk" / kind
        folder.mkdir(parents=True)
        for number in range(4):
            picture = np.full((20, 30, channels), 10 + 60 * number, np.uint8).squeeze()
            (folder / f"{number:05d}.png").write_bytes(encode_png(picture))
    assert open_clips("", 2, 32) is None
    found = open_clips(str(tmp_path / "set"), 3, 32)
    frames, masks, own = found.draw(3, torch.Generator().manual_seed(0))
    assert frames.shape == (3, 3, 256, 256)
    assert masks.shape == (3, 1, 256, 256)
    assert own is None
    assert frames[:, 0, 0, 0].diff().tolist() == [60, 60]
    with pytest.raises(ConfigError, match="clips: .*absent"):
        open_clips(str(tmp_path / "absent"), 3, 32)

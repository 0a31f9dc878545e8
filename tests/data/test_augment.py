# SPDX-License-Identifier: Apache-2.0
"""Crops, flips and turns; sets in memory and on disk."""

from __future__ import annotations

import pytest
import torch
from scenes import Samples, Scenes

from vharm.data import Scene, seeding
from vharm.data.augment import Cached, augmented, resized

torch.set_num_threads(1)


def encoded(height: int = 60, width: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """A mask, and a picture that holds it in every channel; no symmetry."""
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[0, 15:40, 20:30] = 255
    mask[0, 30:40, 20:50] = 255
    rows = torch.linspace(0, 250, height).byte()[:, None].expand(height, width)
    columns = torch.linspace(0, 250, width).byte().expand(height, width)
    return torch.stack((mask[0], rows, columns)), mask


def test_mask_stays_aligned_with_the_picture() -> None:
    frame, mask = encoded()
    shapes = set()
    for n in range(60):
        found, inside = augmented(frame, mask, 32, seeding.generator(n))
        assert found.shape == (3, 32, 32)
        assert inside.shape == (1, 32, 32)
        assert torch.equal(found[:1], inside)
        shapes.add(tuple(inside.flatten().tolist()))
    assert len(shapes) > 50


def test_more_pictures_are_cropped_alike() -> None:
    frame, mask = encoded()
    found, inside = augmented(torch.cat((frame, 255 - frame)), mask, 60, seeding.generator(4))
    assert found.shape == (6, 60, 60)
    assert (found[:3].int() + found[3:].int() - 255).abs().max() <= 1
    assert torch.equal(found[:1], inside)


def test_every_orientation_comes_up() -> None:
    frame, mask = encoded()
    seen = set()
    for n in range(80):
        found, _ = augmented(frame, mask, 60, seeding.generator(n), least_side=1)
        corner = found[1:, 0, 0].tolist(), found[1:, 0, -1].tolist()
        seen.add(str(corner))
    assert len(seen) == 8


def test_switched_off_it_is_the_picture() -> None:
    frame, mask = encoded()
    for n in range(10):
        source = seeding.generator(n)
        found, inside = augmented(frame, mask, 60, source, least_side=1, flip=False, rotate=False)
        assert torch.equal(found, frame)
        assert torch.equal(inside, mask)


def test_crops_keep_the_foreground() -> None:
    frame, mask = encoded()
    total = float((mask > 127).sum())
    sizes = []
    for n in range(200):
        found, inside = augmented(frame, mask, 60, seeding.generator(n), least_side=0.3)
        share = float((inside > 127).float().mean())
        assert 0.01 <= share <= 0.91
        # How much of the picture the crop has, read off the coordinates that it holds.
        spans = [float(found[c].max()) - float(found[c].min()) for c in (1, 2)]
        area = spans[0] * spans[1] / 250**2
        sizes.append(area)
        assert share * area * 3600 >= 0.45 * total
    assert min(sizes) < 0.3


@pytest.mark.parametrize("value", [0, 255])
def test_masks_that_no_crop_can_please(value: int) -> None:
    frame, _ = encoded()
    mask = torch.full((1, 60, 60), value, dtype=torch.uint8)
    found, inside = augmented(frame, mask, 60, seeding.generator(1), least_side=0.3)
    assert inside.unique().tolist() == [value]
    assert {int(found[1].min()), int(found[1].max())} == {0, 250}  # the whole picture


def test_reproducible() -> None:
    frame, mask = encoded()
    one, other = (augmented(frame, mask, 20, seeding.generator(3))[0] for _ in range(2))
    assert torch.equal(one, other)


def test_resized_leaves_the_right_size_alone() -> None:
    picture = Scenes()[0].frames
    assert resized(picture, 24) is picture
    assert resized(picture, 7).shape == (1, 3, 7, 7)
    flat = torch.full((1, 3, 9, 13), 77, dtype=torch.uint8)
    assert resized(flat, 5).unique().tolist() == [77]


@pytest.mark.parametrize("kind", [Scenes, Samples])
@pytest.mark.parametrize("most_bytes", [1 << 20, 0])
def test_in_memory_or_not_it_is_the_same(kind: type[Scenes], most_bytes: int) -> None:
    data = kind(5)
    cached = Cached(data, 16, indices=[3, 0, 4], most_bytes=most_bytes)
    assert cached.in_memory is (most_bytes > 0)
    assert cached.has_composites is (kind is Samples)
    data.reads.clear()
    assert len(cached) == 3
    for place, index in enumerate((3, 0, 4)):
        square = cached.square(place)
        expected = data[index]
        natural = expected.frames if kind is Scenes else expected.target
        assert torch.equal(square.frame, resized(natural, 16)[0])
        assert torch.equal(square.mask, resized(expected.masks, 16)[0])
        if kind is Samples:
            assert torch.equal(square.composite, resized(expected.composite, 16)[0])
        else:
            assert square.composite is None
    # Ours and, of a set that stays on disk, its own.
    assert len(data.reads) == (3 if cached.in_memory else 6)


def test_the_limit_is_the_size_in_bytes() -> None:
    exact = 5 * 4 * 16 * 16
    assert Cached(Scenes(5), 16, most_bytes=exact).in_memory
    assert not Cached(Scenes(5), 16, most_bytes=exact - 1).in_memory


def test_as_a_set_of_scenes() -> None:
    cached = Cached(Scenes(2), 16)
    scene = cached[1]
    assert isinstance(scene, Scene)
    assert scene.frames.shape == (1, 3, 16, 16)
    assert [cached[i].name for i in range(2)] == ["0", "1"]
    sample = Cached(Samples(2), 16)[1]
    assert torch.equal(sample.target, scene.frames)
    assert not torch.equal(sample.composite, scene.frames)


class Photographs:
    """Pictures without masks, as `open_photos` gives them."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return Scenes()[index].frames


def test_photographs_without_masks() -> None:
    cached = Cached(Photographs(), 16)
    assert cached.square(1).mask is None
    assert torch.equal(cached.square(1).frame, resized(Scenes()[1].frames, 16)[0])
    with pytest.raises(TypeError, match="photograph without a mask"):
        cached[0]


class Clips(Scenes):
    """Clips that can be read in part."""

    def part(self, index: int, start: int, stop: int) -> Scene:
        whole = super().__getitem__(index)
        return Scene(whole.name, whole.frames[start:stop], whole.masks[start:stop])

    def __getitem__(self, index: int) -> Scene:
        raise AssertionError("the whole clip was read")


def test_of_clips_only_the_first_frame_is_read() -> None:
    cached = Cached(Clips(2, frames=3), 24)
    assert torch.equal(cached.square(1).frame, Scenes(2, frames=3)[1].frames[0])


def test_errors() -> None:
    with pytest.raises(ValueError, match="data: expected at least one picture"):
        Cached(Scenes(2), indices=[])
    data = Samples(2)
    data.answers = False
    with pytest.raises(ValueError, match="true answers, scene 0 has none"):
        Cached(data)

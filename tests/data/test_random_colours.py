# SPDX-License-Identifier: Apache-2.0
"""Random colours: of what kind, of pictures and of clips."""

from __future__ import annotations

import pytest
import torch
from scenes import disc_scene

from vharm.data.augment import Cached
from vharm.data.random_colours import RandomColours

SIDE = 32


@pytest.fixture(scope="module")
def scenes():
    return Cached([disc_scene(i, SIDE) for i in range(4)], SIDE)


@pytest.fixture(scope="module")
def inverse():
    """One table, of negatives."""
    axis = torch.linspace(1, 0, 5)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)[None]


def test_colours_that_cannot_be_had_are_refused():
    with pytest.raises(ValueError, match="tables: needed for a share of 'lut'"):
        RandomColours((0, 1, 0))
    with pytest.raises(ValueError, match="others: needed for a share of 'transfer'"):
        RandomColours((0, 0, 1))
    with pytest.raises(ValueError, match="shares: expected 3 numbers"):
        RandomColours((0, 0, 0))


def test_tables_change_frames_and_pictures(scenes, inverse):
    colours = RandomColours((0, 1, 0), inverse)
    frames = torch.rand(1, 2, 3, 8, 8)
    source = torch.Generator().manual_seed(0)
    assert not torch.allclose(colours(frames, torch.ones(1, 2, 1, 8, 8), [source]), frames)
    square = scenes.square(0)
    one = colours.one(square.frame, square.mask, torch.Generator().manual_seed(1))
    assert one.dtype == torch.uint8
    assert one.shape == square.frame.shape
    plain = RandomColours((0, 1, 0), inverse, vary=False)
    negative = plain.one(square.frame, square.mask, torch.Generator())
    torch.testing.assert_close(negative, 255 - square.frame, atol=1, rtol=0)


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_clip_is_changed_as_one(scenes, inverse, shares):
    colours = RandomColours(shares, inverse, scenes)
    clip = torch.stack([scenes.square(i).frame for i in (0, 1, 0)])
    masks = torch.stack([scenes.square(i).mask for i in (0, 1, 0)])
    changed = colours.one(clip, masks, torch.Generator().manual_seed(3))
    assert changed.shape == clip.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, clip)
    assert torch.equal(changed[0], changed[2])
    whole = colours(
        clip[None].float() / 255, masks[None].float() / 255, [torch.Generator().manual_seed(3)]
    )
    torch.testing.assert_close(changed.float(), whole[0] * 255, atol=0.51, rtol=0)


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_mild_changes_are_smaller(scenes, inverse, shares):
    frames = torch.stack([scenes.square(i).frame for i in range(4)])[:, None].float() / 255
    masks = torch.stack([scenes.square(i).mask for i in range(4)])[:, None].float() / 255

    def change(mild):
        colours = RandomColours(shares, inverse, scenes, mild=mild)
        sources = [torch.Generator().manual_seed(i) for i in range(4)]
        return (colours(frames, masks, sources) - frames).square().mean()

    assert 0 < change(1.0) < 0.8 * change(0.0)

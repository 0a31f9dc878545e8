# SPDX-License-Identifier: Apache-2.0
"""Batches of photographs in motion: as `Dancing` has them, and the same wherever they are made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scenes import disc_scene

from vharm import ops
from vharm.data import DataError, motion
from vharm.data.augment import Cached
from vharm.data.dancing import flow_between, render_frames
from vharm.data.dancing_batches import DancingBatches, Draw
from vharm.data.motion import MotionRange
from vharm.data.random_colours import RandomColours

SIDE = 32


@pytest.fixture(scope="module")
def scenes():
    return Cached([disc_scene(i, SIDE) for i in range(8)], SIDE)


@pytest.fixture(scope="module")
def on_disk():
    """The same, too large for the memory they may take."""
    return Cached([disc_scene(i, SIDE) for i in range(8)], SIDE, most_bytes=1)


@pytest.mark.parametrize("frames", [2, 4])
def test_clips_are_what_dancing_renders(scenes, frames):
    """The same poses, nothing cropped: the same frames, flow and validity."""
    clips = DancingBatches(scenes, SIDE, None, frames=frames, seed=3, least_crop=1.0, flip=False)
    draws = [clips[(5, i)] for i in range(len(clips))]
    batch = clips.render(draws)
    assert batch.composite.shape == (len(draws), frames, 3, SIDE, SIDE)
    for number, draw in enumerate(draws):
        np.testing.assert_allclose(draw.view, np.eye(3), atol=1e-12)
        rendered = render_frames(draw.frame, draw.frame, draw.mask, draw.front, draw.behind)
        torch.testing.assert_close(batch.target[number] * 255, rendered.target, atol=0.02, rtol=0)
        torch.testing.assert_close(batch.masks[number], rendered.masks, atol=1e-4, rtol=0)
        flow, valid = flow_between(draw.front, draw.behind, rendered.masks)
        assert batch.flow[number].shape == flow.shape
        # Where float32 puts a soft pixel on the other side of a limit, both are right.
        same = (batch.valid[number] == valid) & (
            (batch.flow[number] - flow).abs().amax(1, keepdim=True) < 1e-3
        )
        assert (same.float().mean((1, 2, 3)) > 0.99).all()


@pytest.mark.parametrize("frames", [2, 4])
def test_flow_leads_to_the_same_thing_in_cropped_and_mirrored_clips(scenes, frames):
    clips = DancingBatches(scenes, 24, None, frames=frames, seed=1, least_crop=0.7)
    draws = [clips[(0, i)] for i in range(len(clips))]
    assert {np.sign(draw.view[0, 0]) for draw in draws} == {-1, 1}
    batch = clips.render(draws)
    before, now = (
        batch.target[:, part].flatten(0, 1) for part in (slice(None, -1), slice(1, None))
    )
    valid = batch.valid.flatten(0, 1)
    warped, inside = ops.flow_warp(before, batch.flow.flatten(0, 1), return_valid=True)
    assert bool((inside | ~valid).all())
    error = (warped - now).abs().amax(1, keepdim=True)
    assert valid.float().mean() > 0.5
    # Two bilinear samplings differ from one; the motion itself would make far larger errors, and
    # so would the opposite one.
    still = (before - now).abs().amax(1, keepdim=True)
    opposite = (ops.flow_warp(before, -batch.flow.flatten(0, 1)) - now).abs().amax(1, keepdim=True)
    assert error[valid].mean() < 0.3 * still[valid].mean()
    assert error[valid].mean() < 0.1 * opposite[valid].mean()
    assert torch.equal(batch.composite, batch.target)


def test_motion_is_a_share_of_the_frame_however_small_the_crop(scenes):
    limits = MotionRange(rotation=0, scale=(1, 1), shift=0.25, crop=(1, 1))
    clips = DancingBatches(scenes, 16, None, seed=1, limits=limits, least_crop=0.6, flip=False)
    draws = [clips[(epoch, i)] for epoch in range(8) for i in range(len(clips))]
    assert min(draw.view[0, 0] for draw in draws) < 0.7 * SIDE / 16
    far = clips.render(draws).flow.abs().amax()
    assert 0.2 * 16 < far <= 0.25 * 16 + 1e-4


def test_clips_follow_from_their_key_alone(scenes):
    colours = RandomColours((1.0, 0.0, 1.0), None, scenes)
    clips = DancingBatches(scenes, SIDE, colours, frames=3, seed=3)
    together = clips.render([clips[(2, i)] for i in (0, 1, 2)])
    alone = clips.render([clips[(2, 1)]])
    for name, tensor in vars(alone).items():
        torch.testing.assert_close(tensor[0], getattr(together, name)[1], msg=name)
    other = clips.render([clips[(3, 1)]])
    assert not torch.allclose(other.composite, alone.composite)


def test_scenes_on_disk_give_the_same_clips(scenes, on_disk):
    assert not on_disk.in_memory
    here, there = (DancingBatches(s, SIDE, None, seed=2) for s in (scenes, on_disk))
    first, second = (p.render([p[(1, i)] for i in range(3)]) for p in (here, there))
    assert torch.equal(first.composite, second.composite)


def test_recolouring_leaves_the_background_and_all_frames_alike(scenes):
    colours = RandomColours((1.0, 0.0, 0.0))
    clips = DancingBatches(scenes, SIDE, colours, frames=3, seed=0)
    batch = clips.render([clips[(0, i)] for i in range(len(clips))])
    outside = (batch.masks == 0).expand_as(batch.target)
    assert torch.equal(batch.composite[outside], batch.target[outside])
    change = (batch.composite - batch.target) * batch.masks
    mean = change.sum((3, 4)) / batch.masks.sum((3, 4))
    assert mean.abs().max() > 0.03
    for later in (1, 2):
        torch.testing.assert_close(mean[:, 0], mean[:, later], atol=0.02, rtol=0)


def test_a_draw_is_plain_data(scenes):
    clips = DancingBatches(scenes, SIDE, None)
    draw = clips[(0, 0)]
    assert [field.name for field in dataclasses.fields(Draw)] == list(vars(draw))
    assert draw.front.shape == draw.behind.shape == (2, 3, 3)
    np.testing.assert_allclose(
        motion.positions(draw.view, (2, 2))[0, 0], draw.view[:2, 2], atol=1e-12
    )
    longer = clips.draw((0, 0), 5)
    assert longer.front.shape == (5, 3, 3)
    # The same key goes from and to the same places.
    np.testing.assert_allclose(longer.front[[0, -1]], draw.front, atol=1e-12)


def test_bad_arguments(scenes):
    with pytest.raises(ValueError, match="frames: expected 2 or more, got 1"):
        DancingBatches(scenes, SIDE, None, frames=1)
    with pytest.raises(ValueError, match="frames: expected 2 or more, got 1"):
        DancingBatches(scenes, SIDE, None).draw((0, 0), 1)
    with pytest.raises(DataError, match="none of 8 scenes has a mask of 60% to 75%"):
        DancingBatches(scenes, SIDE, None, min_coverage=0.6)


def test_jitter_changes_the_answer_and_its_background_alike(scenes):
    plain, turned = (
        DancingBatches(scenes, SIDE, None, frames=3, seed=0, jitter=jitter) for jitter in (0, 1)
    )
    before, after = (clips.render([clips[(0, i)] for i in range(3)]) for clips in (plain, turned))
    assert torch.equal(after.composite, after.target)
    assert torch.equal(after.masks, before.masks)
    moved = (after.target - before.target).mean(2, keepdim=True)
    for where in (before.masks == 1, before.masks == 0):
        level = (moved * where).sum((2, 3, 4)) / where.sum((2, 3, 4))
        assert level.abs().max() > 0.02
        torch.testing.assert_close(level[:, 0], level[:, 2], atol=0.02, rtol=0)

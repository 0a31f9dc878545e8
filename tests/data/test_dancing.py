# SPDX-License-Identifier: Apache-2.0
"""Dancing: geometry, exact flow, and the same bits wherever it is read."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from data_sets import box_mask, smooth_picture

from vharm.data import Dancing, DataError, Sample, Scene
from vharm.data.dancing import flow_between
from vharm.data.motion import MotionRange, background_poses, foreground_poses, inside, positions
from vharm.ops import flow_warp

SIZE = (96, 128)


class Scenes:
    """Smooth pictures with a box, an ellipse, and a mask too small."""

    names = ("box", "ellipse", "small")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        mask = box_mask(SIZE, (30, 70, 40, 90))
        if index == 1:
            y, x = np.mgrid[: SIZE[0], : SIZE[1]]
            mask = (((y - 50) / 30) ** 2 + ((x - 60) / 35) ** 2 < 1).astype(np.uint8) * 255
        if index == 2:
            mask = box_mask(SIZE, (30, 40, 40, 50))
        picture = smooth_picture(index, SIZE).transpose(2, 0, 1)
        return Scene(self.names[index], torch.from_numpy(picture.copy())[None],
                     torch.from_numpy(mask)[None, None], "s")  # fmt: skip


def brighter(image, mask, generator):
    """A gain by chance."""
    gain = 0.6 + 0.8 * torch.rand(3, 1, 1, generator=generator)
    return (image.float() * gain).clamp(0, 255).to(torch.uint8)


def digest(sample: Sample) -> str:
    parts = (sample.composite, sample.masks, sample.target, sample.flow, sample.valid)
    return hashlib.sha256(b"".join(p.numpy().tobytes() for p in parts)).hexdigest()


@pytest.mark.parametrize("frames", [2, 5])
def test_a_sample(frames):
    data = Dancing(Scenes(), frames=frames, recolour=brighter)
    assert data.names == ("box", "ellipse")
    assert "2 dancing samples" in data.description
    sample = data[1]
    assert (sample.name, sample.subset) == ("ellipse", "s")
    for values, channels in ((sample.composite, 3), (sample.target, 3), (sample.masks, 1)):
        assert values.shape == (frames, channels, *SIZE)
        assert values.dtype == torch.uint8
    assert sample.flow.shape == (frames - 1, 2, *SIZE)
    assert sample.flow.dtype == torch.float32
    assert sample.valid.shape == (frames - 1, 1, *SIZE)
    outside = (sample.masks == 0).expand_as(sample.target)
    assert torch.equal(sample.composite[outside], sample.target[outside])
    core = (sample.masks == 255).expand_as(sample.target)
    assert (sample.composite[core].float() - sample.target[core]).abs().mean() > 5
    # Things do move, and not far from one frame to the next.
    lengths = sample.flow.norm(dim=1)
    assert 0.05 < lengths.mean() < 0.1 * SIZE[1]


@pytest.mark.parametrize("frames", [2, 4])
def test_flow_leads_to_the_same_thing(frames):
    """Frame t, warped by the flow, is frame t+1: foreground and background each by themselves."""
    data = Dancing(Scenes(), frames=frames, recolour=brighter, seed=5)
    for sample in (data[0], data[1]):
        for clip in (sample.target, sample.composite):
            warped = flow_warp(clip[:-1].float(), sample.flow)
            error = (warped - clip[1:].float()).abs().amax(dim=1, keepdim=True)
            front = sample.masks[1:] > 127
            for part in (sample.valid & front, sample.valid & ~front):
                assert part.float().mean() > 0.05
                # Two roundings to whole numbers, and bilinear over a smooth picture.
                assert error[part].mean() < 0.6
                assert torch.quantile(error[part], 0.99) < 2
            # The filled hole's rim is not smooth; the foreground is.
            assert error[sample.valid & front].max() < 2
            # Negative controls: no motion, and the opposite motion, fit clearly worse.
            for wrong in (torch.zeros_like(sample.flow), -sample.flow):
                off = (flow_warp(clip[:-1].float(), wrong) - clip[1:].float()).abs()
                assert off[sample.valid.expand_as(off)].mean() > 2 * error[sample.valid].mean()


def test_what_was_hidden_or_outside_is_not_valid():
    """A box moves 6 to the right over a still background."""
    still, moved = np.eye(3), np.eye(3)
    moved[0, 2] = 6
    masks = torch.zeros(2, 1, *SIZE)
    masks[0][:, 30:70, 40:90] = 1
    masks[1][:, 30:70, 46:96] = 1
    flow, valid = flow_between(np.stack([still, moved]), np.stack([still, still]), masks)
    assert (flow[0, 0, 30:70, 46:96] == -6).all()
    assert (flow[0, 0, :, :40] == 0).all()
    assert not valid[0, 0, 30:70, 40:46].any()  # was behind the box
    # The box itself, but for its last row and column: a warp there also looks past the edge.
    assert valid[0, 0, 30:69, 46:95].all()
    assert valid[0, 0, :29].all()
    # All moves: what comes in from the left was outside.
    flow, valid = flow_between(np.stack([still] * 2), np.stack([still, moved]), masks * 0)
    assert not valid[0, 0, :, :6].any()
    assert valid[0, 0, :, 6:].all()


def test_the_first_or_last_frame_is_the_photograph():
    data = Dancing(Scenes(), recolour=brighter, grow=0.0)
    ends = set()
    for epoch in range(8):
        data.set_epoch(epoch)
        sample, scene = data[0], Scenes()[0]
        inner = (scene.masks[0] == 255).expand(3, -1, -1)
        same = [bool(torch.equal(sample.target[t], scene.frames[0])) for t in (0, 1)]
        assert sum(same) == 1
        ends.add(same.index(True))
        assert inner.any()
    assert ends == {0, 1}


def test_same_seed_same_bits_in_another_process(request):
    data = Dancing(Scenes(), frames=3, recolour=brighter, seed=7, epoch=2)
    here = [digest(data[i]) for i in range(2)]
    assert [digest(data[i]) for i in (1, 0)] == here[::-1]
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import torch; torch.set_num_threads(1)\n"
        "from test_dancing import *\n"
        "data = Dancing(Scenes(), frames=3, recolour=brighter, seed=7, epoch=2)\n"
        "print(*[digest(data[i]) for i in range(2)])"
    )
    places = [str(request.path.parent), str(request.config.rootpath / "tests/support")]
    places.append(str(request.config.rootpath))
    done = subprocess.run([sys.executable, "-c", code, *places], capture_output=True, text=True)
    assert done.stdout.split() == here, done.stderr
    data.set_epoch(3)
    assert digest(data[0]) != here[0]
    assert digest(Dancing(Scenes(), frames=3, recolour=brighter, seed=8)[0]) != here[0]


def test_poses_stay_within_their_limits():
    limits = MotionRange()
    for seed in range(20):
        random = np.random.default_rng(seed)
        poses = foreground_poses(random, 6, SIZE, (60.0, 50.0), limits)
        assert np.array_equal(poses[0], np.eye(3))
        scale = np.sqrt(np.linalg.det(poses[-1, :2, :2]))
        assert 0.95 <= scale <= 1.05
        assert abs(np.degrees(np.arctan2(poses[-1, 1, 0], poses[-1, 0, 0]))) <= 5
        moved = poses[-1] @ (60.0, 50.0, 1) - (60.0, 50.0, 1)
        assert abs(moved[0]) <= 0.05 * SIZE[1]
        assert abs(moved[1]) <= 0.05 * SIZE[0]
        behind = background_poses(random, 6, SIZE, limits)
        assert np.allclose(behind[0], np.eye(3))
        for pose in behind:
            # Every crop lies in the picture; edges are half a pixel outside the centres.
            places = positions(np.linalg.inv(pose), SIZE)
            assert inside(np.clip(places, 0, None), SIZE).mean() > 0.97
            assert places.min() >= -0.5
            assert (places[-1, -1] <= np.array(SIZE[::-1]) - 0.5).all()
        # Smooth: steps differ little from one another.
        steps = np.diff(poses[:, :2, 2], axis=0)
        assert np.abs(np.diff(steps, axis=0)).max() < 0.5 * np.abs(steps).max() + 1e-9


def test_bad_arguments():
    for settings, told in (
        ({"frames": 1}, "frames: expected 2 or more"),
        ({"min_coverage": 0.9}, "min_coverage, max_coverage: expected"),
        ({"seed": -1}, "seed: expected"),
    ):
        with pytest.raises(ValueError, match=told):
            Dancing(Scenes(), recolour=brighter, **settings)
    with pytest.raises(DataError, match="none of 3 scenes has a mask of 60% to 75%"):
        Dancing(Scenes(), min_coverage=0.6)
    with pytest.raises(ValueError, match="crop: expected"):
        MotionRange(crop=(0.0, 1.0))
    with pytest.raises(ValueError, match="recolour: expected it to return uint8"):
        Dancing(Scenes(), recolour=lambda image, mask, g: image.float())[0]

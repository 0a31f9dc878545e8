# SPDX-License-Identifier: Apache-2.0
"""VHMAE as a method: weights, sizes, the Looks that come out."""

from __future__ import annotations

import pytest
import torch

from vharm import methods
from vharm.evaluation.grid import grid_energy
from vharm.looks import LutLook, ResidualLook
from vharm.methods import shipped
from vharm.methods.vhmae import VhmaeMethod, low_pass
from vharm.models.vhmae import Vhmae, VhmaeSize
from vharm.models.weights import WeightsError, save_weights

SMALL = VhmaeSize(16, 1, 2, 16, 1, 2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def saved(path, **settings):
    """Untrained, but for what it paints: another grey in every second column of each patch."""
    torch.manual_seed(0)
    network = Vhmae(SMALL, patch=8, input_size=64, paints="change", **settings)
    with torch.no_grad():
        network.paint.bias.copy_(torch.tensor([0.1, 0.0, -0.1]).repeat(64))
        network.paint.bias[:24] += 0.1  # each patch's first row is lighter: a grid
    save_weights(path, network, architecture="vhmae", config=network.settings())
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("weights") / "vhmae.safetensors")


def scene():
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(2, 3, 40, 64, generator=generator) * 0.6 + 0.2
    masks = torch.zeros(2, 1, 40, 64)
    masks[0, :, 8:36, 8:52] = 1  # the second frame has no foreground
    return frames, masks


def test_without_weights_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert "weights" in VhmaeMethod.why_not()
    with pytest.raises(WeightsError, match=r"--weights FILE.*weights=.*mkl, reinhard"):
        methods.get("vhmae")


def test_the_default_look_is_a_lut(weights):
    frames, masks = scene()
    look, unchanged = methods.get("vhmae", weights=weights).estimate(frames, masks)
    assert isinstance(look, LutLook)
    change = (look.apply(frames[:1], masks[:1]) - frames[:1])[0].flatten(1)
    inside = masks[0, 0].flatten().bool()
    mean = change[:, inside].mean(1)
    torch.testing.assert_close(mean, torch.tensor([0.11, 0.01, -0.09]), atol=0.02, rtol=0)
    assert (change[:, ~inside] == 0).all()
    torch.testing.assert_close(unchanged.apply(frames), frames, atol=1e-5, rtol=0)


def test_raw_is_the_networks_own_picture_and_residual_its_smooth_part(weights):
    frames, masks = scene()
    one, inside = frames[:1], masks[:1].bool().expand(1, 3, -1, -1)
    painted = methods.get("vhmae", weights=weights).render(one, masks[:1])
    shown = {}
    for name in ("raw", "residual"):
        looks = methods.get("vhmae", weights=weights, look=name).estimate(frames, masks)
        assert all(isinstance(look, ResidualLook) for look in looks)
        shown[name] = looks[0].apply(one, masks[:1])
        assert torch.equal(shown[name][~inside], one[~inside])
        assert torch.equal(looks[1].apply(frames[1:]), frames[1:])
    torch.testing.assert_close(shown["raw"][inside], painted[inside])
    grid = {
        name: float(grid_energy(picture - one, masks[:1], patch=8).ratio())
        for name, picture in shown.items()
    }
    assert grid["raw"] > 5
    # The steps that are left are those of rounding and of the rim.
    assert grid["residual"] < 2
    change = (shown["residual"] - one)[inside]
    assert (change - (shown["raw"] - one)[inside]).abs().mean() < 0.06


def test_working_size_keeps_the_aspect_in_whole_patches(weights):
    method = methods.get("vhmae", weights=weights)
    assert method.working_size(1080, 1920) == (40, 64)
    assert method.working_size(1920, 1080) == (64, 40)
    assert method.working_size(30, 30) == (32, 32)
    assert method.working_size(3, 4000) == (8, 64)
    larger = methods.get("vhmae", weights=weights, side=128)
    assert larger.working_size(1080, 1920) == (72, 128)
    assert larger.render(torch.rand(1, 3, 72, 128), torch.ones(1, 1, 72, 128)).isfinite().all()
    with pytest.raises(ValueError, match="side: expected 8 or more pixels, got 4"):
        methods.get("vhmae", weights=weights, side=4)
    with pytest.raises(ValueError, match="height must be positive"):
        method.working_size(0, 4)


def test_frames_of_no_whole_patches_are_painted_too(weights):
    method = methods.get("vhmae", weights=weights)
    frames, masks = scene()
    odd = method.render(frames[:1, :, :37, :61], masks[:1, :, :37, :61])
    assert odd.shape == (1, 3, 37, 61)
    assert odd.isfinite().all()
    # Patches that the padding does not touch are masked, embedded and painted as they were.
    assert (odd - frames[:1, :, :37, :61]).abs().mean() > 0.02


def test_a_network_of_longer_windows_sees_the_frame_repeated(tmp_path):
    frames, masks = scene()
    long = methods.get("vhmae", weights=saved(tmp_path / "long.safetensors", windows=(4,)))
    both = methods.get("vhmae", weights=saved(tmp_path / "both.safetensors", windows=(4, 1)))
    repeated = frames[:1].repeat(4, 1, 1, 1), masks[:1].repeat(4, 1, 1, 1)
    with torch.no_grad():
        expected = long.network(*repeated, frames_per_clip=4).image[1:2].clamp(0, 1)
    torch.testing.assert_close(long.render(frames[:1], masks[:1]), expected)
    assert not torch.equal(both.render(frames[:1], masks[:1]), expected)


def test_a_whole_frame_of_foreground_is_left_as_it_is(weights):
    frames, masks = scene()
    looks = methods.get("vhmae", weights=weights).estimate(frames, torch.ones_like(masks))
    torch.testing.assert_close(looks[0].apply(frames), frames, atol=1e-5, rtol=0)


def test_low_pass_keeps_a_constant_up_to_the_rim():
    _, masks = scene()
    change = torch.full((2, 3, 40, 64), 0.25) * masks
    smooth = low_pass(change, masks, 4.0)
    inside = masks.bool().expand_as(smooth)
    torch.testing.assert_close(smooth[inside], change[inside])
    assert (smooth[1] == 0).all()
    assert smooth[0, 0, 6, 30] == pytest.approx(0.25)  # just outside
    rough = change * (torch.arange(64) % 2)
    assert low_pass(rough, masks, 4.0)[0, :, 20, 20:40].std() < 0.01


@pytest.mark.parametrize("look", ["pixels", ""])
def test_an_unknown_look_is_refused(weights, look):
    with pytest.raises(ValueError, match="look: expected one of lut, residual, raw"):
        methods.get("vhmae", weights=weights, look=look)

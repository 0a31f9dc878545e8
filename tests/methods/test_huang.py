# SPDX-License-Identifier: Apache-2.0
"""Huang et al. as a method: weights, what the networks see, the Looks, the map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vharm
from vharm import methods
from vharm.looks import LutLook, ResidualLook
from vharm.methods import shipped
from vharm.models import Huang, WeightsError, save_weights

torch.set_num_threads(1)
SMALL = {"width": 4, "widest": 8, "depth": 3}


def written(path, discriminator=True):
    """An untrained pair of networks; the discriminator says red minus blue."""
    torch.manual_seed(0)
    whole = Huang({"residual": True, **SMALL}, SMALL if discriminator else None, input_size=32)
    with torch.no_grad():
        whole.generator.unet.last.bias.copy_(torch.tensor([-0.5, 0.0, 0.5]))
        if discriminator:
            last = whole.discriminator.unet.last
            last.weight.zero_()
            last.bias.fill_(0.5)
            # The input's channels come after those of the network's own.
            last.weight[0, -3, 1, 1], last.weight[0, -1, 1, 1] = 0.5, -0.5
    save_weights(path, whole, architecture="huang", config=whole.settings())
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return written(tmp_path_factory.mktemp("weights") / "huang.safetensors")


def sample():
    generator = torch.Generator().manual_seed(1)
    frames, masks = torch.rand(2, 3, 32, 32, generator=generator), torch.zeros(2, 1, 32, 32)
    masks[0, :, 8:24, 8:24] = 1
    return frames, masks


def test_without_weights_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert "weights" in methods.HuangMethod.why_not()
    with pytest.raises(WeightsError, match=r"--weights FILE.*weights=.*mkl, reinhard"):
        methods.get("huang")
    written(tmp_path / "huang.safetensors")
    assert methods.HuangMethod.why_not() is None
    assert methods.get("huang").predicts_masks


def test_looks_follow_what_the_generator_paints(weights):
    frames, masks = sample()
    made = methods.get("huang", weights=weights, look="residual")
    look, empty = made.estimate(frames, masks)
    assert isinstance(look, ResidualLook)
    with torch.no_grad():
        painted = made.networks.generator(frames * 2 - 1, masks) / 2 + 0.5
    inside = masks[:1].bool().expand(1, 3, -1, -1)
    out = look.apply(frames[:1], masks[:1])
    torch.testing.assert_close(out[inside], painted[:1][inside], atol=1e-5, rtol=0)
    assert (painted[:1, 0] < frames[:1, 0])[masks[:1, 0] > 0].all()
    torch.testing.assert_close(empty.apply(frames), frames)
    assert isinstance(methods.get("huang", weights=weights).estimate(frames, masks)[0], LutLook)
    with pytest.raises(ValueError, match="look: expected"):
        methods.get("huang", weights=weights, look="paint")


def test_working_size_is_the_networks_own(weights):
    assert methods.get("huang", weights=weights).working_size(1080, 1920) == (32, 32)


def test_the_map_is_the_discriminators(weights):
    frames, _ = sample()
    found = methods.get("huang", weights=weights).predict_masks(frames)
    assert found.shape == (2, 1, 32, 32)
    expected = (0.5 + frames[:, :1] - frames[:, 2:]).clamp(0, 1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert not found.requires_grad


def test_a_generator_alone_needs_masks(tmp_path):
    made = methods.get("huang", weights=written(tmp_path / "g.safetensors", discriminator=False))
    assert not made.predicts_masks
    frames, masks = sample()
    with pytest.raises(ValueError, match="'huang' cannot find the foreground"):
        made.predict_masks(frames)
    picture = frames[0].permute(1, 2, 0).numpy()
    with pytest.raises(ValueError, match="masks: none were given"):
        vharm.harmonize(picture, None, made, verbose=False)
    with pytest.raises(ValueError, match="cannot find the foreground"):
        methods.get("mkl").predict_masks(frames)
    assert len(made.estimate(frames, masks)) == 2


def test_a_picture_without_a_mask_by_name(weights):
    frame = np.full((40, 60, 3), 40, np.uint8)
    frame[..., 2] = 200
    frame[10:30, 20:40] = (230, 120, 20)
    out = vharm.harmonize(frame, method="huang", weights=weights, verbose=False)
    changed = (out != frame).any(-1)
    inside = np.zeros((40, 60), bool)
    inside[10:30, 20:40] = True
    assert changed[12:28, 22:38].all()
    assert not changed[:6].any()
    assert (changed & inside).sum() > 0.9 * changed.sum()

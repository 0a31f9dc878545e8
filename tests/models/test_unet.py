# SPDX-License-Identifier: Apache-2.0
"""The U-Net and the two networks made of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vharm.models import Discriminator, Generator, Huang, UNet, WeightsError, save_weights

torch.set_num_threads(1)
SMALL = {"width": 4, "widest": 8, "depth": 3}


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_levels_are_those_of_the_specification():
    network = UNet(4, 3)
    channels = [down.conv.out_channels for down in network.down]
    assert channels == [32, 64, 128, 256, 256, 256]
    assert all(down.conv.kernel_size == (4, 4) for down in network.down)
    assert all(down.conv.stride == (2, 2) for down in network.down)
    normed = [isinstance(down.norm, nn.InstanceNorm2d) for down in network.down]
    assert normed == [False, True, True, True, True, False]
    assert [up.conv.out_channels for up in network.up] == [256, 256, 128, 64, 32]
    assert all(up.conv.kernel_size == (3, 3) for up in network.up)


@pytest.mark.parametrize("size", [(1, 1), (7, 8), (8, 7), (17, 40), (64, 64)])
@pytest.mark.parametrize(
    ("input_skip", "norm"), [(True, "instance"), (False, "batch"), (True, "none")]
)
def test_any_size(size, input_skip, norm):
    network = UNet(2, 5, **SMALL, input_skip=input_skip, norm=norm).eval()
    assert network(torch.rand(2, 2, *size)).shape == (2, 5, *size)


def test_padding_does_not_reach_a_picture_that_needs_none():
    torch.manual_seed(0)
    network = UNet(3, 1, **SMALL).eval()
    picture = torch.rand(1, 3, 16, 16)
    wide = torch.cat((picture, picture[..., -1:]), 3)
    # Bigger than a multiple of 8: continued by its last column up to 24, as done by hand here.
    by_hand = torch.cat((picture, picture[..., -1:].expand(-1, -1, -1, 8)), 3)
    torch.testing.assert_close(network(wide), network(by_hand)[..., :17])


def test_every_parameter_learns_and_far_pixels_are_seen():
    torch.manual_seed(0)
    network = UNet(3, 1, **SMALL)
    picture = torch.rand(1, 3, 32, 32, requires_grad=True)
    network(picture)[0, 0, 0, 0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert picture.grad[0, :, 31, 31].abs().sum() > 0


def test_pictures_of_a_batch_do_not_see_each_other():
    torch.manual_seed(0)
    network = UNet(3, 1, **SMALL)
    pictures = torch.rand(3, 3, 24, 24)
    alone = torch.cat([network(p[None]) for p in pictures])
    torch.testing.assert_close(network(pictures), alone)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"width": 0}, "width"), ({"depth": 0}, "depth"), ({"width": 8, "widest": 4}, "widest")],
)
def test_impossible_sizes_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        UNet(3, 1, **options)
    with pytest.raises(ValueError, match=r"x: expected \[B,3,H,W\], got \[1, 2, 8, 8\]"):
        UNet(3, 1, **SMALL)(torch.rand(1, 2, 8, 8))
    with pytest.raises(TypeError, match=r"x: expected a floating-point tensor, got torch\.uint8"):
        UNet(3, 1, **SMALL)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_generator_stays_in_range_and_residual_starts_at_unchanged():
    torch.manual_seed(0)
    composite, mask = torch.rand(2, 3, 16, 16) * 2 - 1, torch.ones(2, 1, 16, 16)
    errors = {}
    for residual in (False, True):
        out = Generator(residual=residual, **SMALL)(composite, mask)
        assert out.abs().max() <= 1
        errors[residual] = float((out - composite).detach().square().mean())
    assert errors[True] < 0.05 < errors[False]
    with pytest.raises(ValueError, match="mask: expected"):
        Generator(**SMALL)(composite, mask[:1])


def test_the_mask_matters():
    torch.manual_seed(0)
    generator = Generator(**SMALL)
    composite = torch.rand(1, 3, 16, 16) * 2 - 1
    mask = torch.zeros(1, 1, 16, 16)
    assert not torch.allclose(generator(composite, mask), generator(composite, 1 - mask))


def test_one_file_for_both_and_what_it_weighs(tmp_path):
    torch.manual_seed(0)
    sizes = {"width": 16, "widest": 192, "depth": 6}
    whole = Huang(sizes, sizes, input_size=128)
    assert parameters(whole) == 4_256_155
    path = tmp_path / "huang.safetensors"
    save_weights(path, whole, architecture="huang", config=whole.settings())
    assert path.stat().st_size < 12e6
    again = Huang.from_weights(path)
    assert again.settings() == whole.settings()
    assert not again.training
    picture = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(
        again.discriminator(picture), whole.discriminator(picture), atol=0.02, rtol=0.02
    )


def test_a_generator_alone_and_a_damaged_header(tmp_path):
    alone = Huang.of(Generator(**SMALL), None, 64)
    path = tmp_path / "huang.safetensors"
    save_weights(path, alone, architecture="huang", config=alone.settings())
    assert Huang.from_weights(path).discriminator is None
    bad = {**alone.settings(), "generator": {"width": -1}}
    save_weights(path, alone, architecture="huang", config=bad)
    with pytest.raises(WeightsError, match="bad configuration"):
        Huang.from_weights(path)
    assert Discriminator(**SMALL).settings() == {**SMALL, "input_skip": True, "norm": "instance"}

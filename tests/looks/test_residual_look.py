# SPDX-License-Identifier: Apache-2.0
"""Residual Looks: up-sampling, clamping, masks of every dtype."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from vharm.looks import FilterLook, Look, ResidualLook

torch.manual_seed(0)
SMALL = (torch.rand(3, 4, 5) - 0.5) * 0.6


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_float_frames_get_the_upsampled_residual_unclamped(layout):
    image, mask = torch.rand(2, 3, 8, 10), torch.rand(2, 1, 8, 10)
    mask[..., :3] = 0
    added = F.interpolate(SMALL[None], (8, 10), mode="bilinear", align_corners=False)
    expected = image + 0.5 * mask * added
    given = ResidualLook(SMALL, strength=0.5)
    if layout == "NHWC":
        out = given.apply(image.permute(0, 2, 3, 1), mask.permute(0, 2, 3, 1), layout="NHWC")
        out = out.permute(0, 3, 1, 2)
    else:
        out = given.apply(image, mask)
    torch.testing.assert_close(out, expected)
    assert torch.equal(out[..., :3], image[..., :3])
    bright = ResidualLook(torch.full((3, 1, 1), 0.5)).apply(torch.ones(1, 3, 2, 2))
    assert bright.max() == pytest.approx(1.5)


@pytest.mark.parametrize(("dtype", "full"), [(torch.uint8, 255), (torch.uint16, 65535)])
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.uint8, torch.uint16, torch.float32])
def test_integer_frames_are_rounded_and_clamped(dtype, full, mask_dtype):
    image = torch.randint(0, full + 1, (1, 3, 8, 10)).to(dtype)
    on = torch.rand(1, 1, 8, 10) > 0.5
    white = {torch.bool: 1, torch.uint8: 255, torch.uint16: 65535, torch.float32: 1}[mask_dtype]
    mask = (on.int() * white).to(mask_dtype)
    out = ResidualLook(SMALL).apply(image, mask)
    added = F.interpolate(SMALL[None], (8, 10), mode="bilinear", align_corners=False)
    expected = (image.float() + on * added * full).clamp(0, full).round()
    assert out.dtype == dtype
    assert (out.float() - expected).abs().max() <= 1
    outside = ~on.expand(1, 3, -1, -1)
    assert torch.equal(out.float()[outside], image.float()[outside])
    assert (expected == 0).any()
    assert (expected == full).any()


def test_nan_outside_the_mask_is_left_alone():
    image = torch.rand(1, 3, 4, 4)
    image[..., 0, 0] = torch.nan
    mask = torch.ones(1, 1, 4, 4)
    mask[..., 0, 0] = 0
    out = ResidualLook(SMALL).apply(image, mask)
    assert out[..., 0, 0].isnan().all()
    assert not out[..., 1:, :].isnan().any()


def test_strength_zero_leaves_the_picture():
    image = torch.randint(0, 256, (1, 3, 6, 6), dtype=torch.uint8)
    assert torch.equal(ResidualLook(SMALL, strength=0.0).apply(image), image)


def test_blend_takes_the_larger_size_and_the_strengths():
    other = ResidualLook(torch.rand(3, 8, 3), strength=0.5)
    mixed = ResidualLook(SMALL).blend(other, 0.5)
    assert mixed.image.shape == (3, 8, 5)
    same = ResidualLook(SMALL).blend(ResidualLook(SMALL * 3), 0.5)
    torch.testing.assert_close(same.image, SMALL * 2)
    weak = ResidualLook(SMALL).blend(ResidualLook(SMALL, strength=0.0), 0.5)
    torch.testing.assert_close(weak.image * weak.strength, SMALL / 2)


def test_it_is_no_colour_map():
    with pytest.raises(ValueError, match="no colour map"):
        ResidualLook(SMALL).to_lut()
    with pytest.raises(ValueError, match="no colour map"):
        ResidualLook(SMALL).blend(FilterLook.identity(), 0.5)


def test_json_round_trip():
    back = Look.from_dict(json.loads(json.dumps(ResidualLook(SMALL, strength=0.5).to_dict())))
    assert isinstance(back, ResidualLook)
    assert torch.equal(back.image, SMALL)
    assert back.strength == 0.5


def test_constructor_refuses_by_name():
    with pytest.raises(ValueError, match=r"image must have shape \[3, h, w\], got \[1, 4, 5\]"):
        ResidualLook(SMALL[:1])
    with pytest.raises(TypeError, match="image must be a tensor"):
        ResidualLook("x")
    with pytest.raises(ValueError, match="finite"):
        ResidualLook(SMALL / 0)

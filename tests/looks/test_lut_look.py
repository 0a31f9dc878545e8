# SPDX-License-Identifier: Apache-2.0
"""LUT Looks: identity, domain, strength, blending, JSON."""

from __future__ import annotations

import json

import pytest
import torch

from vharm.looks import Look, LutLook
from vharm.looks.lut_look import identity_grid

torch.manual_seed(0)


def curved(size: int = 17, power: float = 1.5, **options) -> LutLook:
    return LutLook(identity_grid(size) ** power, **options)


def test_grid_is_indexed_red_green_blue():
    grid = identity_grid(5)
    assert grid[4, 0, 0].tolist() == [1, 0, 0]
    assert grid[0, 0, 4].tolist() == [0, 0, 1]


@pytest.mark.parametrize("size", [2, 17, 33])
def test_identity_leaves_every_byte(size):
    levels = torch.arange(256, dtype=torch.uint8)
    image = torch.stack([levels, levels.flip(0), levels.roll(77)])[None, :, None]
    assert torch.equal(LutLook.identity(size).apply(image), image)


def test_pixels_outside_the_mask_and_strength_zero_stay():
    image = torch.randint(0, 256, (1, 3, 9, 9), dtype=torch.uint8)
    mask = torch.zeros(1, 1, 9, 9)
    mask[..., 3:6, 3:6] = 1
    out = curved().apply(image, mask)
    inside = mask.bool().expand_as(image)
    assert torch.equal(out[~inside], image[~inside])
    assert not torch.equal(out[inside], image[inside])
    assert torch.equal(curved(strength=0.0).apply(image), image)


def test_strength_is_linear_and_baked_in():
    image = torch.rand(1, 3, 16, 16)
    full, half = curved().apply(image), curved(strength=0.5).apply(image)
    torch.testing.assert_close(half, (image + full) / 2, atol=1e-6, rtol=0)
    baked = curved(strength=0.5).to_lut(17)
    assert baked.strength == 1.0
    torch.testing.assert_close(baked.apply(image), half, atol=1e-6, rtol=0)


def test_full_strength_keeps_the_table_bit_for_bit():
    given = LutLook(torch.rand(9, 9, 9, 3))
    assert torch.equal(given.to_lut(9).grid, given.grid)


def test_resampling_to_a_multiple_changes_nothing():
    given = LutLook(torch.rand(5, 5, 5, 3))
    image = torch.rand(1, 3, 20, 20)
    finer = given.to_lut(17)
    assert finer.size == 17
    torch.testing.assert_close(finer.apply(image), given.apply(image), atol=1e-5, rtol=0)


def test_values_beyond_one_reach_float_frames_and_are_clamped_for_bytes():
    given = LutLook(identity_grid(5) * 1.5)
    assert given.apply(torch.ones(1, 3, 1, 1)).max() == pytest.approx(1.5)
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert given.apply(white).max() == 255


def test_domain_of_float_frames():
    low, high = (0.0, -1.0, 0.0), (4.0, 1.0, 2.0)
    grid = identity_grid(5, domain_min=low, domain_max=high) * 0.5
    given = LutLook(grid, domain_min=low, domain_max=high)
    image = torch.tensor([3.3, -0.7, 1.1]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(given.apply(image), image * 0.5)
    torch.testing.assert_close(
        given.apply(image.permute(0, 2, 3, 1), layout="NHWC").flatten(), image.flatten() * 0.5
    )
    half = given.with_strength(0.5).apply(image, torch.ones(1, 1, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(half, image * 0.75)
    empty = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    assert torch.equal(given.apply(image, empty), image)


def test_domain_of_bytes_is_the_same_map():
    given = LutLook(torch.rand(5, 5, 5, 3), domain_min=(0, 0, 0), domain_max=(2, 2, 2))
    image = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    exact = given.apply(image.float() / 255) * 255
    assert (given.apply(image).float() - exact).abs().max() <= 0.51
    assert given.on_unit_domain().unit_domain
    baked = given.with_strength(0.5).to_lut(5)
    assert baked.domain_max == (2, 2, 2)


def test_blend_of_equal_and_unequal_sizes():
    image = torch.rand(1, 3, 12, 12)
    first, second = curved(9, 1.5), curved(17, 0.7, strength=0.5)
    mixed = first.blend(second, 0.25)
    expected = torch.lerp(first.apply(image), second.apply(image), 0.25)
    torch.testing.assert_close(mixed.apply(image), expected, atol=1e-5, rtol=0)
    same = first.blend(curved(9, 2.0), 0.5)
    torch.testing.assert_close(same.grid, (identity_grid(9) ** 1.5 + identity_grid(9) ** 2.0) / 2)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_json_round_trip(dtype):
    given = LutLook(
        torch.rand(4, 4, 4, 3) * 1.2 - 0.1, "dusk", (0, 0, 0), (2, 2, 2), strength=0.5
    )  # fmt: skip
    back = Look.from_dict(json.loads(json.dumps(given.to_dict(dtype=dtype))))
    assert (back.title, back.domain_max, back.strength) == ("dusk", (2, 2, 2), 0.5)
    if dtype == "float32":
        assert torch.equal(back.grid, given.grid)
    else:
        torch.testing.assert_close(back.grid, given.grid, atol=2.0**-11, rtol=0)


def test_a_grid_of_nested_lists_is_read():
    data = {"kind": "lut", "grid": identity_grid(2).tolist()}
    assert torch.equal(Look.from_dict(data).grid, identity_grid(2))


PACKED = {"shape": [2, 2, 2, 3], "dtype": "float32", "base64": "AAAA"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "lut"}, "'grid' is missing"),
        ({"kind": "lut", "grid": "x"}, "grid must be nested lists"),
        ({"kind": "lut", "grid": [[1.0]]}, r"grid must have shape \[S, S, S, 3\]"),
        ({"kind": "lut", "grid": PACKED}, "3 bytes, but shape .* needs 96"),
        ({"kind": "lut", "grid": PACKED | {"base64": "?"}}, "base64 is damaged"),
        ({"kind": "lut", "grid": PACKED | {"dtype": "int8"}}, "dtype must be one of"),
        ({"kind": "lut", "grid": {"shape": [2]}}, "'dtype' is missing"),
        (
            {"kind": "lut", "grid": identity_grid(2).tolist(), "domain_min": [1, 1, 1]},
            "domain_min must lie below domain_max",
        ),
    ],
)
def test_nonsense_is_refused_by_name(data, message):
    with pytest.raises(ValueError, match=message):
        Look.from_dict(data)


def test_constructor_refuses_by_name():
    with pytest.raises(TypeError, match="grid must be a tensor"):
        LutLook([1.0])
    with pytest.raises(ValueError, match=r"grid must have shape .* got \[4, 4, 3\]"):
        LutLook(torch.zeros(4, 4, 3))
    with pytest.raises(ValueError, match="grid must be finite"):
        LutLook(torch.full((2, 2, 2, 3), torch.inf))
    with pytest.raises(ValueError, match=r"size must be in 2\.\.129, got 1"):
        curved().to_lut(1)

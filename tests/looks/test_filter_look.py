# SPDX-License-Identifier: Apache-2.0
"""Filter Looks: applying, editing by hand, blending."""

from __future__ import annotations

import json

import pytest
import torch

from vharm import ops
from vharm.looks import FilterLook, Look, LutLook

torch.manual_seed(0)
ARGUMENTS = torch.tensor([0.1, -0.2, 0.3, 0.2, -0.1, 0.15])


def look(scale: float = 1.0, **options) -> FilterLook:
    statistics = torch.zeros(6, 3)
    statistics[0] = torch.tensor([0.4, 0.5, 0.6])
    statistics[2] = torch.tensor([0.5, 0.5, 0.45])
    return FilterLook(ARGUMENTS * scale, statistics, **options)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_apply_is_the_chain_with_the_looks_own_statistics(dtype, layout):
    shape = (2, 3, 9, 11) if layout == "NCHW" else (2, 9, 11, 3)
    full = 255 if dtype == torch.uint8 else 1
    image = (torch.rand(shape) * full).to(dtype)
    mask = torch.rand((2, 1, 9, 11) if layout == "NCHW" else (2, 9, 11, 1))
    mask[mask < 0.4] = 0
    given = look(strength=0.7)
    out = given.apply(image, mask, layout=layout)
    expected = ops.filter_chain(
        image, mask, given.arguments.repeat(2, 1), statistics=given.statistics.repeat(2, 1, 1),
        strength=0.7, layout=layout,
    )  # fmt: skip
    assert out.dtype == dtype
    assert torch.equal(out, expected)
    untouched = (mask == 0).expand(shape)
    assert torch.equal(out[untouched], image[untouched])
    assert not torch.equal(out, image)


def test_the_change_does_not_depend_on_the_frame():
    """A pixel of one colour comes out alike in a dark and in a bright frame: no pumping."""
    dark, bright = torch.full((1, 3, 4, 4), 0.1), torch.full((1, 3, 4, 4), 0.9)
    dark[..., 0, 0] = bright[..., 0, 0] = 0.4
    given = look()
    assert torch.equal(given.apply(dark)[..., 0, 0], given.apply(bright)[..., 0, 0])
    chained = [ops.filter_chain(f, None, ARGUMENTS[None]) for f in (dark, bright)]
    assert not torch.allclose(chained[0][..., 0, 0], chained[1][..., 0, 0], atol=1e-3)


def test_strength_zero_and_identity_leave_the_picture():
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(look(strength=0.0).apply(image), image)
    assert torch.equal(FilterLook.identity().apply(image), image)
    assert look().with_strength(0.25).strength == 0.25


def test_json_round_trip():
    given = look(strength=0.5)
    text = json.dumps(given.to_dict())
    assert text.index("temperature") < text.index("shadow")
    back = Look.from_dict(json.loads(text))
    assert isinstance(back, FilterLook)
    assert back.filters == given.filters
    assert back.strength == 0.5
    torch.testing.assert_close(back.arguments, given.arguments, atol=1e-6, rtol=0)
    torch.testing.assert_close(back.statistics, given.statistics, atol=1e-6, rtol=0)


def test_json_of_repeated_filters_and_quantized_contrast():
    given = FilterLook(
        torch.tensor([0.2, -0.1]), torch.rand(2, 3), ("contrast", "contrast"), True
    )  # fmt: skip
    back = Look.from_dict(json.loads(json.dumps(given.to_dict())))
    assert back.filters == ("contrast", "contrast")
    assert back.quantized_contrast
    torch.testing.assert_close(back.statistics, given.statistics, atol=1e-6, rtol=0)


def test_arguments_are_kept_unclamped_and_saved_clamped():
    given = look(scale=10.0)
    assert given.arguments.max() > 1
    assert max(given.to_dict()["filters"].values()) == 1.0
    assert min(given.to_dict()["filters"].values()) == -1.0
    half = given.blend(look(scale=-10.0), 0.5)
    torch.testing.assert_close(half.arguments, torch.zeros(6), atol=1e-6, rtol=0)


def test_a_hand_written_look_needs_only_what_it_uses():
    given = Look.from_dict({"kind": "filter", "filters": {"shadow": 0.2, "brightness": -0.1}})
    assert given.filters == ("shadow", "brightness")
    assert given.strength == 1.0


FILTER = {"kind": "filter", "filters": {"brightness": 0.1}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"filters": {}}, "'kind' is missing"),
        ({"kind": "fliter", "filters": {}}, "kind must be one of .*'fliter'.*mean 'filter'"),
        ({"kind": "filter"}, "'filters' is missing"),
        ({"kind": "filter", "filters": {"brigtness": 0}}, "'brigtness'.*mean 'brightness'"),
        ({"kind": "filter", "filters": {"brightness": 1.5}}, r"brightness must be in \[-1, 1\]"),
        ({"kind": "filter", "filters": {"brightness": float("nan")}}, "brightness.*nan"),
        ({"kind": "filter", "filters": {"brightness": "much"}}, "brightness must be a number"),
        ({"kind": "filter", "filters": {"brightness": True}}, "brightness must be a number"),
        ({"kind": "filter", "filters": {"contrast": 0.1}}, "statistics.*'contrast' is missing"),
        ({"kind": "filter", "filters": 3}, "filters must be an object"),
        (FILTER | {"strength": 2}, r"strength must be in \[0, 1\]"),
        (FILTER | {"strenght": 1}, "unknown key 'strenght'.*mean 'strength'"),
        (FILTER | {"statistics": {"contrast": [0, 0, 0]}}, "'contrast' is not among"),
        (FILTER | {"statistics": [[0, 0]]}, "three numbers"),
        (FILTER | {"quantized_contrast": 1}, "quantized_contrast must be true or false"),
    ],
)
def test_nonsense_is_refused_by_name(data, message):
    with pytest.raises(ValueError, match=message):
        Look.from_dict(data)


def test_constructor_refuses_by_name():
    with pytest.raises(TypeError, match="arguments must be a tensor, got list"):
        FilterLook([0.0] * 6, torch.zeros(6, 3))
    with pytest.raises(ValueError, match=r"statistics must have shape \[6, 3\].*got \[6\]"):
        FilterLook(torch.zeros(6), torch.zeros(6))
    with pytest.raises(ValueError, match="arguments must be finite"):
        FilterLook(torch.full((6,), torch.nan), torch.zeros(6, 3))
    with pytest.raises(ValueError, match="strength must be in"):
        look(strength=-0.1)


def test_subclasses_read_only_their_own_kind():
    with pytest.raises(ValueError, match="kind must be one of lut"):
        LutLook.from_dict(FILTER)


def test_to_lut_agrees_with_the_chain():
    given = look(strength=0.8)
    lut = given.to_lut()
    assert lut.strength == 1.0
    image = torch.rand(1, 3, 32, 32)
    # Between nodes the shadow's power curve is steepest near black: measured 0.0104 of full scale.
    difference = (lut.apply(image) - given.apply(image)).abs()
    assert difference.max() < 0.015
    finer = (given.to_lut(97).apply(image) - given.apply(image)).abs()
    assert finer.mean() < 0.4 * difference.mean()
    plain = given.with_strength(1.0).to_lut().apply(image)
    assert (plain - given.apply(image)).abs().max() > 0.02  # the strength is baked in


def test_blend_interpolates_parameters_or_goes_through_luts():
    first, second = look(strength=1.0), look(scale=3.0, strength=0.5)
    mixed = first.blend(second, 0.25)
    assert isinstance(mixed, FilterLook)
    torch.testing.assert_close(mixed.arguments, ARGUMENTS * 1.5)
    assert mixed.strength == pytest.approx(0.875)
    assert torch.equal(first.blend(second, 0.0).arguments, first.arguments)
    other = FilterLook(torch.tensor([0.3]), torch.zeros(1, 3), ("hue",))
    through = first.blend(other, 0.5)
    assert isinstance(through, LutLook)
    expected = (first.to_lut().grid + other.to_lut().grid) / 2
    torch.testing.assert_close(through.grid, expected)
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\]"):
        first.blend(second, 1.5)
    with pytest.raises(TypeError, match="other must be a Look"):
        first.blend("second", 0.5)


def test_looks_are_immutable():
    with pytest.raises(AttributeError):
        look().strength = 0.1

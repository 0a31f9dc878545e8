# SPDX-License-Identifier: Apache-2.0
"""Networks that paint, by way of Looks."""

from __future__ import annotations

import pytest
import torch

from vharm.looks import LutLook, ResidualLook
from vharm.methods.pixel import PixelMethod


class Darker(PixelMethod):
    """Stands for a network: colours change by a map, or by the place."""

    name, summary, when_to_use, source = "darker", "", "", ""

    def __init__(self, by_place: bool = False, **options):
        super().__init__(**options)
        self.by_place = by_place

    def render(self, frames, masks):
        if not self.by_place:
            return frames * 0.6 + 0.1
        return frames * torch.linspace(0.2, 1, frames.shape[-1])


def scene(size=48):
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 3, size, size, generator=generator)
    masks = torch.zeros(2, 1, size, size)
    masks[0, :, 8:40, 8:40] = 1  # the second frame has no foreground
    return frames, masks


def test_a_colour_map_is_met_by_a_lut():
    frames, masks = scene()
    look, unchanged = Darker().estimate(frames, masks)
    assert isinstance(look, LutLook)
    out = look.apply(frames[:1], masks[:1])
    inside = masks[:1].bool().expand_as(out)
    assert (out - (frames[:1] * 0.6 + 0.1))[inside].abs().max() < 0.02
    assert torch.equal(out[~inside], frames[:1][~inside])
    torch.testing.assert_close(unchanged.apply(frames), frames, atol=1e-5, rtol=0)


def test_a_change_by_place_needs_the_residual():
    frames, masks = scene()
    expected = Darker(True).render(frames, masks)[:1]
    inside = masks[:1].bool().expand_as(expected)
    errors = {}
    for name in ("lut", "residual"):
        out = Darker(True, look=name).estimate(frames, masks)[0].apply(frames[:1], masks[:1])
        errors[name] = float((out - expected)[inside].abs().max())
    assert errors["residual"] < 1e-5 < 0.1 < errors["lut"]
    assert isinstance(Darker(look="residual").estimate(frames, masks)[1], ResidualLook)


def test_an_unknown_look_is_refused():
    with pytest.raises(ValueError, match="look: expected one of lut, residual, got 'pixels'"):
        Darker(look="pixels")

# SPDX-License-Identifier: Apache-2.0
"""Looks on YUV planes: every kind hands its own parameters to the plane ops."""

from __future__ import annotations

import pytest
import torch

from vharm import ops
from vharm.looks import FilterLook, Look, LutLook, ResidualLook
from vharm.looks.lut_look import identity_grid

FORMAT = ops.YuvFormat()


def planes() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((16, 20), (8, 10), (8, 10))
    return tuple(torch.randint(60, 180, s, generator=generator).to(torch.uint8) for s in sizes)


def plane_mask() -> ops.PlaneMask:
    data = torch.zeros(16, 20, dtype=torch.uint8)
    data[4:12, 4:12] = 255
    return ops.PlaneMask(data)


def looks() -> list[Look]:
    return [
        FilterLook(torch.tensor([0.3, -0.4]), torch.full((2, 3), 0.5), ("contrast", "brightness")),
        LutLook(identity_grid(9) ** 1.4),
        LutLook(identity_grid(9, domain_max=(2, 2, 2)) ** 1.4, domain_max=(2, 2, 2)),
        ResidualLook(torch.full((3, 2, 2), -0.1)),
    ]


@pytest.mark.parametrize("look", looks(), ids=["filter", "lut", "domain", "residual"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_planes_get_what_rgb_gets(look, strength):
    look, before, mask = look.with_strength(strength), planes(), plane_mask()
    after = look.apply_yuv(before, mask, FORMAT)
    outside_luma, outside_chroma = mask.data == 0, mask.data[::2, ::2] == 0
    for a, b, outside in zip(
        after, before, (outside_luma, outside_chroma, outside_chroma), strict=True
    ):
        assert a.dtype == torch.uint8
        assert torch.equal(a[outside], b[outside])
    assert not torch.equal(after[0], before[0])
    colours = ops.yuv_to_rgb(before, format=FORMAT, dtype=torch.float32)
    wanted = look.apply(colours[None].clamp(0, 1), layout="NHWC")[0]
    luma = wanted @ torch.tensor([0.2126, 0.7152, 0.0722]) * 219 + 16
    # Random chroma leaves the cube of RGB, which the two ways clamp at different places.
    inside_cube = ((colours > 0.12) & (colours < 0.98)).all(-1) & ~outside_luma
    assert inside_cube.sum() > 5
    difference = (after[0].float() - luma)[inside_cube].abs()
    assert difference.max() <= 2


@pytest.mark.parametrize("look", looks(), ids=["filter", "lut", "domain", "residual"])
def test_strength_zero_leaves_the_planes(look):
    before = planes()
    after = look.with_strength(0.0).apply_yuv(before, None, FORMAT)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))

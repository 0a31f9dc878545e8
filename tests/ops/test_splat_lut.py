# SPDX-License-Identifier: Apache-2.0
"""splat_lut and finish_lut: together they are fit_lut, and sums of frames add up."""

from __future__ import annotations

import pytest
import torch
from strategies import backends

from vharm import ops
from vharm.ops import finish_lut, fit_lut, splat_lut

ALL = ["reference", *backends("splat_lut")]


def frames(device, count=3):
    generator = torch.Generator().manual_seed(6)
    source = torch.rand(count, 3, 9, 11, generator=generator)
    target = torch.rand(count, 3, 9, 11, generator=generator)
    mask = (torch.rand(count, 1, 9, 11, generator=generator) > 0.4).float()
    return source.to(device), target.to(device), mask.to(device)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("offset", [False, True])
def test_one_after_the_other_is_fit_lut(backend, offset, device):
    clip = frames(device)
    with ops.backend(backend):
        sums = splat_lut(*clip, 9, offset=offset)
        expected = fit_lut(*clip, 9, offset=offset)
    assert sums.shape == (3, 9, 9, 9, 4)
    for found, wanted in zip(finish_lut(sums, offset=offset), expected, strict=True):
        assert torch.equal(found, wanted)
    other, _ = finish_lut(sums, offset=not offset)
    assert not torch.allclose(other, expected[0], atol=1e-2)


@pytest.mark.parametrize("backend", ALL)
def test_sums_of_frames_are_those_of_a_longer_picture(backend, device):
    source, target, mask = frames(device)
    with ops.backend(backend):
        apart = splat_lut(source, target, mask, 7)
        joined = splat_lut(*(torch.cat(list(t), 2)[None] for t in (source, target, mask)), 7)
    torch.testing.assert_close(apart.sum(0, keepdim=True), joined)
    assert float(joined[..., 3].sum()) == pytest.approx(float(mask.sum()), rel=1e-5)


def test_without_data_the_table_is_the_identity():
    lut, weight = finish_lut(torch.zeros(1, 5, 5, 5, 4))
    torch.testing.assert_close(lut[0], ops.reference.lut.identity(5, lut))
    assert not weight.any()


@pytest.mark.parametrize(
    ("sums", "error", "text"),
    [
        (torch.zeros(1, 5, 5, 5, 3), ValueError, r"finish_lut: sums must have shape"),
        (torch.zeros(1, 5, 5, 4, 4), ValueError, r"finish_lut: sums must have shape"),
        (torch.zeros(1, 1, 1, 1, 4), ValueError, "2 to 129 nodes"),
        (torch.zeros(1, 5, 5, 5, 4).long(), TypeError, "sums.*int64"),
    ],
)
def test_errors(sums, error, text):
    with pytest.raises(error, match=text):
        finish_lut(sums)
    with pytest.raises(ValueError, match="splat_lut: size must be 2 to 129"):
        splat_lut(*frames("cpu"), 1)

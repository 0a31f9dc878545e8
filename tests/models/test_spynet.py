# SPDX-License-Identifier: Apache-2.0
"""SPyNet: its size, its pyramid, its scales, and published names."""

from __future__ import annotations

import re

import pytest
import torch

from vharm.models import SpyNet, WeightsError

torch.set_num_threads(1)


def pair(height=64, width=64):
    generator = torch.Generator().manual_seed(4)
    return torch.rand(2, 1, 3, height, width, generator=generator)


def moving(x, y, **settings):
    """Its coarsest level says (x, y) everywhere, and nothing is added after that."""
    model = SpyNet(channels=(4,), **settings).eval()
    for net in model.nets:
        torch.nn.init.zeros_(net[-1].weight)
    with torch.no_grad():
        model.nets[0][-1].bias.copy_(torch.tensor([x, y]))
    return model


def test_parameters_by_hand():
    widths = (8, 32, 64, 32, 16, 2)
    one = sum(i * o * 49 + o for i, o in zip(widths[:-1], widths[1:], strict=True))
    assert one == 240_050
    assert sum(p.numel() for p in SpyNet().parameters()) == 6 * one == 1_440_300


@pytest.mark.parametrize(
    ("size", "levels"), [((32, 32), 1), ((64, 32), 2), ((256, 256), 4), ((96, 128), 3)]
)
def test_the_pyramid_halves_down_to_32(size, levels):
    found = SpyNet(channels=(2,)).pyramid(*pair(*size))
    assert len(found) == levels
    assert found[-1].shape[2:] == size
    assert max(found[0].shape[2:]) == 32


def test_no_more_levels_than_networks():
    assert len(SpyNet(2, channels=(2,)).pyramid(*pair(128, 128))) == 2


def test_flow_doubles_with_the_size():
    flow = moving(1.0, -0.5)(*pair(128, 128))
    torch.testing.assert_close(flow[:, 0], torch.full((1, 128, 128), 4.0))
    torch.testing.assert_close(flow[:, 1], torch.full((1, 128, 128), -2.0))


def test_other_sizes_are_resized_and_the_flow_with_them():
    flow = moving(1.0, 1.0)(*pair(50, 90))  # worked at 64x96: three levels
    assert flow.shape == (1, 2, 50, 90)
    torch.testing.assert_close(flow[:, 0], torch.full((1, 50, 90), 4 * 90 / 96))
    torch.testing.assert_close(flow[:, 1], torch.full((1, 50, 90), 4 * 50 / 64))


@pytest.mark.parametrize("basic", ["moduleBasic", "netBasic"])
def test_published_names_are_read(tmp_path, basic):
    model = SpyNet()
    published = {
        re.sub(r"nets\.(\d)\.", rf"{basic}.\1.{basic}.", name): tensor
        for name, tensor in model.state_dict().items()
    }
    assert f"{basic}.5.{basic}.8.bias" in published
    path = tmp_path / "network-sintel-final.pth"
    torch.save(published, path)
    again = SpyNet.from_weights(path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    del published[f"{basic}.5.{basic}.8.bias"]
    torch.save(published, path)
    with pytest.raises(WeightsError, match="missing"):
        SpyNet.from_weights(path)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: SpyNet(0), ValueError, "levels: expected 1 or more"),
        (lambda: SpyNet(channels=()), ValueError, "channels: expected positive"),
        (lambda: SpyNet()(pair()[0], pair(32, 64)[0]), ValueError, "other: expected"),
        (lambda: SpyNet()(pair()[0].byte(), pair()[0].byte()), TypeError, "current: .*uint8"),
        (
            lambda: SpyNet()(*pair(50, 64), every_level=True), ValueError,
            "multiples of 32, got 50x64",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, text):
    with pytest.raises(error, match=text):
        call()

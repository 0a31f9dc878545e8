# SPDX-License-Identifier: Apache-2.0
"""What the network is told of the two regions."""

from __future__ import annotations

import torch

from vharm.models.efficientnet import EncoderConfig
from vharm.models.harmonizer import Harmonizer
from vharm.models.regions import RegionColours, pool_regions


def test_pooling_separates_the_regions():
    features = torch.zeros(1, 2, 4, 4)
    features[..., :2] = 3
    features[..., 2:] = 5
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    assert pool_regions(features, mask).tolist() == [[4, 4, 3, 3, 5, 5]]
    # All of the frame marked: the background's means are zeros, not NaN.
    assert pool_regions(features, torch.ones(1, 1, 16, 16))[0, 4:].tolist() == [0, 0]


def test_colours_are_those_of_each_region():
    torch.manual_seed(0)
    colours = RegionColours(32)
    image, mask = torch.rand(2, 3, 9, 7), (torch.rand(2, 1, 9, 7) > 0.5).float()
    seen = colours(image, mask)
    assert seen.shape == (2, 32)
    order = torch.randperm(63)
    shuffled = [t.flatten(2)[..., order].reshape(t.shape) for t in (image, mask)]
    torch.testing.assert_close(colours(*shuffled), seen, atol=1e-5, rtol=1e-4)
    changed = torch.where(mask.bool(), image, image * 0.5)
    assert not torch.allclose(colours(changed, mask), seen, atol=1e-3)


def test_a_network_with_regions_learns_and_is_rebuilt(tmp_path):
    from vharm.models.weights import save_weights

    torch.manual_seed(0)
    config = EncoderConfig.lite(width=0.25, drop_connect=0.0)
    model = Harmonizer(config=config, regions=True, input_size=32).train()
    image, mask = torch.rand(2, 3, 40, 32), torch.zeros(2, 1, 40, 32)
    mask[0, :, 5:20, 4:20] = 1  # the other has no foreground at all
    model(image, mask).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    path = tmp_path / "a.safetensors"
    save_weights(path, model, architecture="harmonizer", config=model.settings())
    rebuilt = Harmonizer.from_weights(path)
    assert rebuilt.settings() == model.settings()
    expected = model.eval()(image, mask)
    torch.testing.assert_close(rebuilt(image, mask), expected, atol=2e-3, rtol=0.02)

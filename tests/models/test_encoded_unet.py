# SPDX-License-Identifier: Apache-2.0
"""The U-Net around a trained encoder."""

from __future__ import annotations

import pytest
import torch

from vharm.models import Generator, Harmonizer, Huang, WeightsError, save_weights
from vharm.models.efficientnet import Encoder, EncoderConfig
from vharm.models.encoded_unet import EncodedUNet, shallow_encoder, start_encoder

torch.set_num_threads(1)


@pytest.mark.parametrize("size", [(16, 16), (33, 50)])
@pytest.mark.parametrize("masked", [True, False])
def test_any_size(size, masked):
    network = EncodedUNet(masked, 2).eval()
    assert network(torch.rand(1, 3 + masked, *size)).shape == (1, 2, *size)
    with pytest.raises(ValueError, match=r"x: expected \[B,"):
        network(torch.rand(1, 5, *size))
    with pytest.raises(TypeError, match="floating-point"):
        network(torch.zeros(1, 3 + masked, *size, dtype=torch.uint8))


def test_every_parameter_learns_and_far_pixels_are_seen():
    torch.manual_seed(0)
    network = EncodedUNet(True, 1)
    picture = torch.rand(2, 4, 64, 64, requires_grad=True)
    network(picture)[0, 0, 0, 0].backward()
    assert all(p.grad is not None for p in network.parameters())
    assert picture.grad[0, :, 63, 63].abs().sum() > 0
    assert picture.grad[1, :, :16, :16].abs().sum() > 0  # batch norm


def test_levels_end_where_the_resolution_halves():
    encoder = Encoder(shallow_encoder())
    levels = encoder.levels(torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64))
    assert [level.shape[1] for level in levels] == encoder.level_channels == [16, 24, 40, 112]
    assert [level.shape[2] for level in levels] == [32, 16, 8, 4]
    assert encoder.channels == 112
    with pytest.raises(ValueError, match="without a head"):
        EncodedUNet(True, 1, EncoderConfig.lite())


def test_an_encoder_starts_from_a_harmonizer(tmp_path):
    torch.manual_seed(0)
    donor = Harmonizer(config=EncoderConfig.lite())
    path = tmp_path / "donor.safetensors"
    save_weights(path, donor, architecture="harmonizer", config=donor.settings())
    encoder = Encoder(shallow_encoder())
    start_encoder(path, encoder)
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(
            tensor, donor.encoder.state_dict()[name], rtol=1e-2, atol=1e-2
        )  # weight files are float16
    assert len(encoder.blocks) == 11
    with pytest.raises(WeightsError, match="another size"):
        start_encoder(path, Encoder(shallow_encoder(width=0.5)))
    with pytest.raises(WeightsError, match="another kind: expected squeeze True"):
        start_encoder(path, Encoder(shallow_encoder(squeeze=True, activation="silu")))


def test_a_weight_file_rebuilds_it(tmp_path):
    torch.manual_seed(0)
    sizes = {"encoder": shallow_encoder(width=0.25).to_dict()}
    whole = Huang({"residual": True, **sizes}, sizes, input_size=32).eval()
    path = tmp_path / "huang.safetensors"
    save_weights(path, whole, architecture="huang", config=whole.settings())
    again = Huang.from_weights(path)
    picture, mask = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(
        again.generator(picture, mask), whole.generator(picture, mask), rtol=0.02, atol=0.02
    )
    with pytest.raises(TypeError, match="width: not with an encoder"):
        Generator(width=4, **sizes)

# SPDX-License-Identifier: Apache-2.0
"""iS2AM: its size by hand, its parts one by one, and its weight files."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vharm.models import Issam, WeightsError, save_weights
from vharm.models.efficientnet import EncoderConfig
from vharm.models.encoded_unet import shallow_encoder
from vharm.models.issam import NonlocalBlock, SpatialAttention

torch.set_num_threads(1)


def conv(inputs, outputs, *, norm=False, bias=True, side=3):
    return inputs * outputs * side**2 + outputs * bias + 2 * outputs * norm


def by_hand(width, levels=()):
    """The parameters of SPEC's layers, added up without looking at the model."""
    a, b, c, d = (width << i for i in range(4))
    encoder = (
        conv(4, a) + conv(a, a) + conv(a, b) + conv(b, b)
        + conv(b, c, norm=True) + conv(c, c, norm=True)
        + conv(c, d, norm=True) + conv(d, d, norm=True)
    )  # fmt: skip
    decoder = 0
    for coarse, fine in ((d, c), (c, b), (b, a)):
        decoder += conv(coarse, fine)
        decoder += conv(2 * fine, fine, norm=True) + conv(fine, fine, norm=True)
    wide, middle = 2 * a, max(2 * a // 16, 8)
    gate = 2 * wide * middle + middle + middle * wide + wide
    attention = 3 * gate + conv(wide, a, norm=True, bias=False)
    attention += conv(a, wide, norm=True, bias=False)
    head = conv(a, 1, side=1) + conv(a, 3, side=1)
    blocks = sum(
        2 * conv(m, m // 2, side=1) + conv(m, m, side=1) for m in ((d, c, b)[i] for i in levels)
    )
    return encoder + decoder + attention + head + blocks


def count(model):
    return sum(p.numel() for p in model.parameters())


def scene(size=32, batch=2):
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(batch, 3, size, size, generator=generator)
    mask = torch.zeros(batch, 1, size, size)
    mask[..., 8:24, 6:20] = 1
    return image, mask


@pytest.mark.parametrize(
    ("width", "levels"), [(32, ()), (32, (0,)), (32, (0, 1)), (32, (0, 1, 2)), (16, ()), (8, (1,))]
)
def test_parameters_by_hand(width, levels):
    assert count(Issam(width, nonlocal_levels=levels)) == by_hand(width, levels)


def test_the_published_size():
    assert count(Issam()) == 2_185_340


def test_norms_begin_at_the_third_level():
    kinds = [any(isinstance(m, nn.BatchNorm2d) for m in b.modules()) for b in Issam(4).encoder]
    assert kinds == [False, False, True, True]


def test_only_the_last_decoder_block_attends():
    attends = [block.attention is not None for block in Issam(4).decoder]
    assert attends == [False, False, True]


def test_the_head_mixes_input_and_colour():
    model, (image, mask) = Issam(4).eval(), scene()
    with torch.no_grad():
        for bias, expected in ((100.0, image), (-100.0, None)):
            model.blend.bias.fill_(bias)
            out = model(image, mask)
            if expected is None:
                painted = model.paint(image, mask)
                expected = model.denormalise(model.colour(painted.features))
            torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(out, image, atol=0.1)


def test_attention_keeps_regions_apart():
    attention = SpatialAttention(16).eval()
    features = torch.randn(1, 16, 20, 20)
    for mask, unused in (
        (torch.zeros(1, 1, 20, 20), attention.foreground),
        (torch.zeros(1, 1, 20, 20), attention.mix),
        (torch.ones(1, 1, 20, 20), attention.background),
    ):
        inside = (slice(None), slice(None), slice(4, 16), slice(4, 16))
        before = attention(features, mask)[inside]
        other = attention(features, 1 - mask)[inside]
        with torch.no_grad():
            unused.gate[2].bias.add_(3)
        torch.testing.assert_close(attention(features, mask)[inside], before)
        assert not torch.allclose(attention(features, 1 - mask)[inside], other, atol=1e-3)


def test_attention_blurs_by_a_gaussian_of_sigma_one():
    blur = SpatialAttention(16).blur[0, 0]
    assert blur.shape == (7, 7)
    assert blur.sum() == pytest.approx(1)
    assert blur[3, 4] / blur[3, 3] == pytest.approx(torch.tensor(-0.5).exp())


def test_nonlocal_block_starts_as_the_identity_and_reads_its_window():
    block = NonlocalBlock(8)
    features = torch.randn(1, 8, 16, 16)
    small = torch.zeros(1, 1, 32, 32)
    small[..., 11, 12] = 0.5  # half a pixel of the mask falls into position (5, 6)
    assert torch.equal(block(features, small), features)
    nn.init.normal_(block.g.weight)
    out = block(features, small)
    changed = (out != features).any(1)[0].nonzero().tolist()
    assert changed == [[5, 6]]
    theta, phi, g = (part(features)[0] for part in (block.theta, block.phi, block.g))
    scores = (theta[:, 5, 6, None, None] * phi[:, 3:7, 4:8]).sum(0)
    expected = features[0, :, 5, 6] + (scores.flatten().softmax(0) * g[:, 3:7, 4:8].flatten(1)).sum(
        1
    )
    torch.testing.assert_close(out[0, :, 5, 6], expected)
    odd = features[0, :, 5, 6] + (
        (theta[:, 5, 6, None, None] * phi[:, 4:8, 5:9]).sum(0).flatten().softmax(0)
        * g[:, 4:8, 5:9].flatten(1)
    ).sum(1)
    assert not torch.allclose(out[0, :, 5, 6], odd, atol=1e-3)


def test_nonlocal_levels_change_nothing_before_training():
    torch.manual_seed(0)
    plain = Issam(4).eval()
    blocks = Issam(4, nonlocal_levels=(0, 1)).eval()
    missing, unexpected = blocks.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(".similar." in name for name in missing)
    image, mask = scene()
    torch.testing.assert_close(blocks(image, mask), plain(image, mask))
    nn.init.normal_(blocks.decoder[1].similar.g.weight)
    assert not torch.allclose(blocks(image, mask), plain(image, mask), atol=1e-4)


def test_gradients_reach_every_parameter():
    model, (image, mask) = Issam(4, nonlocal_levels=(1,)), scene()
    nn.init.normal_(model.decoder[1].similar.g.weight)
    model(image, mask).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A constant added before a normalisation, or to all keys of a softmax, changes nothing.
    assert all(name.endswith(("0.bias", "phi.bias")) for name in without)


def test_weight_file_round_trip(tmp_path):
    model = Issam(4, nonlocal_levels=[1], input_size=64).half().float().eval()
    path = tmp_path / "issam.safetensors"
    save_weights(path, model, architecture="issam", config=model.settings())
    again = Issam.from_weights(path)
    assert again.settings() == model.settings()
    image, mask = scene()
    torch.testing.assert_close(again(image, mask), model(image, mask), atol=1e-4, rtol=1e-4)
    save_weights(path, model, architecture="issam", config={**model.settings(), "width": 8})
    with pytest.raises(WeightsError, match="shape"):
        Issam.from_weights(path)
    save_weights(path, model, architecture="issam", config={**model.settings(), "wide": 8})
    with pytest.raises(WeightsError, match="bad configuration"):
        Issam.from_weights(path)


def test_files_stay_small():
    bytes_ = sum(t.numel() for t in Issam(nonlocal_levels=(0, 1)).state_dict().values()) * 2
    assert bytes_ < 12e6


IMAGE, MASK = scene()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Issam(4)(IMAGE[..., :30], MASK[..., :30]), ValueError, "multiples of 8.*32x30"),
        (lambda: Issam(4)(IMAGE, MASK[:1]), ValueError, r"mask: expected \[2, 1, 32, 32\]"),
        (lambda: Issam(4)((IMAGE * 255).byte(), MASK), TypeError, "image: .*torch.uint8"),
        (lambda: Issam(4)(None, MASK), TypeError, "image: expected a tensor, got NoneType"),
        (lambda: Issam(0), ValueError, "width: expected 1 or more, got 0"),
        (lambda: Issam(2.5), TypeError, "width: expected an integer"),
        (lambda: Issam(4, 1), ValueError, "depth: expected 2 to 8 levels, got 1"),
        (lambda: Issam(4, nonlocal_levels=(3,)), ValueError, "nonlocal_levels: .*0 to 2"),
        (lambda: Issam(4, input_size=100), ValueError, "input_size: expected a multiple of 8"),
    ],
)
def test_errors_name_the_argument(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_backbone_lends_its_features_and_stays_as_it_is():
    torch.manual_seed(0)
    backbone = shallow_encoder(width=0.25).to_dict()
    network = Issam(4, 4, backbone=backbone, input_size=None).train()
    assert not network.backbone.training
    before = {name: t.clone() for name, t in network.backbone.state_dict().items()}
    image, mask = torch.rand(2, 3, 24, 40), torch.rand(2, 1, 24, 40)
    network(image, mask).sum().backward()
    assert all(p.grad is None for p in network.backbone.parameters())
    assert all(torch.equal(t, before[name]) for name, t in network.backbone.state_dict().items())
    coarse = network.encoder[3][0][0].weight
    lent = sum(network.backbone.level_channels[2:])
    assert coarse.shape[1] == 16 + lent
    assert coarse.grad[:, 16:].abs().sum() > 0
    again = Issam(**network.settings())
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.eval()(image, mask), network.eval()(image, mask))
    with pytest.raises(ValueError, match="without a head"):
        Issam(4, 4, backbone=EncoderConfig.lite().to_dict())


def test_what_both_regions_say_is_added_to_every_pixel():
    torch.manual_seed(0)
    network = Issam(4, 4, backbone=shallow_encoder(width=0.25).to_dict(), input_size=None).eval()
    image, mask = torch.rand(2, 3, 24, 40), torch.zeros(2, 1, 24, 40)
    mask[:, :, 4:12, 4:12] = 1
    lent = network.backbone(image, mask)[-1]
    said = network.context(lent, image, mask)
    assert said.shape == (2, 32, 1, 1)
    assert said.abs().sum() == 0  # nothing before it has learned
    silent = network(image, mask)
    last = network.context.layers[-1]
    torch.nn.init.normal_(last.weight)
    assert (network(image, mask) - silent).abs().max() > 1e-4
    # Colours far from the foreground count: those of the background, though not where they are.
    other = image.clone()
    other[..., 16:] = image[..., 16:].flip(-1).flip(1)
    colours = network.context.colours
    assert (colours(image, mask) - colours(other, mask)).abs().max() > 1e-4
    torch.nn.init.zeros_(last.weight)
    network.train()(image, mask).square().sum().backward()
    assert last.weight.grad.abs().sum() > 0
    assert Issam(4, 4, input_size=None).context is None


def test_pictures_are_painted_one_by_one_as_in_a_batch() -> None:
    torch.manual_seed(0)
    network = Issam(4, input_size=16).eval()
    image, mask = torch.rand(3, 3, 16, 24), (torch.rand(3, 1, 16, 24) > 0.5).float()
    each, batch = network.paint_each(image, mask), network.paint(image, mask)
    torch.testing.assert_close(each.normalised, batch.normalised)
    torch.testing.assert_close(each.features, batch.features)
    assert not each.normalised.requires_grad

# SPDX-License-Identifier: Apache-2.0
"""The Harmonizer network: size, shapes, padding, cascade, determinism, gradients, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vharm.models import (
    B0_STAGES,
    Encoder,
    EncoderConfig,
    Harmonizer,
    Stage,
    WeightsError,
    load_imagenet_backbone,
)
from vharm.models.efficientnet import SameConv2d, drop_connect, same_padding
from vharm.ops.filters import DEFAULT_FILTERS

torch.set_num_threads(1)  # tensors this small only wait for more threads

TINY = EncoderConfig(
    stages=(
        Stage(expansion=1, kernel=3, stride=1, channels=16, repeats=1),
        Stage(expansion=4, kernel=5, stride=2, channels=24, repeats=2),
    ),
    width=0.5,
    head=128,
)


@pytest.fixture(scope="module")
def full() -> Harmonizer:
    torch.manual_seed(0)
    return Harmonizer().eval()


@pytest.fixture
def tiny() -> Harmonizer:
    torch.manual_seed(0)
    return Harmonizer(config=TINY, input_size=32).eval()


def sample(
    batch: int = 2, height: int = 40, width: int = 56, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, height, width, generator=generator)
    mask = (torch.rand(batch, 1, height, width, generator=generator) > 0.5).float()
    return image, mask


def randomise_norms(model: torch.nn.Module) -> None:
    """Statistics as after training, so that what a layer does is seen in the output."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.05, 0.2, generator=generator)


def test_default_is_the_published_size(full: Harmonizer) -> None:
    assert full.filters == DEFAULT_FILTERS
    assert len(DEFAULT_FILTERS) == 6
    assert sum(p.numel() for p in full.parameters()) == 4_726_882


def test_lite_is_b0_without_gates() -> None:
    config = EncoderConfig.lite()
    model = Harmonizer(config=config)
    assert sum(p.numel() for p in model.parameters()) == 4_090_342
    assert all(block.gate is None for block in model.encoder.blocks)
    kinds = {type(m) for m in model.modules() if type(m).__module__.endswith("activation")}
    assert kinds == {torch.nn.ReLU6}
    assert EncoderConfig.from_dict(config.to_dict()) == config
    assert EncoderConfig.lite(width=0.5, drop_connect=0).width == 0.5
    with pytest.raises(ValueError, match="activation: expected silu or relu6, got 'relu'"):
        EncoderConfig(activation="relu")


def test_encoder_follows_the_b0_table(full: Harmonizer) -> None:
    blocks = full.encoder.blocks
    assert len(blocks) == 16
    assert blocks[0].expand is None
    assert all(block.expand is not None for block in blocks[1:])
    outputs = [block.project.conv.out_channels for block in blocks]
    assert outputs == [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
    kernels = [block.depthwise.conv.kernel_size[0] for block in blocks]
    assert kernels == [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    assert [block.depthwise.conv.stride[0] for block in blocks].count(2) == 4
    assert [block.drop_rate for block in blocks] == pytest.approx([0.2 * i / 16 for i in range(16)])
    # squeezed widths come from a block's input, not from its expanded width
    assert blocks[1].gate.reduce.out_channels == 16 // 4
    assert blocks[15].gate.reduce.out_channels == 192 // 4
    for module in full.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-3, 0.01)


def test_multipliers() -> None:
    config = EncoderConfig(width=0.25, depth=0.5)
    encoder = Encoder(config)
    assert len(encoder.blocks) == 1 + 1 + 1 + 2 + 2 + 2 + 1
    assert encoder.channels == 320
    assert config.channels(16) == 8  # never below one multiple of 8
    assert EncoderConfig(width=1.1).channels(40) == 48  # 44 lies midway, and goes up
    assert EncoderConfig(width=1.1).channels(32) == 32  # 35.2: nearest multiple, within a tenth
    assert EncoderConfig(width=0.9).channels(24) == 24  # 21.6
    assert EncoderConfig(width=0.7).channels(16) == 16  # 11.2: 8 would be over a tenth short


def test_config_survives_its_dictionary() -> None:
    settings = Harmonizer(config=TINY).settings()
    assert EncoderConfig.from_dict(settings["encoder"]) == TINY


@pytest.mark.parametrize("size", [(256, 256), (32, 32), (33, 65), (7, 5), (1, 1)])
def test_encoder_shape(full: Harmonizer, size: tuple[int, int]) -> None:
    image, mask = sample(1, *size)
    with torch.inference_mode():
        features = full.encoder(image, mask)
    assert features.shape == (1, 1280, -(-size[0] // 32), -(-size[1] // 32))


@pytest.mark.parametrize("size", [(32, 32), (45, 31), (1, 1), (200, 9)])
@pytest.mark.parametrize("filters", [("exposure",), ("hue", "shadow", "contrast"), DEFAULT_FILTERS])
@pytest.mark.parametrize("cascade", [True, False])
def test_one_argument_per_filter(
    size: tuple[int, int], filters: tuple[str, ...], cascade: bool
) -> None:
    model = Harmonizer(filters, TINY, cascade=cascade, input_size=32).eval()
    arguments = model(*sample(3, *size))
    assert arguments.shape == (3, len(filters))
    assert arguments.isfinite().all()


def test_empty_batch(tiny: Harmonizer) -> None:
    assert tiny(torch.empty(0, 3, 40, 30), torch.empty(0, 1, 40, 30)).shape == (0, 6)


@pytest.mark.parametrize("size", [8, 9, 16, 31, 256])
@pytest.mark.parametrize("kernel", [3, 5])
def test_stride_two_padding(size: int, kernel: int) -> None:
    conv = SameConv2d(2, 4, kernel, stride=2)
    image = torch.randn(1, 2, size, size + 2)
    even = {3: (0, 1), 5: (1, 2)}[kernel]
    before, after = even if size % 2 == 0 else (kernel // 2, kernel // 2)
    padded = F.pad(image, (before, after, before, after))
    expected = F.conv2d(padded, conv.weight, stride=2)
    torch.testing.assert_close(conv(image), expected, rtol=0, atol=0)
    if size % 2 == 0:
        # torch's own padding samples other pixels and must not pass for TensorFlow's
        wrong = F.conv2d(image, conv.weight, stride=2, padding=kernel // 2)
        assert wrong.shape == expected.shape
        assert not torch.allclose(wrong, expected)


def test_stride_one_padding_is_symmetric() -> None:
    image = torch.randn(1, 2, 6, 9)
    conv = SameConv2d(2, 4, 5)
    expected = F.conv2d(F.pad(image, (2, 2, 2, 2)), conv.weight)
    torch.testing.assert_close(conv(image), expected, rtol=1e-5, atol=1e-6)
    assert same_padding(6, 5, 1) == same_padding(9, 5, 1) == (2, 2)


def test_stem_branches_see_mask_and_complement(tiny: Harmonizer) -> None:
    image, mask = sample()
    seen = {}
    for name in ("stem_foreground", "stem_background"):
        stem = getattr(tiny.encoder, name)
        stem.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    tiny(image, mask, resize=False)
    assert torch.equal(seen["stem_foreground"], torch.cat((image, mask), 1))
    assert torch.equal(seen["stem_background"], torch.cat((image, 1 - mask), 1))


def test_resizes_inside(tiny: Harmonizer) -> None:
    randomise_norms(tiny)
    image, mask = sample()
    small = [
        F.interpolate(x, (32, 32), mode="bilinear", align_corners=False) for x in (image, mask)
    ]
    expected = tiny(*small, resize=False)
    assert torch.equal(tiny(image, mask), expected)
    assert not torch.allclose(tiny(image, mask, resize=False), expected)
    tiny.input_size = None
    assert torch.equal(tiny(image, mask), tiny(image, mask, resize=False))


def test_cascade_by_hand(tiny: Harmonizer) -> None:
    regressor = tiny.regressor
    features = torch.randn(2, tiny.encoder.channels)
    shared = features @ regressor.shared.weight.T + regressor.shared.bias
    previous = features @ regressor.first.weight.T + regressor.first.bias
    expected = []
    for head in regressor.heads:
        condition = torch.cat((shared, previous), 1)
        previous = condition @ head.feature.weight.T + head.feature.bias
        expected.append(previous @ head.argument.weight.T + head.argument.bias)
    torch.testing.assert_close(regressor(features), torch.cat(expected, 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cascade", [True, False])
def test_only_a_cascade_ties_the_arguments(cascade: bool) -> None:
    model = Harmonizer(("temperature", "shadow"), TINY, cascade=cascade, input_size=32).eval()
    image, mask = sample()
    before = model(image, mask)
    with torch.no_grad():
        model.regressor.heads[0].feature.bias += 100
    after = model(image, mask)
    assert not torch.allclose(before[:, 0], after[:, 0])
    assert torch.allclose(before[:, 1], after[:, 1]) is not cascade


def test_untrained_network_asks_for_almost_nothing(full: Harmonizer) -> None:
    image, mask = sample(4, 64, 64)
    with torch.inference_mode():
        assert full(image, mask, resize=False).abs().max() < 0.05
        full.train()
        try:
            arguments = full(image, mask, resize=False)
        finally:
            full.eval()
    assert 0 < arguments.abs().max() < 0.05


def test_eval_mode_is_deterministic_and_per_sample(tiny: Harmonizer) -> None:
    randomise_norms(tiny)
    image, mask = sample(3)
    first = tiny(image, mask)
    assert torch.equal(first, tiny(image, mask))
    for i in range(3):
        alone = tiny(image[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(alone, first[i : i + 1], rtol=1e-4, atol=1e-6)
    assert first.std(0).min() > 0


def test_mask_matters(tiny: Harmonizer) -> None:
    randomise_norms(tiny)
    image, mask = sample()
    assert not torch.allclose(tiny(image, mask), tiny(image, 1 - mask))


def test_drop_connect_keeps_the_mean_and_whole_samples() -> None:
    torch.manual_seed(0)
    kept = drop_connect(torch.ones(4000, 2, 1, 1), 0.2)
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("cascade", [True, False])
def test_gradient_reaches_every_parameter(cascade: bool) -> None:
    torch.manual_seed(0)
    model = Harmonizer(config=EncoderConfig(width=0.25), cascade=cascade, input_size=64).train()
    image, mask = sample(6, 64, 64)
    weights = torch.randn(6, 6)
    (model(image, mask) * weights).sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert silent == []


def test_one_step_of_training_lowers_the_loss(tiny: Harmonizer) -> None:
    tiny.train()
    image, mask = sample(4)
    target = torch.linspace(-0.5, 0.5, 24).view(4, 6)
    optimiser = torch.optim.Adam(tiny.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = (tiny(image, mask) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_half_precision_mask_is_accepted(tiny: Harmonizer) -> None:
    image, mask = sample()
    assert torch.equal(tiny(image, mask.half()), tiny(image, mask))


def imagenet_state() -> dict[str, torch.Tensor]:
    """A classifier with a stem of 8 filters, one block without expansion and a head of 16."""
    shapes = {
        "_conv_stem.weight": (8, 3, 3, 3),
        "_blocks.0._depthwise_conv.weight": (8, 1, 3, 3),
        "_blocks.0._se_reduce.weight": (2, 8, 1, 1),
        "_blocks.0._se_reduce.bias": (2,),
        "_blocks.0._se_expand.weight": (8, 2, 1, 1),
        "_blocks.0._se_expand.bias": (8,),
        "_blocks.0._project_conv.weight": (8, 8, 1, 1),
        "_conv_head.weight": (16, 8, 1, 1),
        "_fc.weight": (1000, 16),
    }
    norms = {"_bn0": 8, "_blocks.0._bn1": 8, "_blocks.0._bn2": 8, "_bn1": 16}
    for name, channels in norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
    generator = torch.Generator().manual_seed(3)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def imagenet_encoder() -> Encoder:
    return Encoder(EncoderConfig(stages=(Stage(1, 3, 1, 8, 1),), stem=8, head=16)).eval()


def test_imagenet_backbone(tmp_path: Path) -> None:
    state = imagenet_state()
    torch.save(state, tmp_path / "classifier.pth")
    encoder = imagenet_encoder()
    notes = load_imagenet_backbone(tmp_path / "classifier.pth", encoder)
    assert "_fc.weight" in notes[0]
    assert torch.equal(encoder.head.conv.weight, state["_conv_head.weight"])
    assert torch.equal(encoder.blocks[0].gate.restore.bias, state["_blocks.0._se_expand.bias"])

    image, mask = sample(2, 16, 16)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    normalised = F.pad((image - mean) / deviation, (0, 1, 0, 1))
    stem = F.conv2d(normalised, state["_conv_stem.weight"], stride=2)
    norm = [state[f"_bn0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    expected = F.batch_norm(stem, *norm, eps=1e-3)
    foreground = encoder.stem_foreground(torch.cat((image, mask), 1))
    background = encoder.stem_background(torch.cat((image, 1 - mask), 1))
    found = torch.cat((foreground, background), 1)
    # at the far border a zero of padding is another colour before normalisation than after
    inside = (..., slice(0, -1), slice(0, -1))
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-4, atol=1e-4)


def test_lite_backbone_gives_the_classifier_s_features(tmp_path: Path) -> None:
    """EfficientNet-Lite takes levels less 127 over 128, has ReLU6 and no gates."""
    state = {name: t for name, t in imagenet_state().items() if "_se_" not in name}
    torch.save(state, tmp_path / "lite.pth")
    config = EncoderConfig.lite(stages=(Stage(1, 3, 1, 8, 1),), stem=8, head=16)
    encoder = Encoder(config).eval()
    load_imagenet_backbone(tmp_path / "lite.pth", encoder)

    def norm(features: torch.Tensor, name: str) -> torch.Tensor:
        parts = [state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(features, *parts, eps=1e-3)

    image, mask = sample(2, 17, 17)  # of odd sizes no side is padded alone
    levels = image * 255
    hidden = F.conv2d(
        F.pad((levels - 127) / 128, (1, 1, 1, 1)), state["_conv_stem.weight"], stride=2
    )
    hidden = F.relu6(norm(hidden, "_bn0"))
    depthwise = F.conv2d(hidden, state["_blocks.0._depthwise_conv.weight"], padding=1, groups=8)
    depthwise = F.relu6(norm(depthwise, "_blocks.0._bn1"))
    hidden = hidden + norm(
        F.conv2d(depthwise, state["_blocks.0._project_conv.weight"]), "_blocks.0._bn2"
    )
    expected = F.relu6(norm(F.conv2d(hidden, state["_conv_head.weight"]), "_bn1"))
    assert expected.std() > 0.1
    found = encoder(image, mask)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("_conv_stem.weight", None, "stem, found none"),
        ("_conv_stem.weight", (8, 4, 3, 3), r"_conv_stem.weight: .* found \[8, 4, 3, 3\]"),
        ("_conv_head.weight", (32, 8, 1, 1), r"head.conv.weight: expected shape \[16, 8, 1, 1\]"),
        ("_blocks.1._bn1.bias", (8,), r"unexpected 1 \(blocks.1.depthwise.norm.bias\)"),
    ],
)
def test_imagenet_backbone_that_does_not_fit(
    tmp_path: Path, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    state = imagenet_state()
    state.pop(name, None)
    if shape is not None:
        state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "classifier.pth")
    with pytest.raises(WeightsError, match=message):
        load_imagenet_backbone(tmp_path / "classifier.pth", imagenet_encoder())


BAD_INPUTS = {
    "image not a tensor": (lambda i, m: (i.numpy(), m), TypeError, "image: expected a tensor"),
    "image uint8": (lambda i, m: (i.byte(), m), TypeError, "image: .*torch.uint8"),
    "mask bool": (lambda i, m: (i, m.bool()), TypeError, "mask: .*torch.bool"),
    "image NHWC": (
        lambda i, m: (i.permute(0, 2, 3, 1), m),
        ValueError,
        r"image: expected \[B,3,H,W\], got \[2, 40, 56, 3\]",
    ),
    "mask 3-D": (lambda i, m: (i, m[:, 0]), ValueError, r"mask: expected \[B,1,H,W\]"),
    "sizes differ": (
        lambda i, m: (i, m[..., 1:]),
        ValueError,
        r"mask: expected \[2, 1, 40, 56\] .* got \[2, 1, 40, 55\]",
    ),
    "batches differ": (lambda i, m: (i, m[:1]), ValueError, r"got \[1, 1, 40, 56\]"),
    "no pixels": (lambda i, m: (i[:, :, :0], m[:, :, :0]), ValueError, "at least one pixel"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs(tiny: Harmonizer, case: str) -> None:
    spoil, error, message = BAD_INPUTS[case]
    with pytest.raises(error, match=message):
        tiny(*spoil(*sample()))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Harmonizer("brightness", TINY), TypeError, "filters"),
        (lambda: Harmonizer((1, 2), TINY), TypeError, "filters"),
        (lambda: Harmonizer((), TINY), ValueError, "filters: expected at least one"),
        (lambda: Harmonizer(config=TINY, input_size=0), ValueError, "input_size"),
        (lambda: EncoderConfig(stages=()), ValueError, "stages"),
        (lambda: EncoderConfig(stages=[*B0_STAGES]), TypeError, "stages"),
        (lambda: EncoderConfig(width=0), ValueError, "width"),
        (lambda: EncoderConfig(drop_connect=1.0), ValueError, "drop_connect"),
        (lambda: Encoder(EncoderConfig(stem=7)), ValueError, "stem: expected an even"),
        (lambda: Stage(1, 4, 1, 8, 1), ValueError, "kernel: expected an odd size, got 4"),
        (lambda: Stage(1, 3, 3, 8, 1), ValueError, "stride: expected 1 or 2, got 3"),
        (lambda: Stage(1, 3, 1, 8, 0), ValueError, "repeats"),
        (lambda: Stage(1, 3, 1, 8.0, 1), TypeError, "channels: expected int, got float"),
    ],
)
def test_bad_configurations(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()

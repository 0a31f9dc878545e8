# SPDX-License-Identifier: Apache-2.0
"""VHMAE: packed against padded, positions, what it learns from, weight files."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vharm.models.encoded_unet import shallow_encoder
from vharm.models.positions import sinusoids, space_time
from vharm.models.transformer import PackedAttention
from vharm.models.vhmae import Vhmae, VhmaeSize
from vharm.models.weights import WeightsError, inspect_weights, save_weights
from vharm.ops.reference.tokens import patchify, unpatchify

SMALL = VhmaeSize(24, 2, 3, 16, 2, 2)
PATCH = 8
BACKBONE = shallow_encoder(width=0.25).to_dict()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(**settings) -> Vhmae:
    torch.manual_seed(0)
    model = Vhmae(SMALL, patch=PATCH, input_size=32, **settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)  # a bias left out would show
    return model.eval()


def scene(clips: int = 3, frames: int = 2, size: tuple[int, int] = (32, 40)):
    """Clips of different foregrounds; the first clip has none, the last one nothing else."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(clips * frames, 3, *size, generator=generator)
    mask = torch.zeros(clips * frames, 1, *size)
    for number in range(frames, (clips - 1) * frames):
        mask[number, :, number : 9 + 3 * number, 4:21] = 0.5
    mask[(clips - 1) * frames :] = 1
    return image, mask


def dense(model: Vhmae, image, mask, frames: int):
    """The same network by padding: all tokens of every clip, keys that are not there masked out.

    Written from the description, with torch's own attention; only the weights are the model's.
    """
    clips, (height, width) = len(image) // frames, image.shape[2:]
    size, p = (height // PATCH, width // PATCH), PATCH
    masked = F.max_pool2d(mask, p).flatten(1).reshape(clips, -1) > 0
    patches = patchify(image, p).reshape(clips, -1, 3 * p * p)
    order = torch.arange(patches.shape[1])

    def places(channels):
        return space_time(order, size, channels, frames_per_clip=frames, grid=32 // p)

    def run(transformer, tokens, there):
        keys = there[:, None, None, :].expand(-1, 1, tokens.shape[1], -1).clone()
        keys |= ~there.any(1)[:, None, None, None]  # of no keys the softmax is not defined
        for block in transformer.blocks:
            normed, attention = block.attention_norm(tokens), block.attention
            q, k, v = (normed @ attention.qkv.weight.T).chunk(3, -1)
            q, v = q + attention.query_bias, v + attention.value_bias
            q, k, v = (t.unflatten(2, (attention.heads, -1)).transpose(1, 2) for t in (q, k, v))
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
            tokens = tokens + attention.project(seen.transpose(1, 2).flatten(2))
            tokens = tokens + block.contract(F.gelu(block.expand(block.mlp_norm(tokens))))
        return transformer.norm(tokens)

    visible = run(model.encoder, model.embed(2 * patches - 1) + places(SMALL.width), ~masked)
    hidden = model.mask_token if model.pattern is None else model.pattern(2 * patches - 1)
    every = torch.where(masked[..., None], hidden, visible) @ model.project.weight.T
    every = run(model.decoder, every + places(SMALL.decoder_width), torch.ones_like(masked))
    painted = model.paint(every)
    painted = patches + painted if model.paints == "change" else painted
    whole = torch.where(masked[..., None], painted, patches)
    return unpatchify(whole.flatten(0, 1), tuple(image.shape), p), visible, masked


@pytest.mark.parametrize("settings", [{}, {"pattern": False}, {"paints": "change"}])
@pytest.mark.parametrize("frames", [1, 2])
def test_packed_equals_padded(settings, frames):
    model = network(**settings)
    image, mask = scene(frames=frames, clips=4)
    with torch.no_grad():
        found = model(image, mask, frames_per_clip=frames)
        expected, visible, masked = dense(model, image, mask, frames)
    torch.testing.assert_close(found.image, expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.visible.tokens, visible[~masked], atol=2e-5, rtol=1e-5)
    assert torch.equal(found.masked.flatten(), masked.flatten())
    if frames == 2:
        # The control: frames that do not see one another give something else.
        with torch.no_grad():
            alone = model(image, mask)
        assert (alone.image - expected).abs().max() > 1e-3


def test_clips_do_not_see_one_another_and_order_does_not_matter():
    model = network()
    image, mask = scene(clips=4)
    order = torch.tensor([4, 5, 0, 1, 6, 7, 2, 3])  # clips of two frames, shuffled
    with torch.no_grad():
        straight = model(image, mask, frames_per_clip=2).image
        shuffled = model(image[order], mask[order], frames_per_clip=2).image
        frames_swapped = model(image.flip(0), mask.flip(0), frames_per_clip=2).image.flip(0)
    torch.testing.assert_close(shuffled, straight[order], atol=2e-5, rtol=1e-5)
    # The control: within a clip the order does matter.
    assert (frames_swapped - straight).abs().max() > 1e-3


def test_tokens_carry_their_places_with_them():
    model = network()
    image, _ = scene(clips=1, frames=1)
    keep = torch.ones(1, 20, dtype=torch.bool)
    with torch.no_grad():
        packed = model.encode(image, keep)
        tokens = model.embed(2 * patchify(image, PATCH) - 1)
        tokens = tokens + space_time(packed.index, (4, 5), SMALL.width, grid=4)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        shuffled = model.encoder(tokens[order], packed.bounds, 20)
        torch.testing.assert_close(shuffled, packed.tokens[order], atol=1e-5, rtol=1e-5)


def test_what_is_outside_the_mask_s_patches_comes_back_as_it_was():
    model = network()
    image, mask = scene(clips=4)
    with torch.no_grad():
        painted = model(image, mask, frames_per_clip=2)
    touched = F.interpolate(F.max_pool2d(mask, PATCH), scale_factor=PATCH).bool().expand_as(image)
    assert torch.equal(painted.image[~touched], image[~touched])
    assert not torch.isclose(painted.image[touched], image[touched]).all()
    assert torch.equal(painted.image[:2], image[:2])  # no foreground at all
    assert painted.image.isfinite().all()
    assert len(painted.pattern.tokens) == int(painted.masked.sum())


@pytest.mark.parametrize("settings", [{}, {"backbone": BACKBONE}])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_frames_without_foreground_or_without_anything_else(value, settings):
    model = network(paints="change", **settings)
    image = torch.rand(2, 3, 16, 24)
    painted = model(image, torch.full((2, 1, 16, 24), value), frames_per_clip=2)
    assert painted.image.isfinite().all()
    assert bool(painted.masked.all()) == bool(value)
    painted.image.square().mean().backward()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    none = model(image[:0], torch.zeros(0, 1, 16, 24))
    assert none.image.shape == (0, 3, 16, 24)


@pytest.mark.parametrize(
    "settings",
    [{}, {"pattern": False}, {"paints": "change"}, {"backbone": BACKBONE},
     {"backbone": BACKBONE, "pattern": False}],
)  # fmt: skip
def test_gradients_reach_every_parameter(settings):
    model = network(**settings)
    image, mask = scene(clips=4)
    model(image, mask, frames_per_clip=2).patches.square().mean().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("backbone."):
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_backbone_lends_each_patch_its_own_features():
    model = network(backbone=BACKBONE)
    image, mask = scene(clips=4)
    lent = model.backbone.of_patches(image, mask, PATCH)
    first = model.backbone(image, mask)[0]  # half of the resolution
    assert lent.shape == (8, 20, sum(model.backbone.level_channels))
    expected = F.avg_pool2d(first, PATCH // 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(lent[..., : first.shape[1]], expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        found = model(image, mask, frames_per_clip=2)
        for part in (model.lend, model.lend_pattern):
            torch.nn.init.zeros_(part[1].weight)
            torch.nn.init.zeros_(part[1].bias)
        without = model(image, mask, frames_per_clip=2)
        plain = network()
        plain.load_state_dict(model.state_dict(), strict=False)
        expected = plain(image, mask, frames_per_clip=2)
    assert (found.patches - without.patches).abs().max() > 1e-3
    torch.testing.assert_close(without.patches, expected.patches)
    assert not model.train().backbone.training


def test_half_precision_arithmetic_gives_nearly_the_same():
    model = network(paints="change")
    image, mask = scene(clips=4)
    with torch.no_grad():
        expected = model(image, mask, frames_per_clip=2)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(image, mask, frames_per_clip=2)
    assert found.image.dtype == torch.float32
    torch.testing.assert_close(found.image, expected.image, atol=0.05, rtol=0)
    assert not torch.equal(found.image, expected.image)


def test_pam_makes_the_difference_between_foregrounds():
    image, mask = scene(clips=4)
    other = torch.where(mask > 0, 1 - image, image)
    with torch.no_grad():
        # Boundary patches hold background too, so that only whole ones are compared.
        mask = (F.interpolate(F.max_pool2d(mask, PATCH), scale_factor=PATCH) > 0).float()
        other = torch.where(mask > 0, 1 - image, image)
        blind = network(pattern=False)
        assert torch.equal(blind(image, mask).patches, blind(other, mask).patches)
        seeing = network()
        assert (seeing(image, mask).patches - seeing(other, mask).patches).abs().max() > 1e-3


def test_positions_of_other_sizes_lie_between_those_trained_on():
    trained = space_time(torch.arange(16), (4, 4), 24, grid=4)
    larger = space_time(torch.arange(64), (8, 8), 24, grid=4).reshape(8, 8, 24)
    # The middle of four small patches is the large one's middle.
    mean = larger.reshape(4, 2, 4, 2, 24).mean((1, 3)).flatten(0, 1)
    assert (mean - trained).abs().max() < 0.05
    assert (larger.flatten(0, 1)[:16] - trained).abs().max() > 0.5  # not simply counted on
    wide = space_time(torch.arange(8), (2, 4), 24, grid=4).reshape(2, 4, 24)
    torch.testing.assert_close(wide, trained.reshape(4, 4, 24)[1:3])  # centred, not stretched


def test_positions_in_time_count_from_the_current_frame():
    single = space_time(torch.arange(4), (2, 2), 16, grid=2)
    four = space_time(torch.arange(16), (2, 2), 16, frames_per_clip=4, grid=2).reshape(4, 4, 16)
    torch.testing.assert_close(four[1], single)
    apart = [(four[t] - four[1]).abs().max() for t in (0, 2, 3)]
    assert min(apart) > 0.5
    pair = space_time(torch.arange(8), (2, 2), 16, frames_per_clip=2, grid=2).reshape(2, 4, 16)
    torch.testing.assert_close(pair, four[1:3])
    again = space_time(torch.arange(16, 32), (2, 2), 16, frames_per_clip=4, grid=2)
    torch.testing.assert_close(again, four.flatten(0, 1))  # the next clip begins anew
    assert sinusoids(torch.zeros(3), 8)[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert space_time(torch.arange(4), (2, 2), 20).shape == (4, 20)
    with pytest.raises(ValueError, match="width: expected a multiple of 4"):
        space_time(torch.arange(4), (2, 2), 18)


@pytest.mark.parametrize(
    ("name", "parameters", "limit"),
    [("tiny", 4_844_416, 12e6), ("small", 24_178_560, None), ("base", 95_099_904, None)],
)
def test_sizes(name, parameters, limit, tmp_path):
    with torch.device("meta"):
        model = Vhmae(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    if limit:
        path = tmp_path / "vhmae.safetensors"
        model = Vhmae(name)
        save_weights(path, model, architecture="vhmae", config=model.settings())
        assert path.stat().st_size < limit


@pytest.mark.parametrize("settings", [{}, {"backbone": BACKBONE}])
def test_weight_files_rebuild_the_network(tmp_path, settings):
    model = network(paints="change", windows=(1, 4), **settings)
    path = tmp_path / "vhmae.safetensors"
    save_weights(path, model, architecture="vhmae", config=model.settings())
    again = Vhmae.from_weights(path)
    assert again.settings() == model.settings()
    assert inspect_weights(path)["config"]["windows"] == [1, 4]
    image, mask = scene(clips=2)
    with torch.no_grad():
        torch.testing.assert_close(
            again(image, mask).image, model(image, mask).image, atol=3e-3, rtol=3e-3
        )
    save_weights(path, model, architecture="vhmae", config={**model.settings(), "wings": 2})
    with pytest.raises(WeightsError, match="bad configuration.*wings"):
        Vhmae.from_weights(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vhmae("huge"), "size: expected one of tiny, small, base, got 'huge'"),
        (lambda: Vhmae(paints="hue"), "paints: expected one of colour, change"),
        (lambda: Vhmae(input_size=100), "input_size: expected a multiple of the patch, 16"),
        (lambda: Vhmae(windows=()), "windows: expected numbers of frames"),
        (lambda: VhmaeSize(depth=0), "depth: expected a positive whole number, got 0"),
        (lambda: PackedAttention(16, 3), "heads: expected a divisor of the width 16, got 3"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_input_is_named():
    model = network()
    image, mask = scene()
    with pytest.raises(TypeError, match="image: expected a floating-point tensor"):
        model(image.byte(), mask)
    with pytest.raises(ValueError, match=r"mask: expected \[6, 1, 32, 40\] to match image"):
        model(image, mask[:2])
    with pytest.raises(ValueError, match="frames_per_clip must divide the 6 frames"):
        model(image, mask, frames_per_clip=4)
    with pytest.raises(ValueError, match="multiples of patch = 8"):
        model(image[..., :39], mask[..., :39])

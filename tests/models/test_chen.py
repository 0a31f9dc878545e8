# SPDX-License-Identifier: Apache-2.0
"""Chen et al.: windows, flow, the aggregator, and what switches switch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vharm.models import Chen, Issam, WeightsError, save_weights
from vharm.models.chen import Aggregator
from vharm.models.issam import Painted

torch.set_num_threads(1)

TINY = {"width": 4, "nonlocal_levels": (), "input_size": None}


def tiny(**settings):
    torch.manual_seed(1)
    model = Chen(TINY, **{"blocks": 1, "channels": 8, **settings}).eval()
    nn.init.normal_(model.output.weight, std=0.1)
    return model


def window(count=5, size=24):
    generator = torch.Generator().manual_seed(2)
    frames = torch.rand(2, count, 3, size, size, generator=generator)
    masks = torch.zeros(2, count, 1, size, size)
    masks[..., 4:18, 6:20] = 1
    return frames, masks, torch.zeros(2, count - 1, 2, size, size)


def test_parameters_by_hand():
    base = sum(p.numel() for p in Issam(nonlocal_levels=(0, 1)).parameters())
    gate = 32 * 32 + (32 * 32 + 32)
    decoder = (96 * 32 * 9 + 32) + 5 * 2 * (32 * 32 * 9 + 32) + (32 * 3 * 9 + 3)
    assert sum(p.numel() for p in Chen().parameters()) == base + gate + decoder
    one_way = sum(p.numel() for p in Chen(directions="past").parameters())
    assert one_way == base + gate + decoder - 32 * 32 * 9
    assert sum(p.numel() for p in Chen(aggregator=False).parameters()) == base + decoder


@pytest.mark.parametrize(
    ("frames", "directions", "offsets"),
    [
        (3, "both", (-1, 1)),
        (5, "both", (-2, -1, 1, 2)),
        (7, "both", (-3, -2, -1, 1, 2, 3)),
        (5, "past", (-2, -1)),
    ],
)
def test_offsets(frames, directions, offsets):
    model = tiny(frames=frames, directions=directions)
    assert model.offsets == offsets
    clip = window(1 + len(offsets))
    assert model(*clip).shape == (2, 3, 24, 24)


def test_training_starts_at_the_base():
    frames, masks, flows = window()
    model = Chen(TINY).eval()
    torch.testing.assert_close(model(frames, masks, flows), model.base(frames[:, 2], masks[:, 2]))
    assert not torch.allclose(
        Chen(TINY, residual=False).eval()(frames, masks, flows),
        model.base(frames[:, 2], masks[:, 2]), atol=0.05,
    )  # fmt: skip


def test_every_neighbour_counts_and_only_the_past_where_that_is_asked():
    frames, masks, flows = window()
    model = tiny()
    out = model(frames, masks, flows)
    for place in range(5):
        other = frames.clone()
        other[:, place] = 0.5
        assert not torch.allclose(model(other, masks, flows), out, atol=1e-5), place
    past = tiny(directions="past")
    assert past.reach == 2
    assert past(frames[:, :3], masks[:, :3], flows[:, :2]).shape == out.shape


def test_flow_leads_from_the_current_frame_to_its_neighbour():
    model = tiny(aggregator=False)
    features = torch.randn(1, 4, 24, 24)
    current = Painted(torch.randn(1, 3, 24, 24), features)
    still = features[:, None].expand(1, 4, 4, 24, 24).contiguous()
    moved = still.roll((3, -2), (3, 4))  # 3 down and 2 to the left
    mask = torch.ones(1, 1, 24, 24)
    flows = torch.zeros(1, 4, 2, 24, 24)
    expected = model.fuse(current, mask, still, flows)
    flows[:, :, 0], flows[:, :, 1] = -2, 3
    inside = (slice(None), slice(None), slice(8, 16), slice(8, 16))
    out = model.fuse(current, mask, moved, flows)
    torch.testing.assert_close(out[inside], expected[inside])
    wrong = model.fuse(current, mask, moved, -flows)
    assert not torch.allclose(wrong[inside], expected[inside], atol=1e-3)


def test_aggregator_by_hand():
    part = Aggregator(4)
    nn.init.normal_(part.phi.bias)
    warped, current = torch.randn(2, 3, 4, 6, 6), torch.randn(2, 4, 6, 6)
    mask = torch.rand(2, 1, 6, 6)
    found = part(warped, current, mask, lists=3).unbind(1)
    assert len(found) == 3
    torch.testing.assert_close(part(warped, current, mask)[:, 0], sum(found) / 3)
    for k in range(3):
        one = warped[:, k]
        gate = torch.sigmoid((part.theta(one) * part.phi(current)).sum(1, keepdim=True))
        torch.testing.assert_close(found[k], mask * one * gate + (1 - mask) * one)
        swapped = mask * one * gate + (1 - mask) * current
        assert not torch.allclose(found[k], swapped, atol=1e-3)
        turned = torch.sigmoid((part.phi(one) * part.theta(current)).sum(1, keepdim=True))
        assert not torch.allclose(found[k], mask * one * turned + (1 - mask) * one, atol=1e-3)
    still = part(warped, current, torch.zeros_like(mask), lists=3)
    assert torch.equal(still, warped)


def test_aggregator_keeps_lists_apart():
    part = Aggregator(4)
    warped, current, mask = (
        torch.randn(2, 6, 4, 6, 6),
        torch.randn(2, 4, 6, 6),
        torch.rand(2, 1, 6, 6),
    )
    found = part(warped, current, mask, lists=2)
    assert found.shape == (2, 2, 4, 6, 6)
    for one, run in zip(found.unbind(1), (slice(0, 3), slice(3, 6)), strict=True):
        torch.testing.assert_close(one, part(warped[:, run], current, mask)[:, 0])


def test_directions_are_kept_apart():
    model = tiny(aggregator=False)
    features = torch.randn(1, 4, 16, 16)
    current = Painted(torch.zeros(1, 3, 16, 16), features)
    others = torch.randn(1, 4, 4, 16, 16)
    mask, flows = torch.ones(1, 1, 16, 16), torch.zeros(1, 4, 2, 16, 16)
    out = model.fuse(current, mask, others, flows)
    within = model.fuse(current, mask, others[:, [1, 0, 3, 2]], flows)
    across = model.fuse(current, mask, others[:, [2, 1, 0, 3]], flows)
    torch.testing.assert_close(within, out)
    assert not torch.allclose(across, out, atol=1e-4)


def test_frozen_base_gets_no_gradient_and_keeps_its_statistics():
    frames, masks, flows = window()
    model = tiny().train()
    before = {name: t.clone() for name, t in model.base.state_dict().items()}
    model.frozen_base = True
    model(frames, masks, flows).sum().backward()
    assert all(p.grad is None for p in model.base.parameters())
    assert model.output.weight.grad.any()
    for name, tensor in model.base.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    model.frozen_base = False
    model.train()(frames, masks, flows).sum().backward()
    assert model.base.encoder[0][0][0].weight.grad.any()


def test_weight_file_round_trip(tmp_path):
    model = tiny(frames=3, directions="past", aggregator=False, residual=False)
    path = tmp_path / "chen.safetensors"
    save_weights(path, model, architecture="chen", config=model.settings())
    again = Chen.from_weights(path)
    assert again.settings() == model.settings()
    clip = window(2)
    torch.testing.assert_close(again(*clip), model(*clip), atol=5e-3, rtol=1e-2)
    save_weights(path, model, architecture="chen", config={**model.settings(), "frames": 4})
    with pytest.raises(WeightsError, match="frames: expected an odd number"):
        Chen.from_weights(path)


def test_files_stay_small():
    assert sum(t.numel() for t in Chen().state_dict().values()) * 2 < 12e6


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Chen(frames=4), ValueError, "frames: expected an odd number of 3 or more, got 4"),
        (lambda: Chen(directions="future"), ValueError, "directions: expected one of both, past"),
        (lambda: Chen({"wide": 3}), TypeError, "wide"),
        (lambda: tiny()(*window(3)), ValueError, r"frames: expected \[2, 5, 3, 24, 24\]"),
        (lambda: tiny()(*window()[:2], None), TypeError, "flows: .*NoneType"),
        (
            lambda: tiny()(*window()[:2], window()[2][:, :2]), ValueError,
            r"flows: expected \[2, 4, 2, 24, 24\], got \[2, 2",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, text):
    with pytest.raises(error, match=text):
        call()

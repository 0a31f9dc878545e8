# SPDX-License-Identifier: Apache-2.0
"""Training the adversarial network: its pairs, its losses, whose turn it is, and what is left."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scenes import disc_scene

from vharm.models import Harmonizer, Huang, save_weights
from vharm.models.efficientnet import EncoderConfig
from vharm.training import ConfigError, Trainer, adversarial, export_weights, make_config
from vharm.training.motion_data import open_motion
from vharm.training.recipes.huang import HuangConfig, HuangRecipe

torch.set_num_threads(1)
cv2 = pytest.importorskip("cv2")
pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen photographs with masks, as users have them."""
    path = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks"):
        (path / kind).mkdir()
    for i in range(16):
        one = disc_scene(i, 48)
        picture = one.frames[0].permute(1, 2, 0).numpy()[..., ::-1]
        cv2.imwrite(str(path / "images" / f"{one.name}.png"), picture)
        cv2.imwrite(str(path / "masks" / f"{one.name}.png"), one.masks[0, 0].numpy())
    return path


@pytest.fixture
def recipe(folder, tmp_path):
    """Makes a recipe of tiny networks."""

    def make(**settings):
        values = {
            "data": str(folder), "output": str(tmp_path / "run"), "size": SIDE, "batch": 2,
            "steps": 3, "validate_every": 3, "log_every": 1, "width": 4, "widest": 8, "depth": 3,
            "hold_out": 0.25, "device": "cpu", "threads": 1, "pictures": 1, "learning_rate": 2e-3,
            "shares": [1.0, 0.0, 0.3], **settings,
        }  # fmt: skip
        return HuangRecipe(make_config(HuangConfig, values=values))

    return make


def log_of(recipe):
    with open(f"{recipe.config.output}/log.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_photographs_without_masks_join_with_masks_of_others(folder, tmp_path):
    import shutil

    data = tmp_path / "more"
    shutil.copytree(folder, data)
    (data / "images" / "unmasked").mkdir()
    for i in range(20, 25):
        picture = disc_scene(i, 48).frames[0].permute(1, 2, 0).numpy()
        cv2.imwrite(str(data / "images" / "unmasked" / f"p{i}.png"), picture)
    sizes = {}
    for borrowed in (False, True):
        config = make_config(HuangConfig, values={"data": str(data), "size": SIDE})
        found = open_motion(
            config, 2, hold_out=0.25, held=3, shares=config.shares, coverage=(0.1, 0.75),
            borrowed=borrowed,
        )  # fmt: skip
        sizes[borrowed] = len(found.training)
        assert len(found.held) == 3
    assert sizes == {False: 12, True: 17}


def test_losses_are_the_papers():
    torch.manual_seed(0)
    o, i, x, m = (torch.rand(2, 1, 4, 5) for _ in range(4))
    n = 20
    by_hand = ((o - m) ** 2).sum() / (2 * n) + ((i - m) ** 2).sum() / (2 * n) + (x**2).sum() / n
    torch.testing.assert_close(adversarial.discriminator_loss(o, i, x, m), by_hand / 2)
    a, b = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    expected = ((a - b) ** 2).sum() / n / 2
    torch.testing.assert_close(adversarial.reconstruction_loss(a, b), expected)
    pair = torch.stack((a, b), 1)
    mask = (m > 0.5).float()
    flow, valid = torch.zeros(2, 2, 4, 5), torch.ones(2, 1, 4, 5, dtype=torch.bool)
    square = ((b - a) ** 2 * mask).sum((1, 2, 3))
    expected = (square / mask.sum((1, 2, 3))).mean()
    found = adversarial.temporal_loss(pair, mask, flow, valid)
    torch.testing.assert_close(found, expected)
    found = adversarial.temporal_loss(pair, mask, flow, valid, "global")
    torch.testing.assert_close(found, ((b - a) ** 2).sum((1, 2, 3)).mean() / n)


def one_step(made, networks, trained=("discriminator", "generator")):
    """Runs a step; which networks changed at which update, and the figures."""
    data = made.training_set()
    batch = made.collate([data[(0, i)] for i in range(2)])
    optimizers = made.optimizers(networks)
    changes = []

    def update(name, loss):
        before = {k: [p.clone() for p in n.parameters()] for k, n in networks.items()}
        optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[name].step()
        changed = {
            k
            for k, n in networks.items()
            if any(not torch.equal(p, q) for p, q in zip(before[k], n.parameters(), strict=True))
        }
        left = {
            k for k, n in networks.items() if k != name and any(
                p.grad is not None and p.grad.abs().sum() > 0 for p in n.parameters()
            )
        }  # fmt: skip
        changes.append((name, changed, left))

    return changes, made.step(networks, batch, torch.device("cpu"), update)


def test_discriminator_first_and_each_step_touches_its_own_network(recipe):
    made = recipe()
    changes, figures = one_step(made, made.networks())
    assert [(name, changed) for name, changed, _ in changes] == [
        ("discriminator", {"discriminator"}), ("generator", {"generator"}),
    ]  # fmt: skip
    # The discriminator's step sends nothing into the generator.
    assert changes[0][2] == set()
    assert set(figures) == {
        "loss", "reconstruction", "temporal", "adversarial", "discriminator",
    }  # fmt: skip
    config = made.config
    expected = (
        figures["reconstruction"] + config.temporal_weight * figures["temporal"]
        + config.adversarial_weight * figures["adversarial"]
    )  # fmt: skip
    torch.testing.assert_close(figures["loss"], expected)
    assert not any(value.requires_grad for value in figures.values())


def test_ablations(recipe):
    made = recipe(adversarial_weight=0.0)
    networks = made.networks()
    assert set(networks) == {"generator"}
    changes, figures = one_step(made, networks)
    assert [name for name, _, _ in changes] == ["generator"]
    assert "adversarial" not in figures
    made = recipe(temporal_weight=0.0, adversarial_weight=0.0)
    _, figures = one_step(made, made.networks())
    torch.testing.assert_close(figures["loss"], figures["reconstruction"])
    assert figures["temporal"] > 0
    torch.manual_seed(0)
    networks = made.networks()
    given = {}
    for kind in ("regional", "global"):
        made = recipe(temporal=kind, adversarial_weight=0.0)
        torch.manual_seed(0)
        given[kind] = one_step(made, made.networks())[1]
    assert given["regional"]["reconstruction"] == given["global"]["reconstruction"]
    assert given["regional"]["temporal"] != given["global"]["temporal"]


def test_what_the_generator_is_given_as_mask(recipe):
    seen = {}
    mask = torch.rand(6, 1, SIDE, SIDE)
    composite = torch.rand(6, 3, SIDE, SIDE)
    for kind in ("given", "none", "mixed"):
        made = recipe(mask_input=kind)
        torch.manual_seed(0)
        networks = made.networks()
        said = networks["discriminator"](composite).clamp(0, 1)
        seen[kind] = made._shown(mask, composite, networks["discriminator"])
    assert torch.equal(seen["given"], mask)
    assert not seen["none"].any()
    from_map = torch.tensor([False, False, True, True, False, False])
    torch.testing.assert_close(seen["mixed"][~from_map], mask[~from_map])
    torch.testing.assert_close(seen["mixed"][from_map], said[from_map])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"temporal": "local"}, "temporal: expected one of regional, global"),
        ({"mask_input": "predicted"}, "start: expected weights"),
        ({"adversarial_weight": -1.0}, "adversarial_weight"),
        ({"betas": [0.9]}, "betas"),
        ({"hold_out": 0.0}, "hold_out"),
        ({"min_coverage": 0.9}, "min_coverage"),
        ({"shares": [0.0, 1.0, 0.0]}, "shares"),
    ],
)
def test_settings_that_make_no_sense(recipe, settings, match):
    with pytest.raises(ConfigError, match=match):
        recipe(**settings)


def test_training_learns_and_what_it_leaves_can_be_used(recipe, tmp_path):
    """A hundred steps on few pictures: less error than cut-and-paste leaves."""
    made = recipe(steps=100, validate_every=100, residual=True, width=8, widest=16, average=0.9)
    outcome = Trainer(made, say=None).run()
    lines = log_of(made)
    losses = [line["reconstruction"] for line in lines if line["part"] == "train"]
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:20])
    judged = [line["discriminator"] for line in lines if line["part"] == "train"]
    assert np.mean(judged[-20:]) < 0.7 * np.mean(judged[:20])
    figures = outcome.figures
    assert figures["psnr"] > figures["composite_psnr"] + 1
    assert {"predicted_psnr", "zero_psnr", "lt1", "mse", "composite_lt1"} <= set(figures)
    assert figures["map_inside"] > figures["map_outside"] + 0.2
    paths = export_weights(made.config.output, tmp_path / "out")
    assert [p.name for p in paths] == ["huang.safetensors", "huang.md"]
    whole = Huang.from_weights(paths[0])
    assert whole.input_size == SIDE
    assert whole.discriminator is not None
    assert whole.generator.residual

    tuned = recipe(
        start=str(paths[0]), mask_input="predicted", residual=True, width=8, widest=16,
        output=str(tmp_path / "tuned"),
    )  # fmt: skip
    networks = tuned.networks()
    torch.testing.assert_close(networks["generator"].state_dict(), whole.generator.state_dict())
    assert set(tuned.optimizers(networks)) == {"generator"}
    changes, figures = one_step(tuned, networks)
    assert [name for name, _, _ in changes] == ["generator"]
    assert figures["adversarial"] > 0
    with pytest.raises(ConfigError, match="start: the (generator|discriminator) of"):
        recipe(start=str(paths[0])).networks()


def test_resuming_gives_the_numbers_that_would_have_been(recipe, tmp_path):
    straight = recipe(steps=4, validate_every=2, output=str(tmp_path / "a"))
    Trainer(straight, say=None).run()
    parted = recipe(steps=4, validate_every=2, output=str(tmp_path / "b"))
    trainer = Trainer(parted, say=None)
    stop_after = 2
    one = trainer._one_step

    def stopping(batch):
        losses = one(batch)
        if trainer.step == stop_after:
            trainer._stop = "interrupted"
        return losses

    trainer._one_step = stopping
    assert trainer.run().step == stop_after
    Trainer(parted, resume=True, say=None).run()
    for first, second in zip(log_of(straight), log_of(parted), strict=True):
        assert first | {"seconds": 0} == second | {"seconds": 0}


def test_workers_give_the_same_batches(recipe):
    from torch.utils.data import DataLoader

    from vharm.training.order import Order

    made = recipe()
    data = made.training_set()
    found = []
    for workers in (0, 1):
        loader = DataLoader(
            data, batch_sampler=Order(len(data), 2, seed=0), collate_fn=made.collate,
            num_workers=workers,
        )  # fmt: skip
        found.append(next(iter(loader)))
    for name in ("composite", "target", "masks", "flow", "valid"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name)), name


def test_both_encoders_start_from_trained_weights(recipe, tmp_path):
    torch.manual_seed(0)
    donor = Harmonizer(config=EncoderConfig.lite())
    path = tmp_path / "donor.safetensors"
    save_weights(path, donor, architecture="harmonizer", config=donor.settings())
    made = recipe(encoder=str(path), compress=0.01, steps=1, validate_every=1, batch=1)
    networks = made.networks()
    for network in networks.values():
        mine = network.unet.encoder.stem_foreground.conv.weight
        torch.testing.assert_close(
            mine, donor.encoder.stem_foreground.conv.weight, rtol=1e-3, atol=1e-3
        )
    Trainer(made, say=None).run()
    exported = export_weights(
        made.config.output, tmp_path / "out", settings=["input_size=64"]
    )[0]  # fmt: skip
    whole = Huang.from_weights(exported)
    assert whole.input_size == 64
    again = recipe(encoder=str(path), start=str(exported)).networks()
    torch.testing.assert_close(again["generator"].state_dict(), whole.generator.state_dict())

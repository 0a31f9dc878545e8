# SPDX-License-Identifier: Apache-2.0
"""VHMAE's losses by hand, and a small training from photographs to a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")
pytest.importorskip("cv2")

from scenes import write_photographs

from vharm import methods
from vharm.models.efficientnet import EncoderConfig
from vharm.models.harmonizer import Harmonizer
from vharm.models.vhmae import SIZES, Packed, Vhmae, VhmaeSize
from vharm.models.weights import save_weights
from vharm.ops.reference.tokens import patchify
from vharm.training import (
    ConfigError,
    Trainer,
    export_weights,
    get_recipe,
    make_config,
    masked_losses,
)
from vharm.training.recipes.vhmae import VhmaeConfig, VhmaeRecipe, extra_patches
from vharm.training.windows import apart

SMALL = VhmaeSize(32, 2, 2, 32, 2, 2)
PATCH = 8


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", SMALL)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs") / "set", 16, 64)


def network(**settings: Any) -> Vhmae:
    torch.manual_seed(0)
    return Vhmae(SMALL, patch=PATCH, input_size=32, **settings)


def scene(clips: int = 2, frames: int = 2):
    generator = torch.Generator().manual_seed(1)
    image, target = torch.rand(2, clips * frames, 3, 32, 32, generator=generator)
    mask = torch.zeros(clips * frames, 1, 32, 32)
    for number in range(len(mask)):
        mask[number, :, 4 : 12 + 4 * number, 4:20] = 1
    return image, mask, target


# ---- losses -------------------------------------------------------------------------------------


def test_the_terms_are_the_papers():
    image, mask, target = scene()
    painted = network()(image, mask, frames_per_clip=2)
    settings = {"patch": PATCH, "frames_per_clip": 2}
    literal = masked_losses.terms(painted, target, literal=True, **settings)
    means = masked_losses.terms(painted, target, **settings)

    masked = painted.masked.flatten()
    errors = (patchify(painted.image, PATCH) - patchify(target, PATCH)).square().sum(1)
    clips, frames, patches = 2, 2, 16
    expected = errors[masked].sum() / (clips * frames * patches)  # eq. 1
    torch.testing.assert_close(literal.reconstruction, expected)
    torch.testing.assert_close(means.reconstruction, expected / (3 * PATCH**2))

    aligned = []
    for clip in range(clips):
        front, behind = (
            part.tokens[part.bounds[clip] : part.bounds[clip + 1]]
            for part in (painted.pattern, painted.visible)
        )
        distance = (front.T @ front - behind.T @ behind).square().sum()  # eq. 2, summed over t
        per_frame = len(front) / frames, len(behind) / frames
        aligned.append(distance / (frames * per_frame[0] * per_frame[1]))  # eq. 3
    expected = torch.stack(aligned).mean()
    torch.testing.assert_close(literal.alignment, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(means.alignment, expected / 32**2, rtol=1e-4, atol=1e-6)

    across = painted.image.diff(dim=3).square().sum()
    down = painted.image.diff(dim=2).square().sum()
    expected = (across + down) / (clips * frames)  # eq. 4 and 5
    torch.testing.assert_close(literal.balance, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(means.balance, expected / (3 * 32 * 32), rtol=1e-4, atol=1e-6)

    total = means.total(0.5, 0.25)
    parts = means.reconstruction + 0.5 * means.alignment + 0.25 * means.balance
    torch.testing.assert_close(total, parts)
    assert torch.equal(means.total(0, 0), means.reconstruction)


def test_terms_not_wanted_are_zero():
    image, mask, target = scene()
    painted = network()(image, mask)
    terms = masked_losses.terms(
        painted, target, patch=PATCH, alignment_wanted=False, balance_wanted=False
    )
    assert terms.alignment == 0 == terms.balance
    blind = network(pattern=False)(image, mask)
    assert masked_losses.terms(blind, target, patch=PATCH).alignment == 0


def test_alignment_teaches_pam_and_not_the_encoder():
    image, mask, _ = scene()
    model = network()
    painted = model(image, mask, frames_per_clip=2)
    masked_losses.alignment(painted.pattern, painted.visible, 2).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.pattern.parameters())
    assert all(p.grad is None or not p.grad.any() for p in model.encoder.parameters())
    assert model.embed.weight.grad is None or not model.embed.weight.grad.any()


def test_alignment_is_zero_for_the_same_tokens_or_where_a_kind_is_absent():
    tokens = torch.rand(6, 8, requires_grad=True)
    index, bounds = torch.arange(6), torch.tensor([0, 2, 6], dtype=torch.int32)
    same = Packed(tokens, index, bounds)
    assert masked_losses.alignment(same, Packed(tokens.detach(), index, bounds)) == 0
    absent = Packed(tokens[2:].detach() + 1, index[2:], torch.tensor([0, 0, 4], dtype=torch.int32))
    first_only = masked_losses.alignment(same, absent)
    other = Packed(tokens[2:], index[2:], torch.tensor([0, 4], dtype=torch.int32))
    alone = masked_losses.alignment(
        other, Packed(absent.tokens, index[2:], torch.tensor([0, 4], dtype=torch.int32))
    )
    torch.testing.assert_close(first_only, alone / 2)
    assert alone > 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_losses_of_empty_and_full_foregrounds_are_finite(value: float):
    image, mask, target = scene()
    model = network()
    painted = model(image, torch.full_like(mask, value), frames_per_clip=2)
    terms = masked_losses.terms(painted, target, patch=PATCH, frames_per_clip=2)
    assert terms.alignment == 0
    assert (terms.reconstruction > 0) == bool(value)
    terms.total().backward()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_balancing_smooths():
    """Descending the balance term alone lowers the steps at patch borders."""
    from vharm.evaluation.grid import grid_energy

    image, mask, _ = scene()
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = grid_energy(model(image, mask).image.detach(), mask, patch=PATCH)
    for _ in range(15):
        optimizer.zero_grad()
        masked_losses.balance(model(image, mask).image).backward()
        optimizer.step()
    after = grid_energy(model(image, mask).image.detach(), mask, patch=PATCH)
    assert after.border.sum() < 0.8 * before.border.sum()


# ---- the recipe ---------------------------------------------------------------------------------

SETTINGS = {
    "size": 32, "patch": PATCH, "batch": 8, "steps": 60, "validate_every": 30, "log_every": 5,
    "shares": "1,0,0", "jitter": 0, "hold_out": 0.25, "average": 0.9, "device": "cpu",
    "pictures": 2, "learning_rate": 2e-3, "least_crop": 1,
}  # fmt: skip


def recipe(photographs: Path, **changes: Any) -> VhmaeRecipe:
    settings = [f"{k}={v}" for k, v in {**SETTINGS, **changes}.items()]
    return VhmaeRecipe(make_config(VhmaeConfig, None, settings, {"data": str(photographs)}))


def losses_of(one: VhmaeRecipe, steps: int, key: str = "reconstruction") -> list[float]:
    """The losses of steps that see the same batch again and again."""
    torch.manual_seed(0)
    networks = one.networks()
    optimizers = one.optimizers(networks)

    def update(name: str, loss: torch.Tensor) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    data = one.training_set()
    batch = one.collate([data[0, i] for i in range(min(8, len(data)))])
    device = torch.device("cpu")
    return [float(one.step(networks, batch, device, update)[key]) for _ in range(steps)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"paints": "change", "extra_masking": 0.5},
        {"pattern": "false"},
        {"windows": "2", "dancing": 1},
        {"literal": "true", "alpha": 1e-4, "beta": 1e-3},
    ],
)
def test_training_lowers_the_loss(photographs: Path, changes: dict[str, Any]):
    found = losses_of(recipe(photographs, **changes), 40)
    assert sum(found[-5:]) < 0.6 * sum(found[:2]) / 2 * 5


def test_without_steps_nothing_falls(photographs: Path):
    """The control: the same batch, a rate too small to move."""
    found = losses_of(recipe(photographs, learning_rate=1e-9), 6)
    assert found[-1] == pytest.approx(found[0], rel=1e-3)


def test_a_training_ends_in_a_method(photographs: Path, tmp_path: Path):
    one = recipe(
        photographs, paints="change", alpha=0.01, beta=0.05, output=tmp_path / "run", windows="1,2"
    )
    outcome = Trainer(one, say=None).run()
    assert outcome.finished
    figures = outcome.figures
    assert outcome.best < figures["composite_fmse"]
    assert {"painted_fmse", "grid", "true_grid"} <= figures.keys()
    assert 0 < figures["grid"] < 20
    assert figures["true_grid"] == pytest.approx(1, abs=0.6)
    paths = export_weights(tmp_path / "run", tmp_path / "weights")
    method = methods.get("vhmae", weights=paths[0])
    assert method.network.windows == (1, 2)
    frames, masks = one.validation.composite.float() / 255, one.validation.mask.float() / 255
    looks = method.estimate(frames, masks)
    shown = torch.cat(
        [look.apply(f[None], m[None]) for look, f, m in zip(looks, frames, masks, strict=True)]
    )
    target = one.validation.target.float() / 255
    assert (shown - target).square().mean() < (frames - target).square().mean()


def test_a_start_keeps_the_weights_and_changes_the_size(photographs: Path, tmp_path: Path):
    one = recipe(photographs, size=64)
    first = one.networks()
    path = one.export(first, tmp_path, {})[0]
    again = recipe(photographs, start=path, windows="1,3").networks()["vhmae"]
    assert (again.input_size, again.windows) == (32, (1, 3))
    kept = first["vhmae"].embed.weight
    torch.testing.assert_close(again.embed.weight, kept, atol=1e-3, rtol=1e-3)


def test_a_backbone_is_kept_as_it_was(photographs: Path, tmp_path: Path):
    torch.manual_seed(0)
    donor, path = Harmonizer(config=EncoderConfig.lite()), tmp_path / "donor.safetensors"
    save_weights(path, donor, architecture="harmonizer", config=donor.settings())
    one = recipe(photographs, backbone=path, output=tmp_path / "run", steps=3)
    Trainer(one, say=None).run()
    weights = export_weights(tmp_path / "run", tmp_path / "weights")[0]
    network = Vhmae.from_weights(weights)
    stem = donor.encoder.stem_foreground.conv.weight
    lent = network.backbone.stem_foreground.conv.weight
    torch.testing.assert_close(lent, stem, atol=1e-3, rtol=1e-3)
    # Where such a network is started from, its backbone comes along.
    again = recipe(photographs, backbone=path, start=weights).networks()["vhmae"]
    torch.testing.assert_close(again.lend[1].weight, network.lend[1].weight)


def test_norms_and_biases_do_not_decay(photographs: Path):
    one = recipe(photographs)
    networks = one.networks()
    decays, stays = one.optimizers(networks)["vhmae"].param_groups
    assert decays["weight_decay"] == 0.05
    assert stays["weight_decay"] == 0
    assert all(p.ndim == 1 for p in stays["params"])
    count = sum(p.numel() for group in (decays, stays) for p in group["params"])
    assert count == sum(p.numel() for p in networks["vhmae"].parameters())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model=huge", "model: expected one of tiny, small, base"),
        ("paints=hue", "paints: expected one of colour, change"),
        ("size=36", "size: expected a multiple of the patch, 8, got 36"),
        ("windows=0", "windows: expected numbers of frames"),
        ("alpha=-1", "alpha: expected 0 or more"),
        ("extra_masking=1.0", "extra_masking: expected a share"),
        ("dancing=2.0", "dancing: expected a share"),
        ("betaa=1", "did you mean 'beta'"),
    ],
)
def test_bad_settings_are_named(setting: str, message: str):
    with pytest.raises(ConfigError, match=message):
        make_config(VhmaeConfig, None, ["patch=8", setting])


def test_the_recipe_is_found_by_name():
    assert get_recipe("vhmae") is VhmaeRecipe


def test_all_frames_of_a_window_are_recoloured_alike(photographs: Path):
    one = recipe(photographs, windows="3", dancing=0, shares="1,0,0", size=32, batch=2)
    batch = one.collate([one.training_set()[0, i] for i in range(4)])
    made = one.composer(*batch.to(torch.device("cpu")))
    frames = apart(made.composite, 3).unflatten(0, (4, 3))
    assert torch.equal(frames[:, 0], frames[:, 2])
    assert not torch.equal(made.composite, made.target)


def test_extra_patches_are_whole_and_the_same_for_a_key():
    extra = extra_patches([(0, 1), (0, 2), (0, 1)], 32, 8, 0.9, seed=1)
    assert extra.shape == (3, 1, 32, 32)
    assert torch.equal(extra[0], extra[2])
    assert not torch.equal(extra[0], extra[1])
    blocks = extra.float().unfold(2, 8, 8).unfold(3, 8, 8).flatten(-2)
    assert (blocks.amax(-1) == blocks.amin(-1)).all()
    shares = extra_patches([(0, i) for i in range(200)], 32, 8, 0.5, seed=1).float().mean() / 255
    assert 0.2 < shares < 0.3

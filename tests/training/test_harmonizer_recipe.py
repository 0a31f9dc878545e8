# SPDX-License-Identifier: Apache-2.0
"""Harmonizer from photographs to a weight file: it learns, and what is exported does the same."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")
pytest.importorskip("cv2")

from scenes import Samples, Scenes, write_photographs

import vharm
from vharm.models.weights import inspect_weights
from vharm.training import (
    ConfigError,
    Trainer,
    checkpoint,
    export_weights,
    get_recipe,
    log,
    make_config,
)
from vharm.training import pictures as training_pictures
from vharm.training.recipes.harmonizer import HarmonizerConfig, HarmonizerRecipe

ROOT = Path(vharm.__file__).parent.parent
SETTINGS = {
    "size": 32, "batch": 16, "steps": 160, "validate_every": 80, "log_every": 20,
    "filters": "temperature,brightness", "width": 0.25, "depth": 0.3, "regions": "true",
    "shares": "1,0,0", "jitter": 0, "hold_out": 0.3, "learning_rate": 1e-3, "average": 0.95,
    "drop_connect": 0, "device": "cpu", "pictures": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs") / "set", 24, 64)


def command(*arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "vharm", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a training by the command."""
    folder = tmp_path_factory.mktemp("run")
    settings = [part for k, v in SETTINGS.items() for part in ("--set", f"{k}={v}")]
    said = command("train", "harmonizer", "--data", photographs, "-o", folder, *settings)
    assert "finished after 160 steps" in said
    return folder


def recipe(photographs: Path | str, **changes: Any) -> HarmonizerRecipe:
    settings = [f"{k}={v}" for k, v in {**SETTINGS, **changes}.items()]
    config = make_config(HarmonizerConfig, None, settings, {"data": str(photographs)})
    return HarmonizerRecipe(config)


def test_it_learns(trained: Path, photographs: Path) -> None:
    figures = log.read(trained)[-1]
    assert figures["part"] == "validation"
    assert figures["composite_fmse"] > 500
    assert figures["fmse"] < 0.6 * figures["composite_fmse"]
    assert figures["psnr"] > figures["composite_psnr"] + 1
    own = recipe(photographs)
    torch.manual_seed(0)
    networks = {name: network.eval() for name, network in own.networks().items()}
    with torch.no_grad():
        untrained, _ = own.validate(networks, torch.device("cpu"))
    assert untrained["composite_fmse"] == pytest.approx(figures["composite_fmse"])
    assert untrained["fmse"] > 0.9 * untrained["composite_fmse"]


def test_what_is_exported_does_the_same(trained: Path, photographs: Path, tmp_path: Path) -> None:
    said = command(
        "export", trained, "-o", tmp_path, "--licence", "CC0", "--data-description", "clouds"
    )
    weights, card = tmp_path / "harmonizer.safetensors", tmp_path / "harmonizer.md"
    assert str(weights) in said
    header = inspect_weights(weights)
    assert header["metadata"]["steps"] == checkpoint.load(trained / checkpoint.BEST)["step"]
    assert weights.stat().st_size < 0.6 * 4 * _count(trained)

    text = card.read_text()
    for part in ("**Licence of the weights:** CC0", "**Data:** clouds", "width = 0.25", "fmse"):
        assert part in text
    # A card is published, and paths are nobody's business.
    assert f'data = "{photographs.name}"' in text
    assert str(photographs.parent) not in text
    assert str(trained.parent) not in text

    best = checkpoint.load(trained / checkpoint.BEST)["figures"]
    validation = recipe(photographs).validation
    made = [
        vharm.harmonize(
            composite[None], mask[None], method="harmonizer", weights=str(weights), verbose=False
        )[0]
        for composite, mask in zip(validation.composite, validation.mask, strict=True)
    ]
    errors = training_pictures._errors(
        torch.stack(made).float(), validation.target, validation.mask
    )
    assert float(errors[:, 0].mean()) == pytest.approx(best["fmse"], rel=0.05)
    untouched = torch.stack(made)[(validation.mask == 0).expand_as(validation.composite)]
    outside = validation.composite[(validation.mask == 0).expand_as(validation.composite)]
    assert torch.equal(untouched, outside)


def _count(folder: Path) -> int:
    """How many numbers the network has."""
    state = checkpoint.load(folder / checkpoint.BEST)
    return sum(tensor.numel() for tensor in state["networks"]["harmonizer"].values())


def test_exported_weights_are_the_average(trained: Path, tmp_path: Path) -> None:
    from vharm.models.harmonizer import Harmonizer

    paths = export_weights(trained, tmp_path, best=False)
    assert [path.suffix for path in paths] == [".safetensors", ".md"]
    state = checkpoint.load(trained / checkpoint.LAST)
    found = Harmonizer.from_weights(paths[0]).state_dict()
    average = state["averages"]["harmonizer"]["tensors"]
    name = "encoder.head.conv.weight"
    torch.testing.assert_close(found[name], average[name], rtol=1e-3, atol=1e-6)
    bare = state["networks"]["harmonizer"][name]
    assert not torch.allclose(found[name], bare, rtol=1e-3, atol=1e-6)


def test_results_on_the_card(trained: Path, tmp_path: Path) -> None:
    from vharm.data import Recoloured
    from vharm.evaluation import as_json, evaluate

    about = {"path": "/somewhere/private/set", "split": "val", "limit": None}
    result = evaluate(Recoloured(Scenes(3)), ["mkl"], metrics=("MSE", "fMSE"), about=about)
    (tmp_path / "r.json").write_text(as_json(result))
    *_, card = export_weights(trained, tmp_path / "out", results=tmp_path / "r.json")
    text = card.read_text()
    assert "## Results\n\nBy `vharm eval` (path set, split val):\n\n| method | MSE ↓ |" in text
    assert "| composite |" in text
    assert "somewhere" not in text
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"results: .*r\.json is not a file `vharm eval` wrote"):
        export_weights(trained, tmp_path / "out", results=tmp_path / "r.json")


def short(folder: Path, own: HarmonizerRecipe) -> Any:
    return Trainer(own, say=None).run()


@pytest.mark.parametrize("loss", ["dynamic-paper", "dynamic-released", "plain", "last"])
def test_every_loss_trains(photographs: Path, tmp_path: Path, loss: str) -> None:
    own = recipe(photographs, steps=2, output=tmp_path, loss=loss, shares="1,0,1", encoder="lite0")
    outcome = short(tmp_path, own)
    assert outcome.finished
    values = [line["loss"] for line in log.read(tmp_path) if line["part"] == "train"]
    assert values
    assert all(math.isfinite(value) and value > 0 for value in values)


def test_sets_with_composites_train_too(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, name in (("images", "targets"), ("images", "composites"), ("masks", "masks")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for file in (photographs / kind).iterdir():
            (tmp_path / "set" / name / file.name).write_bytes(file.read_bytes())
    own = recipe(tmp_path / "set", steps=2, output=tmp_path / "run", shares="1,0.7,0.3")
    assert own._pictures.scenes.has_composites
    seen: list[Any] = []
    compose = own.composer.__class__.__call__
    monkeypatch.setattr(
        own.composer.__class__, "__call__",
        lambda *arguments: seen.append((arguments, compose(*arguments))) or seen[-1][1],
    )  # fmt: skip
    assert short(tmp_path / "run", own).finished
    for (_, _, _, _, composites, given), batch in seen:
        assert batch.synthetic.tolist() == [not one for one in given]
        assert 3 <= sum(given) <= 13
        assert composites is not None
    # Nothing was changed in these composites: on them the loss has nothing to say.
    figures = log.read(tmp_path / "run")[-1]
    assert figures["composite_fmse"] == 0


def test_given_composites_are_weighted_by_their_share(photographs: Path) -> None:
    """The loss is the mean over the batch, composites of a set counting `composite_weight`."""
    from vharm import ops
    from vharm.training import losses
    from vharm.training.pictures import Item, collate

    own = recipe(photographs, filters="brightness", loss="plain", composite_weight=4)
    samples = [Samples(4)[i] for i in range(4)]
    items = [
        Item(s.target[0], s.masks[0], (0, i), s.composite[0] if i % 2 else None)
        for i, s in enumerate(samples)
    ]
    network = own.bare_networks()["harmonizer"].eval()
    found: list[torch.Tensor] = []
    own.step(
        {"harmonizer": network}, collate(items), torch.device("cpu"),
        lambda name, loss: found.append(loss.detach()),
    )  # fmt: skip
    made = own.composer(*collate(items).to(torch.device("cpu")))
    with torch.no_grad():
        arguments = network(made.composite, made.mask, resize=False)
        stages = ops.filter_chain_loss(
            made.composite, made.mask, arguments, made.stages, filters=("brightness",)
        )
    expected = (losses.plain(stages[0::2]) + 4 * losses.last(stages[1::2])) / 2
    torch.testing.assert_close(found[0], expected)
    assert expected > 0


def test_tables_that_are_wanted_and_not_there(photographs: Path) -> None:
    with pytest.raises(ConfigError, match="luts: expected look-up tables for the share of 'lut'"):
        recipe(photographs, shares="1,1,0")


def test_recipes_by_name() -> None:
    assert get_recipe("harmonizer") is HarmonizerRecipe
    with pytest.raises(ConfigError, match="did you mean 'harmonizer'"):
        get_recipe("harmonise")


def test_export_may_say_how_the_network_is_used(trained: Path, tmp_path: Path) -> None:
    weights, card = export_weights(trained, tmp_path, settings=["input_size=48"])
    assert inspect_weights(weights)["config"]["input_size"] == 48
    assert "input_size = 48" in card.read_text()
    with pytest.raises(ConfigError, match="may be given at export: input_size; got 'width'"):
        export_weights(trained, tmp_path, settings=["width=1"])

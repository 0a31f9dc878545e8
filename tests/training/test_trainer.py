# SPDX-License-Identifier: Apache-2.0
"""The loop: resuming, kills, budgets, signals, divergence, averages, the best checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

import toy_training
from toy_training import train

import vharm
from vharm.training import CheckpointError, ConfigError, TrainingDivergedError, checkpoint, log
from vharm.training.averaging import Average

ROOT = Path(vharm.__file__).parent.parent
STATE = ("networks", "averages", "optimizers", "step", "best", "best_step", "figures")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(a: Any, b: Any, where: str = "") -> None:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            same(one, other, f"{where}.{i}")
    else:
        assert a == b, where


def same_trainings(one: Path, other: Path) -> None:
    for name in (checkpoint.LAST, checkpoint.BEST):
        first, second = checkpoint.load(one / name), checkpoint.load(other / name)
        for part in STATE:
            same(first[part], second[part], part)
    assert logged(one) == logged(other)


def logged(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in log.read(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of 12 steps that nothing interrupted."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def start(folder: Path, *settings: str, resume: bool = False) -> subprocess.Popen[str]:
    paths = os.pathsep.join((str(ROOT), str(Path(toy_training.__file__).parent)))
    return subprocess.Popen(
        [
            sys.executable, toy_training.__file__, str(folder), *settings,
            *(["--resume"] if resume else []),
        ],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until the log has that step."""
    for _ in range(1200):
        if (folder / log.FILE).exists() and any(x["step"] >= step for x in log.read(folder)):
            return
        assert process.poll() is None, "ended early"
        time.sleep(0.05)
    raise AssertionError(f"step {step} never came")


def test_it_learns_and_the_log_says_so(whole: Path) -> None:
    lines = log.read(whole)
    assert [line["step"] for line in lines if line["part"] == "train"] == list(range(1, 13))
    figures = [line["error"] for line in lines if line["part"] == "validation"]
    assert len(figures) == 3
    assert figures[-1] < 0.5 * figures[0]
    assert list((whole / "tensorboard").iterdir())


@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_is_bit_identical(whole: Path, tmp_path: Path, workers: int) -> None:
    _, outcome = stopped_after(5, tmp_path)
    assert (outcome.step, outcome.finished, outcome.reason) == (5, False, "interrupted")
    _, outcome = train(tmp_path, f"workers={workers}", resume=True)
    assert (outcome.step, outcome.finished, outcome.reason) == (12, True, "finished")
    same_trainings(whole, tmp_path)


def stopped_after(steps: int, folder: Path, *settings: str) -> tuple[Any, Any]:
    """A training that is asked to stop in that step."""
    config = toy_training.make_config(
        toy_training.ToyConfig, None, settings, {"output": str(folder)}
    )
    recipe = toy_training.ToyRecipe(config)
    own = recipe.step

    def step(*arguments: Any) -> Any:
        if recipe.steps + 1 == steps:
            signal.raise_signal(signal.SIGTERM)
        return own(*arguments)

    recipe.step = step  # type: ignore[method-assign]
    trainer = toy_training.Trainer(recipe, say=None)
    return trainer, trainer.run()


def test_a_different_seed_is_a_different_training(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, "seed=1")
    assert logged(tmp_path) != logged(whole)


def test_killed_and_resumed_is_the_same(whole: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "slow=0.05")
    wait_for(tmp_path, 6, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert checkpoint.load(tmp_path / checkpoint.LAST)["step"] >= 4
    _, outcome = train(tmp_path, "slow=0.05", resume=True)
    assert outcome.finished
    same_trainings(whole, tmp_path)
    raw = (tmp_path / log.FILE).read_text().splitlines()
    assert len(raw) > len(log.read(tmp_path))


def test_sigterm_ends_with_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "slow=0.05")
    wait_for(tmp_path, 2, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.split()[-1] == "interrupted"
    step = checkpoint.load(tmp_path / checkpoint.LAST)["step"]
    assert step == max(line["step"] for line in log.read(tmp_path))
    assert 2 <= step < 12
    train(tmp_path, "slow=0.05", resume=True)
    same_trainings(whole, tmp_path)


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    trainer, _ = stopped_after(2, tmp_path)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    # The request was for that run.
    assert trainer.run().finished


def test_budget_stops_and_says_so(whole: Path, tmp_path: Path) -> None:
    _, outcome = train(tmp_path, "slow=0.1", "budget=0.25s")
    assert outcome.reason == "budget"
    assert not outcome.finished
    assert 1 <= outcome.step <= 3
    assert outcome.best is None
    assert checkpoint.load(tmp_path / checkpoint.LAST)["step"] == outcome.step
    # Another run has a budget of its own, and the time spent adds up.
    _, later = train(tmp_path, "slow=0.1", "budget=0.25s", resume=True)
    assert later.step > outcome.step
    assert later.seconds > outcome.seconds


def test_output_in_use_is_refused(whole: Path) -> None:
    before = (whole / checkpoint.LAST).read_bytes()
    with pytest.raises(ConfigError, match=r"output: .* already holds a training.*--resume"):
        train(whole)
    assert (whole / checkpoint.LAST).read_bytes() == before


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"last\.pt: no such checkpoint"):
        train(tmp_path, resume=True)


@pytest.mark.parametrize("setting", ["learning_rate=0.04", "steps=20", "batch=2", "spoil=loss"])
def test_resuming_with_other_settings_is_refused(whole: Path, setting: str) -> None:
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{key}: the training being resumed has"):
        train(whole, setting, resume=True)


def test_resuming_another_recipe_is_refused(whole: Path, tmp_path: Path) -> None:
    state = checkpoint.load(whole / checkpoint.LAST)
    checkpoint.save(tmp_path / checkpoint.LAST, {**state, "recipe": "cubist"})
    with pytest.raises(ConfigError, match="a training of 'cubist', not 'toy'"):
        train(tmp_path, resume=True)


@pytest.mark.parametrize("spoil", ["loss", "gradient", "weights"])
@pytest.mark.parametrize("clip", [5, 0])
def test_what_is_not_finite_never_reaches_a_checkpoint(
    tmp_path: Path, spoil: str, clip: int
) -> None:
    with pytest.raises(TrainingDivergedError, match=r"diverged; the last good checkpoint is"):
        train(tmp_path, f"spoil={spoil}", f"clip={clip}", "validate_every=3")
    state = checkpoint.load(tmp_path / checkpoint.LAST)
    assert state["step"] == 3
    for name in (checkpoint.LAST, checkpoint.BEST):
        state = checkpoint.load(tmp_path / name)
        tensors = [*state["networks"]["net"].values()]
        tensors += state["averages"]["net"]["tensors"].values()
        assert all(bool(tensor.isfinite().all()) for tensor in tensors)


def test_weights_spoiled_right_before_a_checkpoint(tmp_path: Path) -> None:
    """No later step's loss would have shown it."""
    with pytest.raises(TrainingDivergedError, match=r"0\.weight of 'net' is nan"):
        train(tmp_path, "spoil=weights", "validate_every=1", "average=0")
    assert (
        checkpoint.load(tmp_path / checkpoint.LAST)["networks"]["net"]["0.weight"].isfinite().all()
    )


def test_a_figure_that_is_not_finite_is_never_the_best(tmp_path: Path) -> None:
    _, outcome = train(tmp_path, "spoil=figure")
    assert outcome.best is not None
    assert outcome.best_step > 4
    assert outcome.best == outcome.best


def test_best_is_the_best_on_the_watched_figure(tmp_path: Path) -> None:
    _, outcome = train(tmp_path, "learning_rate=0.5", "schedule=constant", "validate_every=1")
    figures = [line for line in log.read(tmp_path) if line["part"] == "validation"]
    best = min(figures, key=lambda line: line["error"])
    assert best["step"] not in (1, 12)  # or this would show nothing
    assert (outcome.best, outcome.best_step) == (best["error"], best["step"])
    state = checkpoint.load(tmp_path / checkpoint.BEST)
    assert state["step"] == best["step"]
    assert state["figures"]["error"] == best["error"]


def test_average_is_the_exponential_mean() -> None:
    module = torch.nn.BatchNorm1d(2)
    average = Average(module, 0.5)
    expected = module.weight.detach().clone()
    for n, value in enumerate((3.0, -1.0, 4.0, 1.0, 5.0, 9.0, 2.0), 1):
        with torch.no_grad():
            module.weight.fill_(value)
            module.num_batches_tracked += 1
        average.update(module)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.tensors["weight"], expected)
    assert int(average.tensors["num_batches_tracked"]) == 7
    with average.applied(module):
        torch.testing.assert_close(module.weight.detach(), expected)
    assert torch.equal(module.weight, torch.full((2,), 2.0))


def test_validation_sees_the_average(tmp_path: Path) -> None:
    trainer, outcome = train(tmp_path / "mean")
    with torch.no_grad(), trainer._averaged():
        trainer.networks["net"].eval()
        again = trainer.recipe.validate(trainer.networks, trainer.device)[0]
    assert again == outcome.figures
    _, bare = train(tmp_path / "bare", "average=0")
    assert bare.figures != outcome.figures


def test_log_keeps_the_later_of_two_lines(tmp_path: Path) -> None:
    lines = [(1, "train", 1), (2, "train", 2), (2, "validation", 3), (3, "train", 4)]
    lines += [(2, "train", 5), (2, "validation", 6)]
    text = "".join(json.dumps({"step": s, "part": p, "x": x}) + "\n" for s, p, x in lines)
    (tmp_path / log.FILE).write_text(text + '{"step"')
    assert [line["x"] for line in log.read(tmp_path)] == [1, 5, 6, 4]


def test_a_line_cut_short_does_not_swallow_the_next(tmp_path: Path) -> None:
    (tmp_path / log.FILE).write_text('{"step": 1, "part": "train"}\n{"step": 2, "par')
    with log.Log(tmp_path, start=1) as continued:
        continued.write(2, 0.5, "train", {"x": 3})
    assert [(line["step"], line.get("x")) for line in log.read(tmp_path)] == [(1, None), (2, 3)]


def test_a_new_training_starts_a_new_log(tmp_path: Path) -> None:
    """What a run left that died before its first checkpoint is not part of it."""
    (tmp_path / log.FILE).write_text('{"step": 99, "part": "train"}\n')
    train(tmp_path)
    assert max(line["step"] for line in log.read(tmp_path)) == 12


@pytest.mark.parametrize("damage", ["cut", "other", "pickle"])
def test_damaged_checkpoints_are_named(whole: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / checkpoint.LAST
    if damage == "cut":
        path.write_bytes((whole / checkpoint.LAST).read_bytes()[:2000])
    elif damage == "other":
        torch.save({"weights": torch.zeros(1)}, path)
    else:
        torch.save({"format": 1, "path": Path("x")}, path)
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        train(tmp_path, resume=True)


def test_device_that_is_not_there(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"device: expected a GPU"):
        train(tmp_path, "device=cuda")


def test_another_precision_in_the_same_process(tmp_path: Path) -> None:
    train(tmp_path / "a", "steps=1")
    _, outcome = train(tmp_path / "b", "steps=1", "precision=bfloat16")
    assert outcome.finished
    train(tmp_path / "c", "steps=1")
    assert logged(tmp_path / "a") == logged(tmp_path / "c")

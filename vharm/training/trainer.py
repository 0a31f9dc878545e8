# SPDX-License-Identifier: Apache-2.0
"""The training loop: one for every method.

Everything random in a step follows from (seed, step), and the pictures a step sees do too. So a
checkpoint holds no state of generators or loaders, and resuming gives the numbers the training
would have had.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from . import checkpoint
from .averaging import Average
from .config import ConfigError, TrainingConfig, from_values, seconds, to_values
from .log import Log
from .order import Order
from .recipe import Recipe
from .schedule import rate
from .sync_norm import synchronised

# What can end a run before its last step; where processes disagree the later one counts.
_REASONS = (None, "budget", "interrupted")
_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
# Settings that may differ between a run and its continuation: they do not change the numbers.
# Files may have moved meanwhile.
FREE_SETTINGS = (
    "output", "budget", "workers", "device", "log_every", "pictures", "threads", "data", "luts",
    "pretrained", "start",
)  # fmt: skip


class TrainingDivergedError(RuntimeError):
    """A loss or a gradient that is not finite; the message names the step and what is left."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: steps done in all.
        finished: whether that is all of them.
        reason: why it ended: "finished", "budget" or "interrupted".
        figures: the last validation's.
        best: the best value of the watched figure, None before the first validation.
        best_step: the step it came from.
        seconds: spent in all, over all runs of this training.
    """

    step: int
    finished: bool
    reason: str
    figures: dict[str, float]
    best: float | None
    best_step: int
    seconds: float


class Trainer:
    """Trains a recipe.

    Args:
        recipe: what is trained.
        resume: go on from the last checkpoint in `config.output`.
        say: called with lines about the progress; None for silence.

    Raises:
        ConfigError: a checkpoint in the way, none to go on from, or one of other settings.
    """

    def __init__(
        self, recipe: Recipe, *, resume: bool = False, say: Callable[[str], None] | None = print
    ) -> None:
        self.recipe = recipe
        self.config = recipe.config
        self.folder = Path(self.config.output)
        self.accelerator = _accelerator(self.config)
        self.device = self.accelerator.device
        self.main = self.accelerator.is_main_process
        self._say = say if say is not None and self.main else lambda line: None
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        state = self._state_to_resume(resume)
        self.step = 0
        self.spent = 0.0
        self.best: float | None = None
        self.best_step = 0
        self.figures: dict[str, float] = {}
        self._stop: str | None = None
        self._build(state)
        self.accelerator.wait_for_everyone()

    def run(self) -> Outcome:
        """Trains until all steps are done, the budget is spent, or a signal asks to stop.

        Returns:
            How it ended. In `config.output`: `last.pt`, `best.pt`, `log.jsonl`, `tensorboard/`.

        Raises:
            TrainingDivergedError: the last good checkpoint stays.
        """
        config = self.config
        started, before = time.monotonic(), self.spent
        deadline = started + seconds(config.budget)
        self._stop, reason = None, None
        with ExitStack() as stack:
            stack.enter_context(self._signals())
            log = stack.enter_context(Log(self.folder, start=self.step, enabled=self.main))
            batches = iter(self._loader())
            while self.step < config.steps:
                reason = self._reason_to_stop(deadline)
                if reason is not None:
                    break
                losses = self._one_step(next(batches))
                self.spent = before + time.monotonic() - started
                if self.step % config.log_every == 0 or self.step == config.steps:
                    self._report(log, losses)
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    self._validate(log)
                    self._save(checkpoint.LAST)
            self.spent = before + time.monotonic() - started
            self._save(checkpoint.LAST)
        finished = self.step >= config.steps
        return Outcome(
            self.step, finished, reason or "finished", self.figures, self.best, self.best_step,
            self.spent,
        )  # fmt: skip

    def update(self, optimizer: str, loss: Tensor) -> None:
        """One step of one optimiser: backward, clipping, step.

        Raises:
            TrainingDivergedError: `loss` or the gradient's norm is not finite.
        """
        self._finite(f"the loss of {optimizer!r}", loss)
        chosen = self.optimizers[optimizer]
        chosen.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        parameters = [p for group in chosen.param_groups for p in group["params"]]
        # Without clipping the norm is still what shows a gradient that is not finite.
        norm = self.accelerator.clip_grad_norm_(parameters, self.config.clip or math.inf)
        # Under float16 the scaler skips such a step by itself and tries a smaller scale.
        if norm is not None and self.config.precision != "float16":
            self._finite(f"the gradient of {optimizer!r}", norm)
        chosen.step()

    # What follows is the loop's own.

    def _build(self, state: Mapping[str, Any] | None) -> None:
        _seed(self.config.seed)
        self.networks = self.recipe.networks()
        if self.accelerator.num_processes > 1:
            self.networks = {name: synchronised(n) for name, n in self.networks.items()}
        optimizers = self.recipe.optimizers(self.networks)
        if state is not None:
            for name, network in self.networks.items():
                network.load_state_dict(state["networks"][name])
        self.averages = {
            name: Average(network.to(self.device), self.config.average)
            for name, network in self.networks.items()
            if self.config.average
        }
        names = list(self.networks)
        wrapped = self.accelerator.prepare(*(self.networks[name] for name in names))
        self.wrapped = dict(zip(names, wrapped if len(names) > 1 else (wrapped,), strict=True))
        self.optimizers = {n: self.accelerator.prepare(o) for n, o in optimizers.items()}
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group.setdefault("highest", group["lr"])
        if state is not None:
            self._restore(state)

    def _restore(self, state: Mapping[str, Any]) -> None:
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, average in self.averages.items():
            average.load_state_dict(state["averages"][name])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.spent = state["step"], state["seconds"]
        self.best, self.best_step = state["best"], state["best_step"]
        self.figures = dict(state["figures"])
        self._say(f"resumed at step {self.step} of {self.config.steps}")

    def _loader(self) -> DataLoader[Any]:
        data = self.recipe.training_set()
        order = Order(
            len(data), self.config.batch, seed=self.config.seed, start=self.step,
            rank=self.accelerator.process_index, world=self.accelerator.num_processes,
        )  # fmt: skip
        return DataLoader(
            data,  # type: ignore[arg-type]
            batch_sampler=order,  # type: ignore[arg-type]
            collate_fn=self.recipe.collate,
            num_workers=self.config.workers,
            pin_memory=self.device.type == "cuda",
        )

    def _one_step(self, batch: Any) -> dict[str, Tensor]:
        _seed(self.config.seed, self.step, self.accelerator.process_index)
        share = rate(self.config, self.step)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * share
        for network in self.wrapped.values():
            network.train()
        with self.accelerator.autocast():
            losses = self.recipe.step(self.wrapped, batch, self.device, self.update)
        for name, average in self.averages.items():
            average.update(self.networks[name])
        self.step += 1
        return losses

    def _report(self, log: Log, losses: Mapping[str, Tensor]) -> None:
        values = {name: self._mean(value) for name, value in losses.items()}
        values["rate"] = self.config.learning_rate * rate(self.config, self.step - 1)
        log.write(self.step, self.spent, "train", values)
        if self.step % (10 * self.config.log_every) == 0:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            self._say(f"step {self.step:>6}  {self.spent:7.0f} s  {shown}")

    def _validate(self, log: Log) -> None:
        """On the averaged weights, by the main process alone."""
        if self.main:
            with self._averaged():
                for network in self.networks.values():
                    network.eval()
                with torch.no_grad():
                    self.figures, pictures = self.recipe.validate(self.networks, self.device)
            log.write(self.step, self.spent, "validation", self.figures)
            log.pictures(self.step, pictures)
            shown = "  ".join(f"{name} {value:.5g}" for name, value in self.figures.items())
            value = self.figures[self.recipe.watched.name]
            if self._is_better(value):
                self.best, self.best_step = value, self.step
                self._save(checkpoint.BEST)
                shown += "  (best)"
            self._say(f"step {self.step:>6}  {self.spent:7.0f} s  {shown}")
        self.accelerator.wait_for_everyone()

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        return value < self.best if self.recipe.watched.less_is_better else value > self.best

    def _save(self, name: str) -> None:
        if not self.main:
            return
        for key, network in self.networks.items():
            for part, tensor in network.state_dict().items():
                self._finite(f"{part} of {key!r}", tensor)
        scaler = self.accelerator.scaler
        checkpoint.save(
            self.folder / name,
            {
                "recipe": self.recipe.name,
                "config": to_values(self.config),
                "step": self.step,
                "seconds": self.spent,
                "best": self.best,
                "best_step": self.best_step,
                "figures": self.figures,
                "networks": {n: net.state_dict() for n, net in self.networks.items()},
                "averages": {n: average.state_dict() for n, average in self.averages.items()},
                "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
                "scaler": None if scaler is None else scaler.state_dict(),
            },
        )

    def _state_to_resume(self, resume: bool) -> dict[str, Any] | None:
        last = self.folder / checkpoint.LAST
        if not resume:
            if last.exists():
                raise ConfigError(
                    f"output: {self.folder} already holds a training; go on with --resume, or "
                    "choose another folder"
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            return None
        state = checkpoint.load(last)
        if state["recipe"] != self.recipe.name:
            raise ConfigError(
                f"{last}: a training of {state['recipe']!r}, not {self.recipe.name!r}"
            )
        own = to_values(self.config)
        for key, value in to_values(from_values(type(self.config), state["config"])).items():
            if key not in FREE_SETTINGS and own[key] != value:
                raise ConfigError(
                    f"{key}: the training being resumed has {value!r}, and now it is {own[key]!r}"
                )
        return state

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, average in self.averages.items():
                stack.enter_context(average.applied(self.networks[name]))
            yield

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run after the step it is in, with a checkpoint."""

        def stop(number: int, frame: Any) -> None:
            self._stop = "interrupted"

        kept = {}
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                kept[name] = signal.signal(name, stop)
            except ValueError:  # not the main thread: whoever runs it stops it otherwise
                break
        try:
            yield
        finally:
            for name, handler in kept.items():
                signal.signal(name, handler)

    def _reason_to_stop(self, deadline: float) -> str | None:
        """Why to end the run now, if at all; the same answer in every process."""
        reason = self._stop or ("budget" if time.monotonic() > deadline else None)
        if self.accelerator.num_processes == 1:
            return reason
        # One that stopped alone would leave the others waiting for it in the next step.
        mine = torch.tensor([_REASONS.index(reason)], device=self.device)
        return _REASONS[int(self.accelerator.gather(mine).max())]

    def _mean(self, value: Tensor) -> float:
        """Over the processes."""
        value = value.detach().float().reshape(1).to(self.device)
        return float(self.accelerator.gather(value).mean())

    def _finite(self, what: str, value: Tensor) -> None:
        finite = torch.isfinite(value)
        if bool(finite.all()):
            return
        found = value.detach()[~finite].flatten()[0]
        last = self.folder / checkpoint.LAST
        left = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint"
        raise TrainingDivergedError(
            f"{what} is {float(found):g} at step {self.step}: the training diverged; {left}. A "
            "lower learning_rate, a longer warm_up or a smaller clip usually helps"
        )


def _accelerator(config: TrainingConfig) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise ImportError('training needs accelerate: pip install "vharm[train]"') from error
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError('device: expected a GPU for "cuda", found none')
    precision = _PRECISION[config.precision]
    if not torch.distributed.is_initialized():
        # It remembers the precision and the device of the first training in a process.
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=config.device == "cpu", mixed_precision=precision)


def _seed(*key: int) -> None:
    """Torch's own generators, for what a step draws from them (such as dropped branches)."""
    state = numpy.random.SeedSequence(key).generate_state(1, numpy.uint64)
    torch.manual_seed(int(state[0] >> numpy.uint64(1)))

# SPDX-License-Identifier: Apache-2.0
"""A training of two seconds: a small network learns a colour change from random pictures.

Run as a program it trains in a process of its own: `toy_training.py FOLDER KEY=VALUE ... [--resume]
[--slow SECONDS]`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vharm.data import seeding
from vharm.models.efficientnet import EncoderConfig, Stage
from vharm.models.harmonizer import Harmonizer
from vharm.training import Figure, Recipe, Trainer, TrainingConfig, make_config

TINY = EncoderConfig(
    stages=(Stage(1, 3, 1, 8, 1), Stage(4, 3, 2, 16, 1)), stem=8, head=32, drop_connect=0
)


@dataclass(frozen=True)
class ToyConfig(TrainingConfig):
    """Settings: the defaults are a quick training of 12 steps.

    Attributes:
        network: "plain" (with dropout), or "harmonizer" (with batch normalisation).
        spoil: what goes wrong at step 6: "", "loss", "gradient", "weights" or "figure".
        slow: seconds each step takes longer.
    """

    steps: int = 12
    batch: int = 4
    size: int = 16
    device: str = "cpu"
    learning_rate: float = 0.05
    log_every: int = 1
    validate_every: int = 4
    average: float = 0.9
    network: str = "plain"
    spoil: str = ""
    slow: float = 0.0


class Pictures:
    """Ten random pictures."""

    def __init__(self, size: int) -> None:
        self.pictures = torch.rand(10, 3, size, size, generator=seeding.generator(5))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        source = seeding.generator(7, *key)
        return self.pictures[key[1]] * seeding.uniform(source, 0.5, 1), key


class ToyRecipe(Recipe):
    """Learns to tell a picture's mean colours (or arguments that depend on them)."""

    name: ClassVar[str] = "toy"
    config_class: ClassVar[type[TrainingConfig]] = ToyConfig
    watched: ClassVar[Figure] = Figure("error")
    config: ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.steps = 0
        self.seen: list[tuple[int, int]] = []

    def bare_networks(self) -> dict[str, nn.Module]:
        if self.config.network == "harmonizer":
            filters = ("brightness", "saturation", "temperature")
            return {"net": Harmonizer(filters, TINY, input_size=self.config.size)}
        layers = (nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(8, 3, 3))
        return {"net": nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())}

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
        if self.config.network == "plain":
            return super().optimizers(networks)
        # Adam's first steps are the gradient's sign alone, which is noise where normalisation
        # makes a gradient zero; two roundings of it could not be compared.
        rate = self.config.learning_rate
        return {"net": torch.optim.SGD(networks["net"].parameters(), rate, momentum=0.9)}

    def training_set(self) -> Pictures:
        return Pictures(self.config.size)

    def collate(self, items: Sequence[Any]) -> Any:
        return torch.stack([picture for picture, _ in items]), [key for _, key in items]

    def _outputs(self, network: nn.Module, pictures: Tensor) -> Tensor:
        if self.config.network == "harmonizer":
            return network(pictures, (pictures[:, :1] > 0.4).float())
        return network(pictures)

    def step(
        self, networks: Mapping[str, nn.Module], batch: Any, device: torch.device, update: Any
    ) -> dict[str, Tensor]:
        pictures, keys = batch
        self.steps += 1
        self.seen += keys
        time.sleep(self.config.slow)
        found = self._outputs(networks["net"], pictures.to(device))
        loss = (found - 2 * pictures.mean((2, 3)).to(device)).square().mean()
        at = max(key[0] * 10 for key in keys) >= 20  # the third epoch begins in step 5 or 6
        if at and self.config.spoil == "loss":
            loss = loss * float("nan")
        if at and self.config.spoil == "gradient":
            found.register_hook(lambda gradient: gradient * float("inf"))
        update("net", loss)
        if at and self.config.spoil == "weights":
            with torch.no_grad():
                next(networks["net"].parameters()).view(-1)[0] = float("nan")
        return {"loss": loss.detach()}

    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        pictures = torch.rand(8, 3, 16, 16, generator=seeding.generator(9)).to(device)
        error = self._outputs(networks["net"], pictures) - 2 * pictures.mean((2, 3))
        value = float(error.square().mean())
        if self.config.spoil == "figure" and self.steps < 5:
            value = float("nan")
        return {"error": value}, {"picture": (pictures[0] * 255).byte()}

    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        raise NotImplementedError


def train(folder: Path | str, *settings: str, resume: bool = False) -> tuple[Trainer, Any]:
    """Trains, in silence; the trainer and the outcome."""
    config = make_config(ToyConfig, None, settings, {"output": str(folder)})
    trainer = Trainer(ToyRecipe(config), resume=resume, say=None)
    return trainer, trainer.run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = [a for a in sys.argv[2:] if a != "--resume"]
    print("starting", flush=True)
    print(train(sys.argv[1], *arguments, resume="--resume" in sys.argv)[1].reason)

# SPDX-License-Identifier: Apache-2.0
"""What a method brings to the trainer: networks, data, a step, a validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from .config import TrainingConfig
from .order import Key


class KeyedSet(Protocol):
    """Training pictures, asked for by (epoch, index)."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key) -> Any: ...


class Update(Protocol):
    """Takes one optimiser's step against a loss; see `Trainer.update`."""

    def __call__(self, optimizer: str, loss: Tensor) -> None: ...


@dataclass(frozen=True)
class Figure:
    """A number to be watched: its name and whether less of it is better."""

    name: str
    less_is_better: bool = True


class Recipe(ABC):
    """One method's training.

    Attributes:
        name: how users ask for it.
        config_class: the settings it understands.
        watched: the validation figure that decides which checkpoint is the best.
        export_settings: settings of how the network is used, which may still change at export.
        progress: share of the training that is done, set by the trainer before each step.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[TrainingConfig]]
    watched: ClassVar[Figure]
    export_settings: ClassVar[tuple[str, ...]] = ()
    progress: float = 0.0

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config

    @abstractmethod
    def bare_networks(self) -> dict[str, nn.Module]:
        """The networks with random weights; needs nothing but the settings."""

    def networks(self) -> dict[str, nn.Module]:
        """The networks as training starts with them; called once, after seeding."""
        return self.bare_networks()

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
        """One AdamW over each network, under the network's name."""
        config = self.config
        return {
            name: torch.optim.AdamW(
                network.parameters(),
                config.learning_rate,
                betas=(config.betas[0], config.betas[1]),
                weight_decay=config.weight_decay,
            )
            for name, network in networks.items()
        }

    @abstractmethod
    def training_set(self) -> KeyedSet:
        """Pictures by (epoch, index)."""

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Any:
        """What the set gave for one step, as one batch of CPU tensors."""

    @abstractmethod
    def step(
        self, networks: Mapping[str, nn.Module], batch: Any, device: torch.device, update: Update
    ) -> dict[str, Tensor]:
        """One training step: forward, then `update(optimizer, loss)` for each optimiser.

        Returns:
            Numbers for the log, without gradient.
        """

    @abstractmethod
    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Figures over the validation set, and pictures uint8 [3,H,W] to look at."""

    @abstractmethod
    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        """Writes what users load, as float16 safetensors; `facts` go into the file's header."""


RECIPES: dict[str, type[Recipe]] = {}
"""By name; `registry` sees to it that vharm's own are in it."""


def register(cls: type[Recipe]) -> type[Recipe]:
    """Adds a recipe under its name; usable as a decorator."""
    RECIPES[cls.name] = cls
    return cls

# SPDX-License-Identifier: Apache-2.0
"""How SPyNet is trained here: on photographs set in motion, whose flow is exact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.data.clip_batches import Clips
from vharm.data.dancing_batches import DancingBatches, Draw
from vharm.data.motion import MotionRange
from vharm.flow import Dis, FlowEstimator, NoFlow, SpyNetFlow
from vharm.models.spynet import CHANNELS, COARSEST, MULTIPLE, SpyNet
from vharm.models.weights import load_weights, save_weights

from ..config import ConfigError, TrainingConfig, check_share
from ..motion_data import open_motion
from ..recipe import Figure, Recipe, Update, register

VALIDATION_CLIPS = 48


@dataclass(frozen=True)
class SpyNetConfig(TrainingConfig):
    """Settings of SPyNet's training; see `TrainingConfig` for the others.

    Attributes:
        levels: of the network; 0 takes as many as frames of `size` use.
        channels: of the network.
        start: weight file or published checkpoint to start from; "" for none.
        rotation, shift: how far foregrounds turn (degrees) and go (share of the frame) between
            two frames, to either side.
        crop: least share of the background that is seen in the second frame.
        hold_out: share of the training pictures kept for choosing the best checkpoint.
    """

    batch: int = 8
    size: int = 128
    learning_rate: float = 3e-4
    levels: int = 0
    channels: tuple[int, ...] = CHANNELS
    start: str = ""
    rotation: float = 5.0
    shift: float = 0.05
    crop: float = 0.9
    hold_out: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % MULTIPLE:
            raise ConfigError(f"size: expected a multiple of {MULTIPLE}, got {self.size}")
        check_share(self, "hold_out", zero=False, one=False)
        if self.levels < 0:
            raise ConfigError(f"levels: expected 0 or more, got {self.levels}")


@register
class SpyNetRecipe(Recipe):
    """End-point error at every level of the pyramid."""

    name: ClassVar[str] = "spynet"
    config_class: ClassVar[type[TrainingConfig]] = SpyNetConfig
    watched: ClassVar[Figure] = Figure("epe")
    config: SpyNetConfig

    def __init__(self, config: SpyNetConfig) -> None:
        super().__init__(config)
        limits = MotionRange(config.rotation, shift=config.shift, crop=(config.crop, 1.0))
        self._training, self._held, _ = open_motion(
            config, 2, hold_out=config.hold_out, held=VALIDATION_CLIPS, limits=limits
        )
        self._beside: dict[str, float] | None = None

    def bare_networks(self) -> dict[str, nn.Module]:
        config = self.config
        used = 1 + math.ceil(math.log2(config.size / COARSEST))
        return {"spynet": SpyNet(config.levels or used, config.channels)}

    def networks(self) -> dict[str, nn.Module]:
        networks = self.bare_networks()
        if self.config.start:
            load_weights(self.config.start, networks["spynet"], architecture=SpyNet.architecture)
        return networks

    def training_set(self) -> DancingBatches:
        return self._training

    def collate(self, items: Sequence[Draw]) -> Clips:
        return self._training.render(items)

    def step(
        self, networks: Mapping[str, nn.Module], batch: Clips, device: torch.device, update: Update
    ) -> dict[str, Tensor]:
        clips = batch.to(device)
        assert clips.flow is not None
        assert clips.valid is not None
        current, other = clips.composite[:, 1], clips.composite[:, 0]
        levels = networks["spynet"](current, other, every_level=True)
        flow, valid = clips.flow[:, 0], clips.valid[:, 0]
        errors = [level_error(found.float(), flow, valid) for found in levels]
        # In pixels of the finest level, so that no level is forgotten.
        loss = torch.stack(errors).mean()
        update("spynet", loss)
        return {"loss": loss.detach(), "epe": errors[-1].detach()}

    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        network = networks["spynet"]
        assert isinstance(network, SpyNet)
        if self._beside is None:
            self._beside = {
                "dis_epe": self._error(Dis(), device), "still_epe": self._error(NoFlow(), device)
            }  # fmt: skip
        return {"epe": self._error(SpyNetFlow(network), device), **self._beside}, {}

    def _error(self, estimator: FlowEstimator, device: torch.device) -> float:
        """Mean distance in pixels between estimated and exact flow, where that is seen."""
        held = Clips.joined(list(self._held))
        assert held.flow is not None
        assert held.valid is not None
        found = torch.cat([
            estimator(clip[1:].to(device), clip[:1].to(device)).cpu() for clip in held.composite
        ])  # fmt: skip
        return float(end_point_error(found, held.flow[:, 0], held.valid[:, 0]))

    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        network = networks["spynet"]
        assert isinstance(network, SpyNet)
        path = folder / "spynet.safetensors"
        save_weights(
            path, network, architecture=SpyNet.architecture, config=network.settings(),
            metadata=facts,
        )  # fmt: skip
        return [path]


def end_point_error(found: Tensor, flow: Tensor, valid: Tensor) -> Tensor:
    """Mean distance between two flows [N,2,H,W], over the pixels set in `valid` [N,1,H,W]."""
    distance = (found - flow).square().sum(1, keepdim=True).add(1e-12).sqrt()
    weight = valid.to(distance.dtype)
    return (distance * weight).sum() / weight.sum().clamp(min=1)


def level_error(found: Tensor, flow: Tensor, valid: Tensor) -> Tensor:
    """The same for a level of the pyramid, in pixels of the full frame.

    A place counts where all of it is set in `valid`.
    """
    factor = flow.shape[-1] // found.shape[-1]
    if factor == 1:
        return end_point_error(found, flow, valid)
    whole = F.avg_pool2d(valid.to(flow.dtype), factor) > 0.999
    return end_point_error(found * factor, F.avg_pool2d(flow, factor), whole)

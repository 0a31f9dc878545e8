# SPDX-License-Identifier: Apache-2.0
"""How CO2Net's refinement network is trained: Lu et al. (IJCAI 2022), over a fixed iS2AM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vharm.data.clip_batches import Clips
from vharm.data.dancing_batches import DancingBatches, Draw
from vharm.models.color_mapping import NEIGHBOURS, Refinement, WindowTable, frame_sums
from vharm.models.issam import Issam
from vharm.models.weights import save_weights

from ..config import ConfigError, TrainingConfig
from ..motion_data import MotionConfig, open_motion
from ..normalised import foreground_normalised
from ..recipe import Figure, Recipe, Update, register

VALIDATION_CLIPS = 24


@dataclass(frozen=True)
class Co2NetConfig(MotionConfig):
    """Settings of the refinement's training; see `MotionConfig` for the others.

    Attributes:
        base: weights of the iS2AM it refines (`vharm train issam`); it is not trained.
        width: of that network.
        channels: of the refinement's convolutions.
        frames: of a clip, an odd number; the middle one is refined, by a table of the others.
    """

    batch: int = 32
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    base: str = ""
    width: int = 32
    channels: int = 64
    frames: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 3 or self.frames % 2 == 0:
            raise ConfigError(f"frames: expected an odd number of 3 or more, got {self.frames}")


@dataclass(frozen=True)
class Known:
    """The refinement's inputs, all in ImageNet's normalisation: [N,C,H,W]."""

    composite: Tensor
    base: Tensor
    features: Tensor
    mapped: Tensor


@register
class Co2NetRecipe(Recipe):
    """The foreground-normalised loss of the middle frame, as the base was trained."""

    name: ClassVar[str] = "co2net"
    config_class: ClassVar[type[TrainingConfig]] = Co2NetConfig
    watched: ClassVar[Figure] = Figure("fmse")
    config: Co2NetConfig

    def __init__(self, config: Co2NetConfig) -> None:
        super().__init__(config)
        if not config.base:
            raise ConfigError("base: expected the weights of an iS2AM, got none")
        self._base = Issam.from_weights(config.base)
        if config.size % self._base.multiple:
            raise ConfigError(
                f"size: expected a multiple of {self._base.multiple}, got {config.size}"
            )
        if config.width != self._base.width:
            raise ConfigError(
                f"width: expected {self._base.width}, that of the base, got {config.width}"
            )
        self._middle = config.frames // 2
        self._training, self._held, _ = open_motion(
            config, config.frames, held=VALIDATION_CLIPS, **config.motion()
        )  # fmt: skip

    def bare_networks(self) -> dict[str, nn.Module]:
        return {"co2net": Refinement(self.config.width, self.config.channels)}

    def training_set(self) -> DancingBatches:
        return self._training

    def collate(self, items: Sequence[Draw]) -> Clips:
        return self._training.render(items)

    def step(
        self, networks: Mapping[str, nn.Module], batch: Clips, device: torch.device, update: Update
    ) -> dict[str, Tensor]:
        clips = batch.to(device)
        base = self._base.to(device)
        known = self.known(clips)
        output = networks["co2net"](known.composite, known.base, known.features, known.mapped)
        target = base.normalise(clips.target[:, self._middle])
        loss = foreground_normalised(output.float(), target, clips.masks[:, self._middle])
        update("co2net", loss)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def known(self, clips: Clips) -> Known:
        """What base and table make of the middle frames."""
        base, at = self._base, self._middle
        count = clips.composite.shape[:2]
        frames, masks = clips.composite.flatten(0, 1), clips.masks.flatten(0, 1)
        painted = base.paint(frames, masks)
        output = base.denormalise(painted.normalised).clamp(0, 1)
        sums = frame_sums(frames, output, masks).unflatten(0, count)
        # As in the method: on each side the outermost frame stands for those beyond it.
        times = {n: 1 for n in range(count[1]) if n != at}
        times[0] = times[count[1] - 1] = max(1, NEIGHBOURS - at + 1)
        mapped = []
        for i, own in enumerate(sums):
            table = WindowTable()
            table.move({n: (often, own[n]) for n, often in times.items()})
            middle = i * count[1] + at
            part = slice(middle, middle + 1)
            mapped.append(table.read(frames[part], output[part]))
        middles = slice(at, None, count[1])
        return Known(
            base.normalise(frames[middles]), painted.normalised[middles],
            painted.features[middles], base.normalise(torch.cat(mapped)),
        )  # fmt: skip

    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Foreground errors on 0-255: refined, by the table alone, by the base alone, untouched."""
        network, base = networks["co2net"], self._base.to(device)
        rows = []
        for held in self._held:
            clip = held.to(device)
            known = self.known(clip)
            refined = network(known.composite, known.base, known.features, known.mapped)
            made = (refined.float(), known.mapped, known.base, known.composite)
            target, mask = clip.target[:, self._middle], clip.masks[:, self._middle]
            rows.append([_fmse(base.denormalise(m).clamp(0, 1), target, mask) for m in made])
        values = torch.tensor(rows).mean(0).tolist()
        names = ("fmse", "table_fmse", "base_fmse", "composite_fmse")
        return dict(zip(names, values, strict=True)), {}

    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        network = networks["co2net"]
        assert isinstance(network, Refinement)
        path = folder / "co2net.safetensors"
        save_weights(
            path, network, architecture=Refinement.architecture, config=network.settings(),
            metadata=facts,
        )  # fmt: skip
        return [path]


def _fmse(output: Tensor, target: Tensor, mask: Tensor) -> float:
    square = (output - target).square() * mask
    return float(255**2 * square.sum() / (3 * mask.sum().clamp(min=1)))

# SPDX-License-Identifier: Apache-2.0
"""How Chen et al. (MIR 2024) is trained in its second stage: windows of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vharm import ops
from vharm.data import Windows, open_data
from vharm.data.clip_batches import Clips
from vharm.data.dancing_batches import Draw
from vharm.data.motion import MotionRange
from vharm.data.types import Sample
from vharm.flow import ESTIMATORS, open_estimator
from vharm.models.chen import DIRECTIONS, Chen
from vharm.models.issam import Issam
from vharm.models.weights import load_weights, save_weights

from ..clips import Mixed, RecolouredClips, collate
from ..config import ConfigError, TrainingConfig, check_choice, check_share
from ..motion_data import MotionConfig, open_motion
from ..recipe import Figure, KeyedSet, Recipe, Update, register
from .issam import fill_base

VALIDATION_CLIPS = 24


@dataclass(frozen=True)
class ChenConfig(MotionConfig):
    """Settings of the second stage; see `MotionConfig` for the others.

    Attributes:
        start: weights of the first stage (`vharm train issam`, of the same width, depth and
            nonlocal_levels; a file without nonlocal blocks serves too); "" starts from nothing.
        width, depth, nonlocal_levels, window: of the base, see `vharm.models.Issam`.
        frames, directions, aggregator, residual, blocks: see `vharm.models.Chen`.
        flow: estimator of the flow between composite frames, see `vharm.flow`; it is not trained.
        flow_weights: for "spynet".
        frozen: share of the training during which the base stays as it is.
        clips: folder of clips with masks, see `vharm.data.open_data`, that are recoloured beside
            the photographs set in motion; composite clips with true answers are taken as they
            are; "" for none.
        clip_split: the split of `clips`; "" takes all.
        clip_every: every n-th sample comes from `clips`.
        rotation, shift: how far foregrounds turn (degrees) and go (share of the frame) from the
            first frame of a window to the last, to either side.
        input_size: side of the square that the weights are used at; 0 is `size`.
    """

    batch: int = 8
    learning_rate: float = 5e-4
    start: str = ""
    width: int = 32
    depth: int = 4
    nonlocal_levels: tuple[int, ...] = (0, 1)
    window: int = 4
    frames: int = 5
    directions: str = "both"
    aggregator: bool = True
    residual: bool = True
    blocks: int = 5
    flow: str = "dis"
    flow_weights: str = ""
    frozen: float = 0.5
    clips: str = ""
    clip_split: str = ""
    clip_every: int = 2
    rotation: float = 5.0
    shift: float = 0.05
    input_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "flow", ESTIMATORS)
        check_choice(self, "directions", DIRECTIONS)
        check_share(self, "frozen")
        if self.clip_every < 1:
            raise ConfigError(f"clip_every: expected 1 or more, got {self.clip_every}")


@register
class ChenRecipe(Recipe):
    """L1 between the current frame of a window and its true answer."""

    name: ClassVar[str] = "chen"
    config_class: ClassVar[type[TrainingConfig]] = ChenConfig
    watched: ClassVar[Figure] = Figure("fmse")
    export_settings: ClassVar[tuple[str, ...]] = ("input_size",)
    config: ChenConfig

    def __init__(self, config: ChenConfig) -> None:
        super().__init__(config)
        shape = self.bare_networks()["chen"]
        assert isinstance(shape, Chen)
        self._offsets, self._reach = shape.offsets, shape.reach
        length = 1 + len(shape.offsets)
        # One frame more than a window in the validation: two answers that follow one another.
        data = open_motion(
            config, length, held=VALIDATION_CLIPS, held_frames=length + 1,
            limits=MotionRange(config.rotation, shift=config.shift), **config.motion(),
        )  # fmt: skip
        self._dances, self._held = data.training, data.held
        self._training: KeyedSet = data.training
        if config.clips:
            files = open_data(config.clips, split=config.clip_split or None, size=config.size)
            clips = RecolouredClips(
                Windows(files, length, 1), config.size, seed=config.seed,
                recolour=data.colours.one,
            )  # fmt: skip
            self._training = Mixed(data.training, clips, config.clip_every)
        self.flow = open_estimator(config.flow, weights=config.flow_weights or None)

    def _backbone(self) -> dict[str, Any] | None:
        """Of the base that is started from."""
        if not self.config.start:
            return None
        return load_weights(self.config.start, architecture=Issam.architecture).config.get(
            "backbone"
        )

    def bare_networks(self) -> dict[str, nn.Module]:
        config = self.config
        try:
            base = {
                "width": config.width, "depth": config.depth, "window": config.window,
                "nonlocal_levels": config.nonlocal_levels, "backbone": self._backbone(),
                "input_size": config.input_size or config.size,
            }  # fmt: skip
            network = Chen(
                base, frames=config.frames, directions=config.directions, blocks=config.blocks,
                aggregator=config.aggregator, residual=config.residual,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return {"chen": network.to(memory_format=torch.channels_last)}

    def networks(self) -> dict[str, nn.Module]:
        networks = self.bare_networks()
        network = networks["chen"]
        assert isinstance(network, Chen)
        if self.config.start:
            fill_base(network.base, self.config.start)
        return networks

    def training_set(self) -> KeyedSet:
        return self._training

    def collate(self, items: Sequence[Draw | Sample]) -> Clips:
        return collate(items, self._dances.render)

    def step(
        self, networks: Mapping[str, nn.Module], batch: Clips, device: torch.device, update: Update
    ) -> dict[str, Tensor]:
        wrapped = networks["chen"]
        network = getattr(wrapped, "module", wrapped)
        network.frozen_base = self.progress < self.config.frozen
        clips = batch.to(device)
        flows = self._flows(clips.composite, self._reach)
        output = wrapped(clips.composite, clips.masks, flows)
        loss = (output.float() - clips.target[:, self._reach]).abs().mean()
        if network.frozen_base and torch.distributed.is_initialized():
            # Processes that share gradients wait for one of every parameter.
            loss = loss + 0 * sum(p.sum() for p in network.base.parameters())
        update("chen", loss)
        return {"loss": loss.detach()}

    def _flows(self, frames: Tensor, current: int) -> Tensor:
        """From one frame of each clip to its neighbours: [N,K,2,H,W]."""
        batch, count = len(frames), len(self._offsets)
        at = frames[:, current : current + 1].expand(-1, count, -1, -1, -1)
        others = frames[:, [current + offset for offset in self._offsets]]
        return self.flow(at.flatten(0, 1), others.flatten(0, 1)).unflatten(0, (batch, count))

    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """On photographs in motion: errors on 0-255, and how far two answers are apart.

        "temporal" is the root of the foreground's mean squared difference between the two, the
        motion taken out by the exact flow; "base_" is the base's own, "composite_" the input's.
        """
        network = networks["chen"]
        assert isinstance(network, Chen)
        rows: list[list[float]] = []
        shown: dict[str, Tensor] = {}
        for i, held in enumerate(self._held):
            clip = held.to(device)
            made = {"": self._answers(network, clip), "base_": self._frame_wise(network, clip)}
            pair = slice(self._reach, self._reach + 2)
            made["composite_"] = clip.composite[0, pair]
            rows.append([n for output in made.values() for n in self._figures(output, clip)])
            if i < self.config.pictures:
                row = [made[name][0] for name in ("composite_", "base_", "")]
                row.append(clip.target[0, self._reach])
                shown[f"validation/{i}"] = (torch.cat(row, 2) * 255).round().byte().cpu()
        values = torch.tensor(rows).mean(0).tolist()
        names = [f"{of}{name}" for of in made for name in ("fmse", "temporal")]
        return dict(zip(names, values, strict=True)), shown

    def _answers(self, network: Chen, clip: Clips) -> Tensor:
        """Two frames that follow one another, [2,3,H,W], composited."""
        length = 1 + len(self._offsets)
        found = []
        for start in (0, 1):
            frames = clip.composite[:, start : start + length]
            masks = clip.masks[:, start : start + length]
            found.append(network(frames, masks, self._flows(frames, self._reach)).float())
        return self._composited(torch.cat(found), clip)

    def _frame_wise(self, network: Chen, clip: Clips) -> Tensor:
        pair = slice(self._reach, self._reach + 2)
        return self._composited(
            network.base(clip.composite[0, pair], clip.masks[0, pair]).float(), clip
        )

    def _composited(self, output: Tensor, clip: Clips) -> Tensor:
        pair = slice(self._reach, self._reach + 2)
        mask = clip.masks[0, pair]
        return mask * output.clamp(0, 1) + (1 - mask) * clip.composite[0, pair]

    def _figures(self, output: Tensor, clip: Clips) -> tuple[float, float]:
        assert clip.flow is not None
        assert clip.valid is not None
        at = self._reach
        mask = clip.masks[0, at : at + 2]
        square = (output - clip.target[0, at : at + 2]).square() * 255**2
        fmse = (square * mask).sum() / (3 * mask.sum().clamp(min=1))
        temporal = ops.temporal_loss(
            output[1:].contiguous(), output[:1].contiguous(), clip.flow[:, at], mask[1:],
            valid=clip.valid[:, at],
        )  # fmt: skip
        return float(fmse), float(temporal.sqrt()) * 255

    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        """The network, and its base by itself: what training on clips made of it."""
        network = networks["chen"]
        assert isinstance(network, Chen)
        parts: tuple[Chen | Issam, ...] = (network, network.base)
        paths = []
        for part in parts:
            paths.append(folder / f"{part.architecture}.safetensors")
            save_weights(
                paths[-1], part, architecture=part.architecture, config=part.settings(),
                metadata=facts,
            )  # fmt: skip
        return paths

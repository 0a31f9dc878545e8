# SPDX-License-Identifier: Apache-2.0
"""How iS2AM is trained: stage 1 of Chen et al. (MIR 2024), and the base of CO2Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vharm import ops
from vharm.data.clip_batches import Clips
from vharm.data.dancing_batches import DancingBatches, Draw
from vharm.data.luts import load_luts
from vharm.models.encoded_unet import shallow_encoder, start_encoder
from vharm.models.issam import DEVIATION, Issam
from vharm.models.weights import load_weights, save_weights
from vharm.ops.filters import DEFAULT_FILTERS

from ..composites import CompositeConfig, make_composer
from ..config import ConfigError, TrainingConfig
from ..motion_data import COVERAGE, motion_colours, motion_scenes
from ..normalised import foreground_normalised
from ..pictures import Item, Items, Validation, collate, open_pictures
from ..recipe import Figure, KeyedSet, Recipe, Update, register

FITTED_SIZE = 33


@dataclass(frozen=True)
class IssamConfig(CompositeConfig):
    """Settings of iS2AM's training; see `CompositeConfig` for the others.

    Attributes:
        width, depth, nonlocal_levels, window: of the network, see `vharm.models.Issam`.
        filters: turn the colours of composites made by filters; all of `vharm.ops.FILTERS` may be
            taken, as nothing is learned about them.
        backbone: trained weights whose encoder's features join the network's (a Harmonizer's, or
            an ImageNet checkpoint of EfficientNet-Lite0), see `vharm.models.Issam`; "" for none.
        start: weight file of the same network to start from; "" for none.
        temporal: weight of the whole-frame squared difference between a frame and the one before
            it, warped by the true flow; the training then sees photographs set in motion, two
            frames each, and `filters`, `own`, `grade` and `borrowed` mean nothing. 0.01 is what
            video tables call "Huang et al."; 0 trains on single frames.
        input_size: side at which users' frames are shown to the trained network; 0 is `size`.
    """

    batch: int = 16
    learning_rate: float = 1e-3
    width: int = 32
    depth: int = 4
    nonlocal_levels: tuple[int, ...] = ()
    window: int = 4
    filters: tuple[str, ...] = DEFAULT_FILTERS
    backbone: str = ""
    start: str = ""
    temporal: float = 0.0
    input_size: int = 0
    own: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temporal < 0:
            raise ConfigError(f"temporal: expected 0 or more, got {self.temporal}")


@register
class IssamRecipe(Recipe):
    """Foreground-normalised squared error on composites made on the fly."""

    name: ClassVar[str] = "issam"
    config_class: ClassVar[type[TrainingConfig]] = IssamConfig
    watched: ClassVar[Figure] = Figure("fmse")
    export_settings: ClassVar[tuple[str, ...]] = ("input_size",)
    config: IssamConfig

    def __init__(self, config: IssamConfig) -> None:
        super().__init__(config)
        pictures, held = open_pictures(
            config.data, config.size, seed=config.seed, hold_out=config.hold_out,
            borrowed=config.borrowed, least_crop=config.least_crop, own=config.own,
        )  # fmt: skip
        luts = load_luts(config.luts, "train") if config.luts else ()
        self.composer = make_composer(config, luts, config.filters)
        self._pictures = pictures
        self._pairs: DancingBatches | None = None
        if config.temporal:
            scenes = motion_scenes(pictures.scenes, config.size)
            colours = motion_colours(config.luts, config.shares, scenes, config.mild)
            self._pairs = DancingBatches(
                scenes, config.size, colours, seed=config.seed, min_coverage=COVERAGE[0],
                max_coverage=COVERAGE[1], least_crop=config.least_crop, jitter=config.jitter,
            )  # fmt: skip
        self.validation = Validation(held, luts, config.size, DEFAULT_FILTERS, config.pictures)

    def bare_networks(self) -> dict[str, nn.Module]:
        config = self.config
        try:
            network = Issam(
                config.width, config.depth, nonlocal_levels=config.nonlocal_levels,
                window=config.window, input_size=config.input_size or config.size,
                backbone=shallow_encoder().to_dict() if config.backbone else None,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"size: {error}") from error
        return {"issam": network.to(memory_format=torch.channels_last)}

    def networks(self) -> dict[str, nn.Module]:
        networks = self.bare_networks()
        if self.config.backbone:
            start_encoder(self.config.backbone, networks["issam"].backbone)
        if self.config.start:
            fill_base(networks["issam"], self.config.start)
        return networks

    def training_set(self) -> KeyedSet:
        return self._pictures if self._pairs is None else self._pairs

    def collate(self, items: Sequence[Item] | Sequence[Draw]) -> Items | Clips:
        return collate(items) if self._pairs is None else self._pairs.render(items)

    def step(
        self, networks: Mapping[str, nn.Module], batch: Any, device: torch.device, update: Update
    ) -> dict[str, Tensor]:
        network = networks["issam"]
        if isinstance(batch, Clips):
            loss, numbers = pair_loss(
                network, batch.to(device), self.config.temporal, self.config.compress
            )
        else:
            made = self.composer(*batch.to(device))
            loss = frame_loss(network, made.composite, made.mask, made.target, self.config.compress)
            numbers = {}
        update("issam", loss)
        return {"loss": loss.detach(), **numbers}

    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        network = networks["issam"]

        def harmonize(small: Tensor, small_mask: Tensor, frame: Tensor, mask: Tensor) -> Tensor:
            painted = network(small, small_mask).float().clamp(0, 1)
            return by_lut(small, painted, small_mask, frame, mask)

        return self.validation(harmonize, device)

    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        network = networks["issam"]
        assert isinstance(network, Issam)
        path = folder / "issam.safetensors"
        save_weights(
            path, network, architecture=Issam.architecture, config=network.settings(),
            metadata=facts,
        )  # fmt: skip
        return [path]


def fill_base(network: nn.Module, path: str) -> None:
    """Fills an `Issam` from a weight file, whatever size that was trained at.

    A file without nonlocal blocks serves a network that has them: they start as the identity.

    Raises:
        vharm.models.weights.WeightsError: the file does not fit otherwise.
    """
    weights = load_weights(path, architecture=Issam.architecture)
    weights.config.pop("input_size", None)
    if not weights.config.get("nonlocal_levels"):
        weights.config.pop("nonlocal_levels", None)
        for name, tensor in network.state_dict().items():
            if ".similar." in name:
                weights.tensors.setdefault(name, tensor.detach().cpu())
    weights.load_into(network)


def frame_loss(
    network: nn.Module, composite: Tensor, mask: Tensor, target: Tensor, compress: float = 0.0
) -> Tensor:
    """The foreground-normalised squared error, in ImageNet's normalisation."""
    return scaled_error(network(composite, mask), target, mask, compress)


def scaled_error(output: Tensor, target: Tensor, mask: Tensor, compress: float = 0.0) -> Tensor:
    """`foreground_normalised`, of RGB in [0,1], as the network's own normalisation has it."""
    return foreground_normalised(_scaled(output), _scaled(target), mask, compress)


def _scaled(picture: Tensor) -> Tensor:
    """RGB in units of ImageNet's deviations; the means cancel in every difference."""
    return picture.float() / picture.new_tensor(DEVIATION, dtype=torch.float32).view(1, 3, 1, 1)


def pair_loss(
    network: nn.Module, clips: Clips, weight: float, compress: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Both frames' errors in the mean, and the temporal difference where the flow holds."""
    assert clips.flow is not None
    assert clips.valid is not None
    composite, masks = clips.composite.flatten(0, 1), clips.masks.flatten(0, 1)
    output = network(composite, masks)
    error = scaled_error(output, clips.target.flatten(0, 1), masks, compress)
    previous, current = _scaled(output).unflatten(0, clips.composite.shape[:2]).unbind(1)
    temporal = ops.temporal_loss(
        current.contiguous(), previous.contiguous(), clips.flow[:, 0], clips.valid[:, 0]
    ).mean()
    return error + weight * temporal, {"error": error.detach(), "temporal": temporal.detach()}


def by_lut(
    small: Tensor, painted: Tensor, small_mask: Tensor, frame: Tensor, mask: Tensor
) -> Tensor:
    """The frame as users get it: the painted change as a table, applied at full size."""
    table, _ = ops.fit_lut(small, painted, small_mask, FITTED_SIZE, offset=True)
    return ops.apply_lut(frame, table, mask)

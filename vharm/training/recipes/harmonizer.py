# SPDX-License-Identifier: Apache-2.0
"""How Harmonizer is trained: Ke et al., ECCV 2022, sections 3.2 to 3.4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vharm import ops
from vharm.data.luts import load_luts
from vharm.models.efficientnet import EncoderConfig, load_imagenet_backbone
from vharm.models.harmonizer import Harmonizer
from vharm.models.weights import load_weights, save_weights
from vharm.ops.filters import DEFAULT_FILTERS

from .. import losses
from ..composites import CompositeConfig, make_composer
from ..config import ConfigError, TrainingConfig, check_choice, check_share
from ..pictures import Item, PictureSet, Validation, collate, open_pictures
from ..recipe import Figure, Recipe, Update, register

ENCODERS = {"b0": EncoderConfig, "lite0": EncoderConfig.lite}


@dataclass(frozen=True)
class HarmonizerConfig(CompositeConfig):
    """Settings of Harmonizer's training; see `CompositeConfig` for the others.

    Attributes:
        encoder: "b0", the paper's EfficientNet-B0, or "lite0", its Lite form.
        width, depth: multipliers of the encoder's channels and blocks, for smaller networks.
        pretrained: checkpoint of an ImageNet classifier to start from; "" for none.
        filters: the chain, in the order it is applied.
        cascade: whether each argument is read given the preceding ones.
        regions: see `vharm.models.Harmonizer`; False in the paper.
        start: weight file of the same network to start from, such as one trained at a smaller
            size; "" for none.
        loss: how stages' losses are combined for composites made by filters, see
            `vharm.training.losses.LOSSES`.
        composite_weight: of the last stage's loss for all other composites.
        drop_connect: rate of the last block.
        input_size: side at which users' frames are shown to the trained network; 0 is `size`.
            Often more than that does better, as it shows smaller things.
    """

    batch: int = 16
    betas: tuple[float, ...] = (0.9, 0.999)
    encoder: str = "b0"
    width: float = 1.0
    depth: float = 1.0
    pretrained: str = ""
    filters: tuple[str, ...] = DEFAULT_FILTERS
    cascade: bool = True
    regions: bool = False
    start: str = ""
    loss: str = "dynamic-released"
    composite_weight: float = 10.0
    drop_connect: float = 0.2
    input_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "encoder", ENCODERS)
        check_choice(self, "loss", losses.LOSSES)
        check_share(self, "drop_connect", one=False)
        for name in ("width", "depth"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")


@register
class HarmonizerRecipe(Recipe):
    """Harmonizer on composites made on the fly, half of them with their stages known."""

    name: ClassVar[str] = "harmonizer"
    config_class: ClassVar[type[TrainingConfig]] = HarmonizerConfig
    watched: ClassVar[Figure] = Figure("fmse")
    export_settings: ClassVar[tuple[str, ...]] = ("input_size",)
    config: HarmonizerConfig

    def __init__(self, config: HarmonizerConfig) -> None:
        super().__init__(config)
        self._pictures, held = open_pictures(
            config.data, config.size, seed=config.seed, hold_out=config.hold_out,
            borrowed=config.borrowed, least_crop=config.least_crop, own=config.own,
        )  # fmt: skip
        luts = load_luts(config.luts, "train") if config.luts else ()
        self.composer = make_composer(
            config, luts, config.filters, has_composites=held.has_composites
        )
        self.validation = Validation(held, luts, config.size, config.filters, config.pictures)

    def bare_networks(self) -> dict[str, nn.Module]:
        config = self.config
        network = Harmonizer(
            config.filters,
            ENCODERS[config.encoder](
                width=config.width, depth=config.depth, drop_connect=config.drop_connect
            ),
            cascade=config.cascade, regions=config.regions,
            input_size=config.input_size or config.size,
        )  # fmt: skip
        return {"harmonizer": network.to(memory_format=torch.channels_last)}

    def networks(self) -> dict[str, nn.Module]:
        networks = self.bare_networks()
        network = networks["harmonizer"]
        assert isinstance(network, Harmonizer)
        if self.config.pretrained:
            load_imagenet_backbone(self.config.pretrained, network.encoder)
        if self.config.start:
            weights = load_weights(self.config.start, architecture=Harmonizer.architecture)
            # The size worked at is not part of the network, and is what such a start changes.
            weights.config.pop("input_size", None)
            weights.load_into(network)
        return networks

    def training_set(self) -> PictureSet:
        return self._pictures

    def collate(self, items: Sequence[Item]) -> Any:
        return collate(items)

    def step(
        self, networks: Mapping[str, nn.Module], batch: Any, device: torch.device, update: Update
    ) -> dict[str, Tensor]:
        made = self.composer(*batch.to(device))
        arguments = networks["harmonizer"](
            made.composite.contiguous(memory_format=torch.channels_last), made.mask, resize=False
        )
        stages = ops.filter_chain_loss(
            made.composite, made.mask, arguments.float(), made.stages, filters=self.config.filters
        )
        figures = {"last_stage": losses.last(stages.detach())}
        stages = losses.compressed(stages, self.config.compress)
        known = made.synthetic
        share = known.float().mean()
        loss = stages.new_zeros(())
        if bool(known.any()):
            loss = loss + share * losses.LOSSES[self.config.loss](stages[known])
        if not bool(known.all()):
            weight = self.config.composite_weight * (1 - share)
            loss = loss + weight * losses.last(stages[~known])
        update("harmonizer", loss)
        return {"loss": loss.detach(), **figures}

    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        network = networks["harmonizer"]

        def harmonize(small: Tensor, small_mask: Tensor, frame: Tensor, mask: Tensor) -> Tensor:
            arguments = network(small, small_mask, resize=False).float()
            return ops.filter_chain(frame, mask, arguments, filters=self.config.filters)

        return self.validation(harmonize, device)

    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        network = networks["harmonizer"]
        assert isinstance(network, Harmonizer)
        path = folder / "harmonizer.safetensors"
        save_weights(
            path, network, architecture=Harmonizer.architecture, config=network.settings(),
            metadata=facts,
        )  # fmt: skip
        return [path]

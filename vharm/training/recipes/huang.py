# SPDX-License-Identifier: Apache-2.0
"""How the adversarial network of Huang et al. is trained: IEEE TIP 29, 2020, section III."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vharm.data.clip_batches import Clips
from vharm.data.dancing_batches import DancingBatches, Draw
from vharm.models.encoded_unet import shallow_encoder, start_encoder
from vharm.models.huang import Discriminator, Generator, Huang
from vharm.models.unet import DEPTH, NORMS, WIDEST, WIDTH
from vharm.models.weights import save_weights

from .. import adversarial
from ..config import ConfigError, TrainingConfig, check_choice, check_share
from ..motion_data import open_motion
from ..pairs import Paint, PairValidation
from ..recipe import Figure, Recipe, Update, register

MASK_INPUTS = ("given", "predicted", "mixed", "none")


@dataclass(frozen=True)
class HuangConfig(TrainingConfig):
    """Settings of the adversarial training; see `TrainingConfig` for the others.

    Attributes:
        batch: pairs of frames a step; 1 in the paper.
        size: 512 in the paper.
        betas: of both Adams; (0.5, 0.999) is usual for adversarial training.
        encoder: path of trained weights both networks' encoders start from (a Harmonizer's, or an
            ImageNet checkpoint of EfficientNet-Lite0); both are then an `EncodedUNet`, and the
            next five settings mean nothing. "" for the paper's plain U-Nets from nothing.
        width, widest, depth: of both networks, see `vharm.models.UNet`. The paper gives none; the
            defaults are 10.7 million parameters together, 16, 192, 6 are 4.3 million.
        input_skip: whether the last convolution sees the input itself.
        norm: "instance", "batch" or "none", of both networks; the paper does not say.
        residual: whether the generator starts at "unchanged"; False in the paper. A short training
            needs it: to copy the background takes long to learn.
        compress: of the reconstruction loss, see `vharm.training.losses.compressed`; 0 in the
            paper.
        temporal_weight: lambda1; 0 for the ablation.
        temporal: "regional", or "global" for the ablation.
        adversarial_weight: lambda2; with 0 (the ablation) there is no discriminator at all,
            unless `mask_input` needs it.
        mask_input: what the generator is given as the mask: "given" the true one; "predicted" what
            the discriminator of `start` says, which then stays as it is (the fine-tuning of
            Table IV); "mixed" the true one and the present discriminator's in turns; "none" zeros
            (Table IV, from scratch).
        start: weight file of the same networks to start from; "" for none.
        shares: how often foregrounds are recoloured by filters, by tables, by colour transfer;
            the second needs `luts`.
        min_coverage, max_coverage: of the masks used, as shares of the picture.
        least_crop: least side of random crops, 1 for no crops.
        borrowed: whether photographs without masks join, with masks of others.
        hold_out: share of the scenes kept for choosing the best checkpoint.
        validation_pairs: most pairs made of those.
        input_size: side at which users' frames are shown to the trained networks; 0 is `size`.
    """

    batch: int = 4
    learning_rate: float = 2e-4
    schedule: str = "constant"
    warm_up: float = 0.0
    encoder: str = ""
    width: int = WIDTH
    widest: int = WIDEST
    depth: int = DEPTH
    input_skip: bool = True
    norm: str = "instance"
    residual: bool = False
    compress: float = 0.0
    temporal_weight: float = 2e-2
    temporal: str = "regional"
    adversarial_weight: float = 1e-2
    mask_input: str = "given"
    start: str = ""
    shares: tuple[float, ...] = (1.0, 0.7, 0.3)
    min_coverage: float = 0.1
    max_coverage: float = 0.75
    least_crop: float = 0.7
    borrowed: bool = False
    hold_out: float = 0.05
    validation_pairs: int = 64
    input_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "norm", NORMS)
        check_choice(self, "temporal", adversarial.TEMPORAL)
        check_choice(self, "mask_input", MASK_INPUTS)
        for name in ("temporal_weight", "adversarial_weight", "compress"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas: expected two numbers in [0, 1), got {self.betas}")
        check_share(self, "least_crop", zero=False)
        check_share(self, "hold_out", zero=False, one=False)
        if not 0 <= self.min_coverage < self.max_coverage <= 1:
            raise ConfigError(
                "min_coverage: expected 0 <= min_coverage < max_coverage <= 1, got "
                f"{self.min_coverage} and {self.max_coverage}"
            )
        if self.validation_pairs < 1:
            raise ConfigError(
                f"validation_pairs: expected a positive number, got {self.validation_pairs}"
            )
        if self.mask_input == "predicted" and not self.start:
            raise ConfigError(
                'start: expected weights with a discriminator for mask_input="predicted", got none'
            )

    @property
    def has_discriminator(self) -> bool:
        """Whether there is one."""
        return self.adversarial_weight > 0 or self.mask_input in ("predicted", "mixed")

    @property
    def trains_discriminator(self) -> bool:
        """Whether it learns."""
        return self.has_discriminator and self.mask_input != "predicted"


@register
class HuangRecipe(Recipe):
    """Generator and pixel-wise discriminator in turns, on pairs of frames with exact flow."""

    name: ClassVar[str] = "huang"
    config_class: ClassVar[type[TrainingConfig]] = HuangConfig
    watched: ClassVar[Figure] = Figure("psnr", less_is_better=False)
    export_settings: ClassVar[tuple[str, ...]] = ("input_size",)
    config: HuangConfig

    def __init__(self, config: HuangConfig) -> None:
        super().__init__(config)
        data = open_motion(
            config, 2, hold_out=config.hold_out, held=config.validation_pairs,
            least_crop=config.least_crop, shares=config.shares,
            coverage=(config.min_coverage, config.max_coverage), borrowed=config.borrowed,
        )  # fmt: skip
        self._training = data.training
        self.validation = PairValidation(data.held, config.pictures)

    def bare_networks(self) -> dict[str, nn.Module]:
        config = self.config
        sizes: dict[str, Any] = {
            "width": config.width, "widest": config.widest, "depth": config.depth,
            "input_skip": config.input_skip, "norm": config.norm,
        }  # fmt: skip
        if config.encoder:
            sizes = {"encoder": shallow_encoder().to_dict()}
        networks: dict[str, nn.Module] = {"generator": Generator(residual=config.residual, **sizes)}
        if config.has_discriminator:
            networks["discriminator"] = Discriminator(**sizes)
        return {n: net.to(memory_format=torch.channels_last) for n, net in networks.items()}

    def networks(self) -> dict[str, nn.Module]:
        networks = self.bare_networks()
        if self.config.encoder:
            for network in networks.values():
                start_encoder(self.config.encoder, network.unet.encoder)
        if not self.config.start:
            return networks
        found = dict(Huang.from_weights(self.config.start).named_children())
        if self.config.mask_input == "predicted" and "discriminator" not in found:
            raise ConfigError(f"start: {self.config.start} has no discriminator")
        for name in networks.keys() & found.keys():
            own, theirs = networks[name].settings(), found[name].settings()
            if own != theirs:
                raise ConfigError(
                    f"start: the {name} of {self.config.start} has {theirs}, the settings say {own}"
                )
            networks[name].load_state_dict(found[name].state_dict())
        return networks

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
        """Adam for each network that learns."""
        learning = {
            name: network
            for name, network in networks.items()
            if name == "generator" or self.config.trains_discriminator
        }
        return super().optimizers(learning)

    def training_set(self) -> DancingBatches:
        return self._training

    def collate(self, items: Sequence[Draw]) -> Clips:
        return self._training.render(items)

    def step(
        self, networks: Mapping[str, nn.Module], batch: Clips, device: torch.device, update: Update
    ) -> dict[str, Tensor]:
        """The discriminator's step on what the generator paints now, then the generator's own.

        As eq. 1 and 2 have it, the discriminator judges frame t of each pair. What the generator
        makes of frame t-1 is there anyway, and is compared with its answer as well.
        """
        config, pairs = self.config, batch.to(device)
        composite, target = (t * 2 - 1 for t in (pairs.composite, pairs.target))
        discriminator = networks.get("discriminator")
        flat = composite.flatten(0, 1)
        shown = self._shown(pairs.masks.flatten(0, 1), flat, discriminator)
        output = networks["generator"](flat, shown).unflatten(0, composite.shape[:2]).float()
        figures: dict[str, Tensor] = {}
        if discriminator is not None and config.trains_discriminator:
            # One pass over all: instance norm keeps pictures apart, and batch norm then learns
            # the figures of all three kinds, which it will meet again.
            judged = torch.cat([frames[:, 1] for frames in (output.detach(), composite, target)])
            said = discriminator(judged).float().chunk(3)
            figures["discriminator"] = adversarial.discriminator_loss(*said, pairs.masks[:, 1])
            update("discriminator", figures["discriminator"])
        parts = self._parts(output, target, pairs, discriminator)
        weights = {"temporal": config.temporal_weight, "adversarial": config.adversarial_weight}
        loss = parts["reconstruction"]
        for name, weight in weights.items():
            if weight and name in parts:
                loss = loss + weight * parts[name]
        update("generator", loss)
        figures |= {"loss": loss, **parts}
        return {name: value.detach() for name, value in figures.items()}

    def _parts(
        self, output: Tensor, target: Tensor, pairs: Clips, discriminator: nn.Module | None
    ) -> dict[str, Tensor]:
        """The terms of eq. 2 without their weights, of output and target [P,2,3,s,s]."""
        config = self.config
        assert pairs.flow is not None
        assert pairs.valid is not None
        parts = {
            "reconstruction": adversarial.reconstruction_loss(
                output.flatten(0, 1), target.flatten(0, 1), config.compress
            ),
            "temporal": adversarial.temporal_loss(
                output, pairs.masks[:, 1], pairs.flow[:, 0], pairs.valid[:, 0], config.temporal
            ),
        }
        if discriminator is not None and config.adversarial_weight:
            # Not through a wrapper of several processes, which waits for gradients of its own.
            inner = getattr(discriminator, "module", discriminator)
            with adversarial.frozen(inner):
                parts["adversarial"] = adversarial.adversarial_loss(inner(output[:, 1]).float())
        return parts

    @torch.no_grad()
    def _shown(self, mask: Tensor, composite: Tensor, discriminator: nn.Module | None) -> Tensor:
        """What the generator is given as the mask."""
        kind = self.config.mask_input
        if kind == "given":
            return mask
        if kind == "none":
            return torch.zeros_like(mask)
        assert discriminator is not None
        inner = getattr(discriminator, "module", discriminator)
        said = inner(composite).float().clamp(0, 1)
        if kind == "predicted":
            return said
        # Frames of a pair are neighbours, and belong to the same kind.
        turn = torch.arange(len(mask), device=mask.device).div(2, rounding_mode="floor") % 2 == 0
        return torch.where(turn[:, None, None, None], mask, said)

    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Figures with the mask the training is about; beside it all-zero and predicted ones."""
        generator, discriminator = networks["generator"], networks.get("discriminator")

        def zero(composite: Tensor, mask: Tensor) -> Tensor:
            return generator(composite, torch.zeros_like(mask))

        rows: dict[str, Paint] = {"given": generator, "zero": zero}
        if discriminator is not None:
            rows["predicted"] = lambda composite, mask: generator(
                composite, discriminator(composite).float().clamp(0, 1)
            )
        main = {"none": "zero", "predicted": "predicted"}.get(self.config.mask_input, "given")
        ordered = {"": rows.pop(main), **rows}
        return self.validation(ordered, device, discriminator)

    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        """One file for both networks."""
        generator, discriminator = networks["generator"], networks.get("discriminator")
        assert isinstance(generator, Generator)
        assert discriminator is None or isinstance(discriminator, Discriminator)
        whole = Huang.of(generator, discriminator, self.config.input_size or self.config.size)
        path = folder / "huang.safetensors"
        save_weights(
            path, whole, architecture=Huang.architecture, config=whole.settings(), metadata=facts
        )
        return [path]

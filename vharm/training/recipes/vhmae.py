# SPDX-License-Identifier: Apache-2.0
"""How VHMAE is trained: "Harmony Everything!", ACM MM 2024, sections 3.3 and 4."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vharm import ops
from vharm.data import seeding
from vharm.data.augment import resized
from vharm.data.luts import load_luts
from vharm.evaluation.grid import GridEnergy, grid_energy
from vharm.models.encoded_unet import shallow_encoder, start_encoder
from vharm.models.vhmae import PAINTS, PATCH, SIZES, Vhmae
from vharm.models.weights import load_weights, save_weights
from vharm.ops.filters import DEFAULT_FILTERS

from .. import masked_losses
from ..composites import CompositeConfig, make_composer
from ..config import ConfigError, TrainingConfig, check_choice, check_share
from ..order import Key
from ..pictures import Validation, open_pictures
from ..recipe import Figure, Recipe, Update, register
from ..windows import Window, WindowSet, apart, collate, open_clips

LUT_SIZE = 33


@dataclass(frozen=True)
class VhmaeConfig(CompositeConfig):
    """Settings of VHMAE's training; see `CompositeConfig` for the others.

    Attributes:
        model: "tiny", "small" or "base".
        patch: side of a patch in pixels; `size` is a multiple of it.
        paints: "colour", the paper's, or "change", see `vharm.models.Vhmae`.
        pattern: whether PAM reads the masked patches; False for the ablation.
        alpha: weight of the alignment loss; 0 for the ablation.
        beta: weight of the patch balancing loss; 0 for the ablation.
        literal: the losses' sums as printed instead of means.
        windows: numbers of frames trained on at a time; epochs take turns over them.
        dancing: how often a window of several frames of a photograph moves; else it is a still.
        clips: data set of clips, for windows of real motion; "" for none.
        clip_share: how often a window is taken from them.
        extra_masking: largest share of the patches without foreground that join it, drawn anew for
            each window and the same in all its frames; 0 for none.
        backbone: weight file of a Harmonizer whose encoder's features the network is given, or an
            ImageNet checkpoint of its kind; it is not trained. "" for none.
        start: weight file of the same network to start from, such as one trained at a smaller
            size; "" for none.
    """

    batch: int = 32
    learning_rate: float = 1e-3
    warm_up: float = 0.05
    weight_decay: float = 0.05
    betas: tuple[float, ...] = (0.9, 0.95)
    model: str = "tiny"
    patch: int = PATCH
    paints: str = "colour"
    pattern: bool = True
    alpha: float = 1.0
    beta: float = 1.0
    literal: bool = False
    windows: tuple[int, ...] = (1,)
    dancing: float = 0.5
    clips: str = ""
    clip_share: float = 0.5
    extra_masking: float = 0.0
    backbone: str = ""
    start: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "model", tuple(SIZES))
        check_choice(self, "paints", PAINTS)
        if self.patch < 2 or self.size % self.patch:
            raise ConfigError(
                f"size: expected a multiple of the patch, {self.patch}, got {self.size}"
            )
        if not self.windows or min(self.windows) < 1:
            raise ConfigError(f"windows: expected numbers of frames, got {self.windows}")
        for name in ("alpha", "beta"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        check_share(self, "dancing", "clip_share")
        check_share(self, "extra_masking", one=False)


@register
class VhmaeRecipe(Recipe):
    """VHMAE on composites made on the fly, as windows of one frame or more.

    Validation is by way of a LUT, as the method is used: `fmse` and the like. Figures named
    `painted_` are those of the network's own pixels; `grid` is how much more those differ at
    patch borders than inside patches, beside the photographs' own `true_grid`.
    """

    name: ClassVar[str] = "vhmae"
    config_class: ClassVar[type[TrainingConfig]] = VhmaeConfig
    watched: ClassVar[Figure] = Figure("fmse")
    config: VhmaeConfig

    def __init__(self, config: VhmaeConfig) -> None:
        super().__init__(config)
        pictures, held = open_pictures(
            config.data, config.size, seed=config.seed, hold_out=config.hold_out,
            borrowed=config.borrowed, least_crop=config.least_crop, own=config.own,
        )  # fmt: skip
        clips = open_clips(config.clips, max(config.windows), config.size)
        self._windows = WindowSet(
            pictures, config.windows, dancing=config.dancing, clips=clips,
            clip_share=config.clip_share,
        )  # fmt: skip
        luts = load_luts(config.luts, "train") if config.luts else ()
        self.composer = make_composer(config, luts, has_composites=held.has_composites)
        self.validation = Validation(held, luts, config.size, DEFAULT_FILTERS, config.pictures)

    def bare_networks(self) -> dict[str, nn.Module]:
        config = self.config
        network = Vhmae(
            config.model, patch=config.patch, input_size=config.size, pattern=config.pattern,
            paints=config.paints, windows=config.windows,
            backbone=shallow_encoder().to_dict() if config.backbone else None,
        )  # fmt: skip
        return {"vhmae": network}

    def networks(self) -> dict[str, nn.Module]:
        networks = self.bare_networks()
        if self.config.backbone:
            start_encoder(self.config.backbone, networks["vhmae"].backbone)
        if self.config.start:
            weights = load_weights(self.config.start, architecture=Vhmae.architecture)
            # These are no part of the network, and are what such a start changes.
            for key in ("input_size", "windows"):
                weights.config.pop(key, None)
            weights.load_into(networks["vhmae"])
        return networks

    def optimizers(self, networks: Mapping[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
        """AdamW; biases, norms and the mask token do not decay."""
        config = self.config
        parameters = [p for p in networks["vhmae"].parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        betas = (config.betas[0], config.betas[1])
        return {"vhmae": torch.optim.AdamW(groups, config.learning_rate, betas=betas)}

    def training_set(self) -> WindowSet:
        return self._windows

    def collate(self, items: Sequence[Window]) -> Any:
        return collate(items)

    def step(
        self, networks: Mapping[str, nn.Module], batch: Any, device: torch.device, update: Update
    ) -> dict[str, Tensor]:
        config, length = self.config, batch.length
        frames, masks, keys, composites, given = batch.to(device)
        if config.extra_masking:
            extra = extra_patches(
                keys, config.size, config.patch, config.extra_masking, config.seed
            )
            extra = extra.to(device).repeat(1, 1, length, 1)
            masks = torch.maximum(masks, extra)
        made = self.composer(frames, masks, keys, composites, given)
        composite, mask, target = (
            apart(t, length) for t in (made.composite, made.mask, made.target)
        )
        painted = networks["vhmae"](composite, mask, frames_per_clip=length)
        terms = masked_losses.terms(
            painted, target, patch=config.patch, frames_per_clip=length,
            alignment_wanted=config.alpha > 0, balance_wanted=config.beta > 0,
            literal=config.literal, compress=config.compress,
        )  # fmt: skip
        loss = terms.total(config.alpha, config.beta)
        update("vhmae", loss)
        parts = {name: value.detach() for name, value in terms._asdict().items()}
        return {"loss": loss.detach(), **parts}

    def validate(
        self, networks: Mapping[str, nn.Module], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        network = networks["vhmae"]
        energies: list[GridEnergy] = []
        # Both figures are of the same pictures, and painting them is what takes the time.
        painted: deque[Tensor] = deque()

        def by_look(small: Tensor, small_mask: Tensor, frame: Tensor, mask: Tensor) -> Tensor:
            picture = network(small, small_mask).image.clamp(0, 1)
            painted.append(picture.half().cpu())
            table, _ = ops.fit_lut(small, picture, small_mask, LUT_SIZE, offset=True)
            return ops.apply_lut(frame, table, mask)

        def as_painted(small: Tensor, small_mask: Tensor, frame: Tensor, mask: Tensor) -> Tensor:
            picture = painted.popleft().to(frame)
            energies.append(grid_energy(picture, small_mask, patch=self.config.patch))
            picture = nn.functional.interpolate(picture, frame.shape[2:], mode="bilinear")
            return mask * picture + (1 - mask) * frame

        figures, pictures = self.validation(by_look, device)
        raw, _ = self.validation(as_painted, device)
        figures |= {f"painted_{name}": raw[name] for name in ("fmse", "psnr")}
        figures["grid"] = pooled_ratio(energies)
        true = resized(self.validation.target, self.config.size)
        energy = grid_energy(true, self.validation.small_mask, patch=self.config.patch)
        figures["true_grid"] = float(energy.ratio(pooled=True))
        return figures, pictures

    def export(
        self, networks: Mapping[str, nn.Module], folder: Path, facts: Mapping[str, Any]
    ) -> list[Path]:
        network = networks["vhmae"]
        assert isinstance(network, Vhmae)
        path = folder / "vhmae.safetensors"
        save_weights(
            path, network, architecture=Vhmae.architecture, config=network.settings(),
            metadata=facts,
        )  # fmt: skip
        return [path]


def pooled_ratio(energies: Sequence[GridEnergy]) -> float:
    """One grid figure over several batches."""
    whole = GridEnergy(*(torch.cat(parts) for parts in zip(*energies, strict=True)))
    return float(whole.ratio(pooled=True))


def extra_patches(
    keys: Sequence[Key], size: int, patch: int, most: float, seed: int
) -> Tensor:  # fmt: skip
    """Random patches for each key, uint8 [B,1,size,size]: 255 there, 0 elsewhere.

    They become foreground before colours are changed. So they too are to be recovered, and what is
    visible of the background is less: foregrounds of any size and shape come of small ones.
    """
    side = size // patch
    drawn = []
    for key in keys:
        source = seeding.generator(seed, *key, 3)
        share = seeding.uniform(source, 0, most)
        drawn.append(torch.rand(1, side, side, generator=source) < share)
    marked = torch.stack(drawn).to(torch.uint8) * 255
    return marked.repeat_interleave(patch, 2).repeat_interleave(patch, 3)

# SPDX-License-Identifier: Apache-2.0
"""The network Harmonizer as a method: from frames to white-box filter arguments."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from vharm.looks import FilterLook, Look
from vharm.ops.filters import filter_statistics

from . import shipped
from .base import Method

LEAST_SIDE = 32


class HarmonizerMethod(Method):
    """Harmonizer's filter arguments, with the means of the small frame.

    A `background` picture takes the place of the background the network sees; with a
    `background_weight`, what does not count is painted in the mean colour of what does.

    Args:
        weights: a vharm `.safetensors` file, or a published checkpoint; None takes the weights
            that come with vharm.
        device: where the network runs.
        quantized_contrast: the floored contrast gain of the released implementation; None takes
            it for published checkpoints, which were trained with it.
        engine: what runs the network: "torch", "onnxruntime" (faster on the CPU, and used there
            only), or "auto", which is ONNX Runtime on the CPU where it is installed, and else
            PyTorch. `arguments` of both agree to 1e-4.
        side: of the square that the network is shown; None is what its weights say. Fewer pixels
            are faster and find the colours a little less well.

    Attributes:
        engine: "torch" or "onnxruntime".

    Raises:
        vharm.models.weights.WeightsError: no weights, or a file that cannot be used.
        ImportError, ValueError: the engine asked for is not installed, or not for this device;
            a side below 32.
    """

    name = "harmonizer"
    summary = "a network that sets six white-box filters (temperature ... shadow)"
    when_to_use = (
        "first: a learned estimate, and six values that can be edited by hand; its weights are for "
        "non-commercial use."
    )
    source = "Ke et al., Harmonizer: Learning to Perform White-Box Harmonization, ECCV 2022"
    needs_weights = True
    weights_licence = "CC BY-NC 4.0"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "cpu",
        quantized_contrast: bool | None = None,
        engine: str = "auto",
        side: int | None = None,
    ) -> None:
        from vharm.models.engine import OnnxEngine, choose_engine
        from vharm.models.harmonizer import Harmonizer
        from vharm.models.weights import CHECKPOINT_SUFFIXES

        if side is not None and not (isinstance(side, int) and side >= LEAST_SIDE):
            raise ValueError(f"side: expected {LEAST_SIDE} or more pixels, got {side!r}")
        self.engine = choose_engine(engine, device)
        self.runs_in_torch = self.engine == "torch"
        weights = shipped.chosen(self.name, weights)
        network = Harmonizer.from_weights(weights).to(device).eval()
        if side is not None:
            network.input_size = side
        self.network = network.to(memory_format=torch.channels_last)
        self._run = OnnxEngine(self.network) if self.engine == "onnxruntime" else self.network
        self.device = torch.device(device)
        if quantized_contrast is None:
            quantized_contrast = weights.suffix.lower() in CHECKPOINT_SUFFIXES
        self.quantized_contrast = quantized_contrast

    @classmethod
    def why_not(cls) -> str | None:
        return shipped.why_missing(cls.name)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """A square whatever the aspect, as the network was trained."""
        own = super().working_size(height, width)
        side = self.network.input_size
        return own if side is None else (side, side)

    @torch.no_grad()
    def estimate(
        self,
        frames: Tensor,
        masks: Tensor,
        *,
        background: Tensor | None = None,
        background_weight: Tensor | None = None,
    ) -> list[Look]:
        given = self.request(frames, masks, background, background_weight)
        filters = self.network.filters
        looks: list[Look] = [FilterLook.identity(filters) for _ in range(len(frames))]
        use = given.usable()
        if not bool(use.any()):
            return looks
        # A selection copies, and mostly all are of use.
        which = slice(None) if bool(use.all()) else use
        seen = given.seen()[which].to(self.device)
        arguments = self._run(seen, given.masks[which].to(self.device)).float()
        # The chain runs on the composite, so the means are its own and not those of what is seen.
        statistics = filter_statistics(
            given.frames[which].to(self.device), arguments, filters=filters,
            quantized_contrast=self.quantized_contrast,
        )  # fmt: skip
        for row, i in enumerate(use.nonzero().flatten().tolist()):
            looks[i] = FilterLook(
                arguments[row].cpu().clone(), statistics[row].cpu().clone(), filters,
                self.quantized_contrast,
            )  # fmt: skip
        return looks

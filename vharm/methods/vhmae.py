# SPDX-License-Identifier: Apache-2.0
"""The network VHMAE as a method: a masked autoencoder for large foregrounds."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor

from vharm.looks import Look, ResidualLook

from . import shipped
from .pixel import PixelMethod

LOOKS = ("lut", "residual", "raw")
# Of the low-pass, in patches: what is left cannot follow the patches' grid.
SIGMA = 0.5


class VhmaeMethod(PixelMethod):
    """VHMAE's painted foreground, as a change of colours.

    What a masked autoencoder paints is soft, and painted patch by patch. So its picture is not
    what is shown: by default a LUT is fitted to it. `render` gives the picture itself.

    Frames are painted one by one. The network takes windows of frames as well
    (`frames_per_clip`); one that was trained on longer windows only is shown each frame repeated.

    Args:
        weights: a vharm `.safetensors` file; None takes the weights that come with vharm.
        device: where the network runs.
        look: "lut"; "residual", the smooth part of the change by place, such as shading; or
            "raw", the change as it was painted: at the working size that is the network's own
            picture, and at any larger size the frame's detail stays on top of it.
        side: longer side of the frames the network is shown; None is what it was trained on.

    Raises:
        vharm.models.weights.WeightsError: no weights, or a file that cannot be used.
        ValueError: another `look`, or a side of less than a patch.
    """

    name = "vhmae"
    summary = "a masked autoencoder that paints the foreground anew from what surrounds it"
    when_to_use = (
        "to compare with harmonizer where the foreground fills half of the frame or more; its "
        "weights are for non-commercial use."
    )
    source = "Harmony Everything! Masked Autoencoders for Video Harmonization, ACM MM 2024"
    weights_licence = "CC BY-NC 4.0"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "cpu",
        look: str = "lut",
        side: int | None = None,
    ) -> None:
        from vharm.models.vhmae import Vhmae

        if look not in LOOKS:
            raise ValueError(f"look: expected one of {', '.join(LOOKS)}, got {look!r}")
        super().__init__(look="lut" if look == "lut" else "residual")
        self.raw = look == "raw"
        weights = shipped.chosen(self.name, weights)
        self.network = Vhmae.from_weights(weights).to(device).eval()
        self.device = torch.device(device)
        self.side = self.network.input_size if side is None else side
        if self.side < self.network.patch:
            raise ValueError(f"side: expected {self.network.patch} or more pixels, got {side}")

    @classmethod
    def why_not(cls) -> str | None:
        return shipped.why_missing(cls.name)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """Whole patches; the longer side is `side`, the aspect is kept.

        To the nearest patch, that is; at least one patch, also for a frame smaller than that.
        """
        super().working_size(height, width)  # checks
        patch = self.network.patch
        scale = min(1.0, self.side / max(height, width))
        rows, columns = (max(1, int(n * scale / patch + 0.5)) * patch for n in (height, width))
        return rows, columns

    @torch.no_grad()
    def render(self, frames: Tensor, masks: Tensor) -> Tensor:
        """What the network paints, [B,3,h,w] in [0,1]: patches with foreground, others unchanged.

        Args:
            frames: [B,3,h,w] in [0,1], of any size; frames that are not whole patches are
                continued by their edge.
            masks: [B,1,h,w].
        """
        height, width = frames.shape[2:]
        extra = (-width % self.network.patch, -height % self.network.patch)
        padded = (0, extra[0], 0, extra[1])
        seen, inside = frames.to(self.device), masks.to(self.device)
        if any(extra):
            # The mask too: a foreground that is cut by the edge is no background beyond it.
            seen, inside = (F.pad(t, padded, mode="replicate") for t in (seen, inside))
        length = 1 if 1 in self.network.windows else min(self.network.windows)
        seen, inside = (t.repeat_interleave(length, 0) for t in (seen, inside))
        painted = self.network(seen, inside, frames_per_clip=length).image
        current = painted[(length - 1) // 2 :: length]
        return current[..., :height, :width].clamp(0, 1)

    def _fitted(self, source: Tensor, painted: Tensor, masks: Tensor) -> list[Look]:
        if self.look == "lut" or self.raw:
            return super()._fitted(source, painted, masks)
        change = low_pass(painted - source, masks, SIGMA * self.network.patch)
        return [ResidualLook(picture) for picture in change.cpu()]


def low_pass(change: Tensor, masks: Tensor, sigma: float) -> Tensor:
    """A Gaussian mean of `change` [B,C,h,w] over what `masks` [B,1,h,w] mark.

    Also beyond the mask, as far as the Gaussian reaches, so that no rim is left where the mask is
    finer at full size; 0 farther out.
    """
    reach = max(1, round(3 * sigma))
    steps = torch.arange(-reach, reach + 1, device=change.device, dtype=change.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()

    def blurred(picture: Tensor) -> Tensor:
        flat = picture.flatten(0, 1)[:, None]
        flat = F.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(reach, 0))
        flat = F.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, reach))
        return flat.view_as(picture)

    masks = masks.to(change.dtype)
    weight = blurred(masks)
    mean = blurred(change * masks) / weight.clamp(min=1e-6)
    return torch.where(weight > 1e-4, mean, torch.zeros_like(mean))

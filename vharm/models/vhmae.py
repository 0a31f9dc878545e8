# SPDX-License-Identifier: Apache-2.0
"""VHMAE: a masked autoencoder whose masked tokens are the patches with foreground.

Source: "Harmony Everything! Masked Autoencoders for Video Harmonization" (ACM MM 2024), section 3.
Patches with any foreground are masked, the encoder sees all others, a small network reads the
masked patches' patterns (PAM), and a decoder paints them from both. Token counts differ from clip
to clip: they are packed one behind the other, and the work follows what is visible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vharm import ops
from vharm.models.backbone import Backbone
from vharm.models.efficientnet import EncoderConfig
from vharm.models.network import Network
from vharm.models.positions import space_time
from vharm.models.transformer import EPSILON, Transformer, initialised

PATCH = 16
INPUT_SIZE = 256
PAINTS = ("colour", "change")
MIDDLE_GREY = 0.5


@dataclass(frozen=True)
class VhmaeSize:
    """How large the network is: widths in channels, depths in blocks, heads of attention."""

    width: int = 192
    depth: int = 8
    heads: int = 3
    decoder_width: int = 128
    decoder_depth: int = 4
    decoder_heads: int = 2

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a positive whole number, got {value!r}")


SIZES = {
    "tiny": VhmaeSize(),
    "small": VhmaeSize(384, 12, 6, 192, 4, 3),
    "base": VhmaeSize(768, 12, 12, 384, 4, 6),
}


class Packed(NamedTuple):
    """Tokens of a batch, one clip's behind the other's.

    Attributes:
        tokens: [K,C].
        index: [K] int64, frame * P + patch.
        bounds: int32 [S+1], where each clip's tokens begin and the last one's end.
    """

    tokens: Tensor
    index: Tensor
    bounds: Tensor


class Painted(NamedTuple):
    """What the network makes of a batch of N frames, S clips, P patches a frame.

    Attributes:
        image: [N,3,H,W]: painted where a patch holds any foreground, else the input's own pixels.
            Not clamped.
        patches: [K, patch * patch * 3], what was painted, samples in the order (row, column,
            channel).
        masked: bool [N,P], which patches.
        pattern: [K,C] with bounds; what PAM read from them, None without PAM.
        visible: [V,C] with bounds; what the encoder made of all others.
    """

    image: Tensor
    patches: Tensor
    masked: Tensor
    pattern: Packed | None
    visible: Packed


class PatternReader(nn.Module):
    """PAM: raw patches [K, samples] to patterns [K, width], each by itself.

    Three layers; the second and third add to what the one before gave. Through norms alone a dark
    and a bright patch of one colour would look alike, and how bright it is matters here.
    """

    def __init__(self, samples: int, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(samples, width)
        self.refine = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width, eps=EPSILON), nn.GELU(), nn.Linear(width, width))
            for _ in range(2)
        )

    def forward(self, patches: Tensor) -> Tensor:
        pattern = self.read(patches)
        for layer in self.refine:
            pattern = pattern + layer(pattern)
        return pattern


class Vhmae(Network):
    """Paints the foreground's patches anew, in the light of what surrounds them.

    Args:
        size: a name of `SIZES` or a `VhmaeSize`.
        patch: side of a patch in pixels.
        input_size: side of the square trained on; positions in other frames are read in between.
        pattern: whether PAM reads the masked patches; False puts one learned token for all of
            them (the ablation).
        paints: "colour", the paper's: the decoder paints RGB; "change": what it paints is added
            to the composite's own pixels, and an untrained network changes nothing.
        windows: numbers of frames trained on at a time; the network takes any.
        backbone: settings of an `EncoderConfig` without a head, None, as in the paper, for no
            backbone. Its features of each patch join what is read from the patch itself, visible
            or masked. It looks at whole frames, foreground included, so its cost does not follow
            the visible share; it stays as it was trained elsewhere.

    Raises:
        ValueError: naming the argument.
    """

    architecture = "vhmae"

    def __init__(
        self,
        size: str | VhmaeSize = "tiny",
        *,
        patch: int = PATCH,
        input_size: int = INPUT_SIZE,
        pattern: bool = True,
        paints: str = "colour",
        windows: Sequence[int] = (1,),
        backbone: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(size, str):
            if size not in SIZES:
                raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
            size = SIZES[size]
        if paints not in PAINTS:
            raise ValueError(f"paints: expected one of {', '.join(PAINTS)}, got {paints!r}")
        if patch < 1 or input_size < patch or input_size % patch:
            raise ValueError(
                f"input_size: expected a multiple of the patch, {patch}, got {input_size}"
            )
        if not windows or min(windows) < 1:
            raise ValueError(f"windows: expected numbers of frames, got {tuple(windows)}")
        self.size, self.patch, self.input_size = size, patch, input_size
        self.paints, self.windows = paints, tuple(windows)
        samples = 3 * patch * patch
        self.embed = nn.Linear(samples, size.width)
        self.encoder = Transformer(size.width, size.depth, size.heads)
        self.pattern = PatternReader(samples, size.width) if pattern else None
        self.mask_token = None if pattern else nn.Parameter(torch.zeros(size.width))
        self.backbone = None if backbone is None else Backbone(EncoderConfig.from_dict(backbone))
        lent = sum(self.backbone.level_channels) if self.backbone is not None else 0
        self.lend = _lending(lent, size.width) if lent else None
        self.lend_pattern = _lending(lent, size.width) if lent and pattern else None
        self.project = nn.Linear(size.width, size.decoder_width, bias=False)
        self.decoder = Transformer(size.decoder_width, size.decoder_depth, size.decoder_heads)
        self.paint = nn.Linear(size.decoder_width, samples)
        for part in self.children():
            if part is not self.backbone:
                initialised(part)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)
        if paints == "change":
            # Not exactly zero: the gradient must reach what lies before.
            nn.init.normal_(self.paint.weight, std=1e-3)
        else:
            nn.init.constant_(self.paint.bias, MIDDLE_GREY)

    def forward(self, image: Tensor, mask: Tensor, *, frames_per_clip: int = 1) -> Painted:
        """Paint.

        Args:
            image: [N,3,H,W] composites, RGB in [0,1], floating point; H and W are multiples of
                the patch, and need be neither equal nor `input_size`.
            mask: [N,1,H,W] foreground in [0,1]; any sample above 0 makes its patch foreground.
            frames_per_clip: T; each T consecutive frames see one another.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.

        Frames without foreground come back as they are. Where nothing is visible the decoder has
        the patterns alone.
        """
        _check_inputs(image, mask)
        masked = ops.foreground_patches(mask, self.patch)
        lent = None
        if self.backbone is not None:
            lent = self.backbone.of_patches(image, mask.to(image.dtype), self.patch).flatten(0, 1)
        visible = self.encode(image, ~masked, lent, frames_per_clip=frames_per_clip)
        patches, index, bounds = ops.pack_patches(
            image, masked, self.patch, frames_per_clip=frames_per_clip
        )
        if self.pattern is not None:
            read = self.pattern(_centred(patches))
            if lent is not None:
                assert self.lend_pattern is not None
                read = read + self.lend_pattern(lent[index])
            pattern = Packed(read, index, bounds)
            hidden = self.project(read)
        else:
            assert self.mask_token is not None
            pattern = None
            hidden = self.project(self.mask_token).expand(len(index), -1)
        painted = self.paint(self._decoded(visible, hidden, index, masked, image, frames_per_clip))
        painted = painted.to(image.dtype)
        if self.paints == "change":
            painted = patches + painted
        whole = ops.unpack_patches(painted, index, image, self.patch)
        return Painted(whole, painted, masked, pattern, visible)

    def encode(
        self, image: Tensor, keep: Tensor, lent: Tensor | None = None, *, frames_per_clip: int = 1
    ) -> Packed:
        """The encoder over the patches in `keep` (bool [N,P]) of `image` [N,3,H,W].

        `lent` [N*P,C] is what a backbone made of all patches, None without one.
        """
        patches, index, bounds = ops.pack_patches(
            image, keep, self.patch, frames_per_clip=frames_per_clip
        )
        tokens = self.embed(_centred(patches))
        if lent is not None:
            assert self.lend is not None
            tokens = tokens + self.lend(lent[index])
        tokens = tokens + self._places(index, image, self.size.width, frames_per_clip)
        longest = int(bounds.diff().max()) if len(bounds) > 1 else 0
        return Packed(self.encoder(tokens, bounds, longest), index, bounds)

    def settings(self) -> dict[str, Any]:
        return {
            "size": asdict(self.size),
            "patch": self.patch,
            "input_size": self.input_size,
            "pattern": self.pattern is not None,
            "paints": self.paints,
            "windows": list(self.windows),
            "backbone": None if self.backbone is None else self.backbone.config.to_dict(),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Vhmae:
        others = dict(settings)
        return cls(VhmaeSize(**others.pop("size", {})), **others)

    def _decoded(
        self, visible: Packed, hidden: Tensor, index: Tensor, masked: Tensor, image: Tensor,
        frames_per_clip: int,
    ) -> Tensor:  # fmt: skip
        """The masked patches' tokens after the decoder, [K, decoder width]."""
        seen = self.project(visible.tokens)
        empty = seen.new_zeros(seen.shape[1])
        every = ops.unpack_tokens(seen, visible.index, empty, size=tuple(masked.shape))
        every = ops.unpack_tokens(hidden.to(seen.dtype), index, every).flatten(0, 1)
        order = torch.arange(len(every), device=every.device)
        every = every + self._places(order, image, every.shape[1], frames_per_clip)
        length = frames_per_clip * masked.shape[1]
        bounds = torch.arange(
            0, len(every) + 1, max(length, 1), device=every.device, dtype=torch.int32
        )
        return self.decoder(every, bounds, length)[index]

    def _places(self, index: Tensor, image: Tensor, width: int, frames_per_clip: int) -> Tensor:
        size = image.shape[2] // self.patch, image.shape[3] // self.patch
        return space_time(
            index, size, width, frames_per_clip=frames_per_clip,
            grid=self.input_size // self.patch,
        )  # fmt: skip


def _lending(channels: int, width: int) -> nn.Sequential:
    """A backbone's features [K,channels] to tokens [K,width]."""
    return nn.Sequential(nn.LayerNorm(channels, eps=EPSILON), nn.Linear(channels, width))


def _centred(patches: Tensor) -> Tensor:
    """From [0,1] to [-1,1]."""
    return 2 * patches - 1


def _check_inputs(image: Tensor, mask: Tensor) -> None:
    for name, value, channels in (("image", image, 3), ("mask", mask, 1)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point tensor, got {value.dtype}")
        if value.ndim != 4 or value.shape[1] != channels or 0 in value.shape[2:]:
            raise ValueError(f"{name}: expected [N,{channels},H,W], got {list(value.shape)}")
    expected = [image.shape[0], 1, *image.shape[2:]]
    if list(mask.shape) != expected:
        raise ValueError(f"mask: expected {expected} to match image, got {list(mask.shape)}")

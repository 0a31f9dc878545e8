# SPDX-License-Identifier: Apache-2.0
"""Looks that are a small picture of differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vharm.ops import _check

from . import _fields
from .base import DEFAULT_LUT_SIZE, Look, Planes
from .lut_look import LutLook

_OWNER = "residual look"


@dataclasses.dataclass(frozen=True, eq=False)
class ResidualLook(Look):
    """A difference picture, up-sampled to the frame and added inside the mask.

    For pixel networks whose change depends on the place and not only on the colour. It belongs to
    one frame's geometry: smoothed or locked over a moving foreground it lags behind.

    Args:
        image: `[3,h,w]` float, what is added to RGB in [0,1]; bilinear up-sampling, pixel centres
            aligned.
        strength: 0 to 1.

    Raises:
        TypeError, ValueError: naming the argument.
    """

    kind: ClassVar[str] = "residual"

    image: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.image, Tensor):
            raise TypeError(
                f"ResidualLook: image must be a tensor, got {type(self.image).__name__}"
            )
        shape = tuple(self.image.shape)
        if len(shape) != 3 or shape[0] != 3 or 0 in shape:
            raise ValueError(f"ResidualLook: image must have shape [3, h, w], got {list(shape)}")
        _fields.finite("ResidualLook", "image", self.image)
        object.__setattr__(self, "image", self.image.detach().float())

    @property
    def device(self) -> torch.device:
        return self.image.device

    def to(self, device: str | torch.device) -> ResidualLook:
        if self.device == torch.device(device):
            return self
        return dataclasses.replace(self, image=self.image.to(device))

    def resized(self, height: int, width: int) -> ResidualLook:
        """The same Look with its picture at another size."""
        if tuple(self.image.shape[1:]) == (height, width):
            return self
        resized = F.interpolate(
            self.image[None], (height, width), mode="bilinear", align_corners=False
        )
        return dataclasses.replace(self, image=resized[0])

    def apply(self, image: Tensor, mask: Tensor | None = None, *, layout: str = "NCHW") -> Tensor:
        size = _, height, width = _check.image("apply", image, layout)
        if mask is not None:
            _check.mask("apply", mask, size, layout, image.device)
        added = self.to(image.device).resized(height, width).image
        if layout == "NHWC":
            added = added.permute(1, 2, 0)
        full = _check.full_scale(image.dtype)
        compute = torch.float64 if image.dtype == torch.float64 else torch.float32
        added = added.to(compute) * (full * self.strength)
        touched = None
        if mask is not None:
            weight = mask.to(compute)
            if not mask.is_floating_point():
                weight = weight / _check.full_scale(mask.dtype)
            added, touched = added * weight, weight != 0
        out = image.to(compute) + added
        if not image.is_floating_point():
            out = out.clamp(0, full).round()
        out = out.to(image.dtype)
        if self.strength == 0:
            return image.clone()
        # torch.where has no uint16 on every device; int16 views carry the same bits.
        if touched is None:
            return out
        if image.dtype == torch.uint16:
            bits = torch.where(touched, out.view(torch.int16), image.view(torch.int16))
            return bits.view(torch.uint16)
        return torch.where(touched, out, image)

    def apply_yuv(
        self, planes: Planes, mask: Any, format: Any, *, out: Planes | None = None
    ) -> Planes:
        from vharm.ops import residual_yuv

        look = self.to(planes[0].device)
        return residual_yuv(
            planes, mask, look.image, format=format, strength=self.strength, out=out
        )

    def to_lut(self, size: int = DEFAULT_LUT_SIZE) -> LutLook:
        raise ValueError(
            "to_lut: a residual look depends on the place in the picture and is no colour map; "
            "fit a LUT to a frame before and after with vharm.ops.fit_lut"
        )

    def _interpolate(self, other: ResidualLook, weight: float) -> ResidualLook:
        height = max(self.image.shape[1], other.image.shape[1])
        width = max(self.image.shape[2], other.image.shape[2])
        first, second = self.resized(height, width), other.resized(height, width)
        if first.strength == second.strength:
            mixed = torch.lerp(first.image, second.image, weight)
            return ResidualLook(mixed, strength=first.strength)
        mixed = torch.lerp(first.image * first.strength, second.image * second.strength, weight)
        return ResidualLook(mixed)

    def to_dict(self, *, dtype: str = "float32") -> dict[str, Any]:
        """{"kind", "strength", "image": {"shape", "dtype", "base64"}}."""
        return {
            "kind": self.kind,
            "strength": round(self.strength, 6),
            "image": _fields.pack(self.image, dtype),
        }

    @classmethod
    def _from_fields(cls, data: Mapping[str, Any]) -> ResidualLook:
        _fields.only(_OWNER, data, ("kind", "strength", "image"))
        image = _fields.unpack(_OWNER, "image", _fields.required(_OWNER, data, "image"))
        strength = _fields.number(_OWNER, "strength", data.get("strength", 1.0), 0.0, 1.0)
        return cls(image, strength=strength)

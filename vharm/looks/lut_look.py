# SPDX-License-Identifier: Apache-2.0
"""Looks that are a three-dimensional look-up table."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from vharm.ops import _check
from vharm.ops.lut import MAX_SIZE, MIN_SIZE, apply_lut

from . import _fields
from .base import DEFAULT_LUT_SIZE, Look, Planes
from .cube import check_domain, read_cube, write_cube

UNIT_MIN, UNIT_MAX = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

_KEYS = ("kind", "title", "strength", "domain_min", "domain_max", "grid")
_OWNER = "LUT look"


def check_size(op: str, size: object) -> None:
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{op}: size must be an integer, got {type(size).__name__}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"{op}: size must be in {MIN_SIZE}..{MAX_SIZE}, got {size}")


def identity_grid(
    size: int,
    device: str | torch.device = "cpu",
    domain_min: tuple[float, float, float] = UNIT_MIN,
    domain_max: tuple[float, float, float] = UNIT_MAX,
) -> Tensor:
    """The LUT `[size,size,size,3]`, indexed [r,g,b], that maps every colour to itself."""
    axes = [
        torch.linspace(low, high, size, device=device)
        for low, high in zip(domain_min, domain_max, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


@dataclasses.dataclass(frozen=True, eq=False)
class LutLook(Look):
    """A colour look-up table, read with tetrahedral interpolation.

    Args:
        grid: `[S,S,S,3]` float, 2 <= S <= 129, indexed [r,g,b]: the output colour at evenly spaced
            input colours. May leave [0,1]: float frames then do too, integer frames are clamped.
        title: free text, kept in `.cube` files.
        domain_min, domain_max: input colours of the first and the last node; inputs outside are
            clamped to them.
        strength: 0 to 1.

    Raises:
        TypeError, ValueError: naming the argument.
    """

    kind: ClassVar[str] = "lut"

    grid: Tensor
    title: str = ""
    domain_min: tuple[float, float, float] = UNIT_MIN
    domain_max: tuple[float, float, float] = UNIT_MAX

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.grid, Tensor):
            raise TypeError(f"LutLook: grid must be a tensor, got {type(self.grid).__name__}")
        shape = tuple(self.grid.shape)
        size = shape[0] if shape else 0
        if shape != (size, size, size, 3) or not MIN_SIZE <= size <= MAX_SIZE:
            raise ValueError(
                f"LutLook: grid must have shape [S, S, S, 3] with S in {MIN_SIZE}..{MAX_SIZE}, "
                f"got {list(shape)}"
            )
        if not isinstance(self.title, str):
            raise TypeError(f"LutLook: title must be text, got {type(self.title).__name__}")
        _fields.finite("LutLook", "grid", self.grid)
        object.__setattr__(self, "grid", self.grid.detach().float())
        low, high = check_domain("LutLook", self.domain_min, self.domain_max)
        object.__setattr__(self, "domain_min", low)
        object.__setattr__(self, "domain_max", high)

    @classmethod
    def identity(cls, size: int = DEFAULT_LUT_SIZE) -> LutLook:
        """A LUT that changes nothing."""
        check_size("identity", size)
        return cls(identity_grid(size))

    @classmethod
    def from_cube(cls, path: str | os.PathLike[str]) -> LutLook:
        """The LUT of a `.cube` file; see `read_cube`."""
        grid, domain_min, domain_max, title = read_cube(path)
        return cls(grid, title, domain_min, domain_max)

    def save_cube(self, path: str | os.PathLike[str]) -> None:
        """Writes a `.cube` file, the strength baked in; see `write_cube`."""
        baked = self.to_lut(self.size)
        write_cube(path, baked.grid, self.title, self.domain_min, self.domain_max)

    @property
    def size(self) -> int:
        """Nodes along each axis."""
        return int(self.grid.shape[0])

    @property
    def device(self) -> torch.device:
        return self.grid.device

    @property
    def unit_domain(self) -> bool:
        """Whether the inputs of the nodes run from 0 to 1."""
        return self.domain_min == UNIT_MIN and self.domain_max == UNIT_MAX

    def to(self, device: str | torch.device) -> LutLook:
        if self.device == torch.device(device):
            return self
        return dataclasses.replace(self, grid=self.grid.to(device))

    def apply(self, image: Tensor, mask: Tensor | None = None, *, layout: str = "NCHW") -> Tensor:
        if not isinstance(image, Tensor):
            raise TypeError(f"apply: image must be a torch.Tensor, got {type(image).__name__}")
        if not self.unit_domain:
            return self._apply_with_domain(image, mask, layout)
        return apply_lut(
            image, self.to(image.device).grid, mask, layout=layout, strength=self.strength
        )

    def _apply_with_domain(self, image: Tensor, mask: Tensor | None, layout: str) -> Tensor:
        """Float frames may lie outside [0,1], so the picture is scaled instead of the table."""
        if not image.is_floating_point():
            return self.on_unit_domain().apply(image, mask, layout=layout)
        size = _check.image("apply", image, layout)
        if mask is not None:
            _check.mask("apply", mask, size, layout, image.device)
        shape = (3, 1, 1) if layout == "NCHW" else (3,)
        low = torch.tensor(self.domain_min, device=image.device).reshape(shape)
        high = torch.tensor(self.domain_max, device=image.device).reshape(shape)
        colours = apply_lut((image.float() - low) / (high - low), self.to(image.device).grid,
                            layout=layout)  # fmt: skip
        weight = torch.ones((), device=image.device) if mask is None else mask.float()
        if mask is not None and not mask.is_floating_point():
            weight = weight / _check.full_scale(mask.dtype)
        weight = weight * self.strength
        mixed = image.float() + weight * (colours - image.float())
        return torch.where(weight == 0, image, mixed.to(image.dtype))

    def apply_yuv(
        self, planes: Planes, mask: Any, format: Any, *, out: Planes | None = None
    ) -> Planes:
        from vharm.ops import apply_lut_yuv

        look = self.on_unit_domain().to(planes[0].device)
        return apply_lut_yuv(
            planes, mask, look.grid, format=format, strength=self.strength, out=out
        )

    def on_unit_domain(self) -> LutLook:
        """The same table over inputs from 0 to 1, which is all that integer frames hold.

        Nodes are four times as dense (at most 129) where the domain has to change.
        """
        if self.unit_domain:
            return self
        size = min(4 * (self.size - 1) + 1, 129)
        inputs = identity_grid(size, self.device)
        grid = LutLook(self.grid, "", self.domain_min, self.domain_max)._read(inputs)
        return LutLook(grid, self.title, strength=self.strength)

    def to_lut(self, size: int = DEFAULT_LUT_SIZE) -> LutLook:
        check_size("to_lut", size)
        nodes = identity_grid(size, self.device, self.domain_min, self.domain_max)
        grid = self.grid if size == self.size else self._read(nodes)
        # torch.lerp is exact at both ends, so full strength leaves the table as it is.
        baked = torch.lerp(nodes, grid, self.strength)
        return LutLook(baked, self.title, self.domain_min, self.domain_max)

    def _read(self, colours: Tensor) -> Tensor:
        """The table's output, at full strength, for float colours [..., 3]."""
        flat = colours.reshape(1, 1, -1, 3)
        full = self.with_strength(1.0)
        return full.apply(flat, layout="NHWC").reshape(colours.shape)

    def _interpolate(self, other: LutLook, weight: float) -> LutLook:
        first, second = self, other
        if (self.domain_min, self.domain_max) != (other.domain_min, other.domain_max):
            first, second = self.on_unit_domain(), other.on_unit_domain()
        title = self.title if self.title == other.title else ""
        if first.size == second.size and first.strength == second.strength:
            mixed = torch.lerp(first.grid, second.grid, weight)
            return LutLook(
                mixed, title, first.domain_min, first.domain_max, strength=first.strength
            )
        size = max(first.size, second.size)
        mixed = torch.lerp(first.to_lut(size).grid, second.to_lut(size).grid, weight)
        return LutLook(mixed, title, first.domain_min, first.domain_max)

    def to_dict(self, *, dtype: str = "float32") -> dict[str, Any]:
        """{"kind", "title", "strength", "grid": {"shape", "dtype", "base64"}} and the domain.

        The grid's samples are little-endian `dtype` ("float32", or "float16" for half the size and
        errors of at most 1/4096 below 1), red slowest, channel fastest.
        """
        data: dict[str, Any] = {"kind": self.kind}
        if self.title:
            data["title"] = self.title
        data["strength"] = round(self.strength, 6)
        if not self.unit_domain:
            data["domain_min"], data["domain_max"] = list(self.domain_min), list(self.domain_max)
        data["grid"] = _fields.pack(self.grid, dtype)
        return data

    @classmethod
    def _from_fields(cls, data: Mapping[str, Any]) -> LutLook:
        _fields.only(_OWNER, data, _KEYS)
        grid = _fields.unpack(_OWNER, "grid", _fields.required(_OWNER, data, "grid"))
        title = data.get("title", "")
        if not isinstance(title, str):
            raise ValueError(f"{_OWNER}: title must be text, got {title!r}")
        return cls(
            grid,
            title,
            _fields.triple(_OWNER, "domain_min", data.get("domain_min", list(UNIT_MIN))),
            _fields.triple(_OWNER, "domain_max", data.get("domain_max", list(UNIT_MAX))),
            strength=_fields.number(_OWNER, "strength", data.get("strength", 1.0), 0.0, 1.0),
        )

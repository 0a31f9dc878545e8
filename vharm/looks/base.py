# SPDX-License-Identifier: Apache-2.0
"""What every Look can do."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from . import _fields

if TYPE_CHECKING:
    from typing_extensions import Self

    from vharm.ops import PlaneMask, YuvFormat

    from .lut_look import LutLook

DEFAULT_LUT_SIZE = 33

Planes = tuple[Tensor, Tensor, Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Look(ABC):
    """A description of how the foreground's colours change; immutable.

    Subclasses are frozen dataclasses with a `strength` field and tensors (float32, on the CPU
    unless moved by `to`). They name themselves in `kind`, which is how a saved Look finds its
    class again: defining a subclass registers it.

    Attributes:
        kind: the name in files.
        strength: 0 (untouched) to 1 (full effect); scales the mask when applied.
    """

    kind: ClassVar[str] = ""
    strength: float = dataclasses.field(default=1.0, kw_only=True)

    _kinds: ClassVar[dict[str, type[Look]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.kind:
            Look._kinds[cls.kind] = cls

    def __post_init__(self) -> None:
        strength = _fields.number(type(self).__name__, "strength", self.strength, 0.0, 1.0)
        object.__setattr__(self, "strength", strength)

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the Look's tensors are."""

    @abstractmethod
    def to(self, device: str | torch.device) -> Self:
        """The same Look with its tensors on another device."""

    @abstractmethod
    def apply(self, image: Tensor, mask: Tensor | None = None, *, layout: str = "NCHW") -> Tensor:
        """Applies the Look inside a mask.

        Args:
            image: RGB `[N,3,H,W]` (or `[N,H,W,3]`), uint8/uint16 full scale or float, 0 to 1.
                Its device decides where the work is done; the Look is moved there.
            mask: `[N,1,H,W]` (or `[N,H,W,1]`), bool, uint8/uint16 full scale or float in [0,1];
                None means all ones.
            layout: "NCHW" or "NHWC".

        Returns:
            A tensor like `image` (dtype, shape, device). Pixels whose mask is 0 come out bit for
            bit as they went in.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """

    @abstractmethod
    def apply_yuv(
        self,
        planes: Planes,
        mask: PlaneMask | None,
        format: YuvFormat,
        *,
        out: Planes | None = None,
    ) -> Planes:
        """Applies the Look to YUV planes inside a mask, in one pass, without an RGB picture.

        Args:
            planes: (Y, U, V), each 2-D, uint8 or uint16, chroma at its own size.
            mask: the mask at luma and chroma sites, or None for all ones.
            format: bit depth, subsampling, matrix and range of the planes.
            out: planes to write into, such as an encoder's own; None makes new ones.

        Returns:
            Planes like those given (`out` if given); samples the mask does not touch are the
            input's own.
        """

    @abstractmethod
    def to_lut(self, size: int = DEFAULT_LUT_SIZE) -> LutLook:
        """The same change as a LUT of `size`^3 nodes, the strength baked in (it becomes 1).

        Raises:
            ValueError: `size` is not in 2..129, or the Look is not a colour map.
        """

    @abstractmethod
    def _interpolate(self, other: Any, weight: float) -> Look | None:
        """`blend` for two Looks of the same class; None where their shapes do not agree."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, "kind" first; `from_dict` reads them back."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Look:
        """The Look that `to_dict` or a hand described.

        Called on `Look` it reads any kind; called on a subclass, that kind only.

        Raises:
            ValueError: naming the key that is missing, unknown or nonsensical.
        """
        data = _fields.mapping("Look", data)
        kind = _fields.required("Look", data, "kind")
        chosen = cls._kinds.get(kind) if isinstance(kind, str) else None
        if chosen is None or not issubclass(chosen, cls):
            known = sorted(n for n, c in cls._kinds.items() if issubclass(c, cls))
            raise ValueError(
                f"Look: kind must be one of {', '.join(known)}; got {kind!r}"
                f"{_fields.nearest(kind, known)}"
            )
        return chosen._from_fields(data)

    @classmethod
    @abstractmethod
    def _from_fields(cls, data: Mapping[str, Any]) -> Look:
        """`from_dict` once the kind is known."""

    def _with(self, **values: Any) -> Self:
        """The same Look with other values, which are known to be right."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, **values)
        return made

    def with_strength(self, strength: float) -> Self:
        """The same Look with another strength, 0 (untouched) to 1 (full effect)."""
        return dataclasses.replace(self, strength=strength)

    def blend(self, other: Look, weight: float) -> Look:
        """A Look between this one (weight 0) and another (weight 1).

        Parameters are interpolated where kinds and shapes agree; otherwise both become LUTs.

        Raises:
            TypeError: `other` is not a Look.
            ValueError: `weight` is outside [0,1], or one of two different Looks is no colour map.
        """
        if not isinstance(other, Look):
            raise TypeError(f"blend: other must be a Look, got {type(other).__name__}")
        weight = _fields.number("blend", "weight", weight, 0.0, 1.0)
        other = other.to(self.device)
        mixed = self._interpolate(other, weight) if type(self) is type(other) else None
        if mixed is None:
            first, second = self.to_lut(), other.to_lut()
            mixed = first._interpolate(second, weight)
            assert mixed is not None, "two LUTs always blend"
        return mixed

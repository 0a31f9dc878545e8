# SPDX-License-Identifier: Apache-2.0
"""Looks that are arguments of a chain of white-box filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vharm.ops.filters import DEFAULT_FILTERS, FILTERS, filter_chain

from . import _fields
from .base import DEFAULT_LUT_SIZE, Look, Planes
from .lut_look import LutLook, check_size, identity_grid

# The filters that read a mean of their input; for the others the statistics are not used.
NEEDS_STATISTICS = ("temperature", "contrast")

_KEYS = ("kind", "filters", "statistics", "strength", "quantized_contrast")
_OWNER = "filter look"


@dataclasses.dataclass(frozen=True, eq=False)
class FilterLook(Look):
    """Arguments of white-box filters, with the global means they were estimated with.

    The means belong to the Look: were they taken anew from every frame, a locked Look would still
    pump with the picture, and a `.cube` of it would be undefined.

    Args:
        arguments: `[K]` float, one per filter. Kept as given (a network's output is averaged over
            time before it is clamped); clamped to [-1,1] where applied or saved.
        statistics: `[K,3]` float: channel means of each filter's input, from
            `vharm.ops.filter_statistics`; zeros for filters that need none.
        filters: K names out of `vharm.ops.FILTERS`, in the order they are applied.
        strength: 0 to 1.
        quantized_contrast: the floored contrast gain of published Harmonizer weights.

    Raises:
        TypeError, ValueError: naming the argument.
    """

    kind: ClassVar[str] = "filter"

    arguments: Tensor
    statistics: Tensor
    filters: tuple[str, ...] = DEFAULT_FILTERS
    quantized_contrast: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        filters = tuple(self.filters)
        for name in filters:
            if name not in FILTERS:
                raise ValueError(
                    f"FilterLook: unknown filter {name!r}{_fields.nearest(name, FILTERS)}; "
                    f"there are {', '.join(FILTERS)}"
                )
        object.__setattr__(self, "filters", filters)
        shapes = {"arguments": (len(filters),), "statistics": (len(filters), 3)}
        for key, shape in shapes.items():
            value = getattr(self, key)
            if not isinstance(value, Tensor):
                raise TypeError(f"FilterLook: {key} must be a tensor, got {type(value).__name__}")
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"FilterLook: {key} must have shape {list(shape)} for {len(filters)} filters, "
                    f"got {list(value.shape)}"
                )
            _fields.finite("FilterLook", key, value)
            object.__setattr__(self, key, value.detach().float())

    @classmethod
    def identity(cls, filters: Sequence[str] = DEFAULT_FILTERS) -> FilterLook:
        """All arguments 0: changes nothing."""
        count = len(filters)
        return cls(torch.zeros(count), torch.full((count, 3), 0.5), tuple(filters))

    @property
    def device(self) -> torch.device:
        return self.arguments.device

    def to(self, device: str | torch.device) -> FilterLook:
        if self.device == torch.device(device):
            return self
        return dataclasses.replace(
            self, arguments=self.arguments.to(device), statistics=self.statistics.to(device)
        )

    def apply(self, image: Tensor, mask: Tensor | None = None, *, layout: str = "NCHW") -> Tensor:
        if not isinstance(image, Tensor):
            raise TypeError(f"apply: image must be a torch.Tensor, got {type(image).__name__}")
        look, count = self.to(image.device), len(image) if image.ndim else 0
        return filter_chain(
            image, mask, look.arguments.expand(count, -1), filters=self.filters,
            statistics=look.statistics.expand(count, -1, -1), layout=layout,
            strength=self.strength, quantized_contrast=self.quantized_contrast,
        )  # fmt: skip

    def apply_yuv(
        self, planes: Planes, mask: Any, format: Any, *, out: Planes | None = None
    ) -> Planes:
        from vharm.ops import filter_chain_yuv

        look = self.to(planes[0].device)
        return filter_chain_yuv(
            planes, mask, look.arguments, format=format, statistics=look.statistics,
            filters=self.filters, strength=self.strength,
            quantized_contrast=self.quantized_contrast, out=out,
        )  # fmt: skip

    def to_lut(self, size: int = DEFAULT_LUT_SIZE) -> LutLook:
        check_size("to_lut", size)
        grid = identity_grid(size, self.device)
        image = grid.reshape(1, size * size, size, 3)
        out = self.apply(image, layout="NHWC")
        return LutLook(out.reshape(size, size, size, 3))

    def _interpolate(self, other: FilterLook, weight: float) -> FilterLook | None:
        same = (self.filters, self.quantized_contrast) == (
            other.filters,
            other.quantized_contrast,
        )
        if not same:
            return None
        return self._with(
            arguments=torch.lerp(self.arguments, other.arguments, weight),
            statistics=torch.lerp(self.statistics, other.statistics, weight),
            strength=self.strength + (other.strength - self.strength) * weight,
        )

    def to_dict(self) -> dict[str, Any]:
        """{"kind", "filters", "statistics", "strength"}, arguments clamped, 6 decimals.

        "filters" is an object of names and arguments in the order of application, or, where a
        filter occurs twice, a list of [name, argument]; "statistics" likewise, for the filters
        that use them.
        """
        values = [round(v, 6) for v in self.arguments.clamp(-1, 1).tolist()]
        means = [[round(v, 6) for v in row] for row in self.statistics.tolist()]
        data: dict[str, Any] = {"kind": self.kind}
        if len(set(self.filters)) == len(self.filters):
            data["filters"] = dict(zip(self.filters, values, strict=True))
            data["statistics"] = {
                name: row
                for name, row in zip(self.filters, means, strict=True)
                if name in NEEDS_STATISTICS
            }
        else:
            data["filters"] = [list(pair) for pair in zip(self.filters, values, strict=True)]
            data["statistics"] = means
        data["strength"] = round(self.strength, 6)
        if self.quantized_contrast:
            data["quantized_contrast"] = True
        return data

    @classmethod
    def _from_fields(cls, data: Mapping[str, Any]) -> FilterLook:
        _fields.only(_OWNER, data, _KEYS)
        names, arguments = _read_filters(_fields.required(_OWNER, data, "filters"))
        return cls(
            torch.tensor(arguments),
            torch.tensor(_read_statistics(data.get("statistics", {}), names)).reshape(-1, 3),
            names,
            _fields.boolean(_OWNER, "quantized_contrast", data.get("quantized_contrast", False)),
            strength=_fields.number(_OWNER, "strength", data.get("strength", 1.0), 0.0, 1.0),
        )


def _read_filters(value: object) -> tuple[tuple[str, ...], list[float]]:
    """Names and arguments from an object or from a list of [name, argument]."""
    if isinstance(value, Mapping):
        pairs: list[Any] = list(value.items())
    elif isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value):
        pairs = value
    else:
        raise ValueError(
            f'{_OWNER}: filters must be an object such as {{"contrast": 0.1}} or a list of '
            f"[name, argument], got {value!r}"
        )
    for name, argument in pairs:
        if name not in FILTERS:
            raise ValueError(
                f"{_OWNER}: filters: unknown filter {name!r}{_fields.nearest(name, FILTERS)}; "
                f"there are {', '.join(FILTERS)}"
            )
        _fields.number(_OWNER, f"filters: {name}", argument, -1.0, 1.0)
    return tuple(name for name, _ in pairs), [float(argument) for _, argument in pairs]


def _read_statistics(value: object, names: tuple[str, ...]) -> list[tuple[float, float, float]]:
    """A row for each filter; filters that use none may be left out of an object."""
    if isinstance(value, list):
        if len(value) != len(names):
            raise ValueError(
                f"{_OWNER}: statistics must have one [r, g, b] for each of the {len(names)} "
                f"filters, got {len(value)}"
            )
        return [_fields.triple(_OWNER, "statistics", row) for row in value]
    value = _fields.mapping(f"{_OWNER}: statistics", value)
    for name in value:
        if name not in names:
            raise ValueError(
                f"{_OWNER}: statistics: {name!r} is not among the look's filters"
                f"{_fields.nearest(name, names)}"
            )
    rows = []
    for name in names:
        if name in value:
            rows.append(_fields.triple(_OWNER, f"statistics: {name}", value[name]))
        elif name in NEEDS_STATISTICS:
            raise ValueError(
                f"{_OWNER}: statistics: the key {name!r} is missing; the filter needs the mean "
                f'red, green and blue of the frame, such as "{name}": [0.5, 0.5, 0.5]'
            )
        else:
            rows.append((0.0, 0.0, 0.0))
    return rows

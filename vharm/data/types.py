# SPDX-License-Identifier: Apache-2.0
"""What data sets hand out: natural scenes, and composites made from them.

Shapes use T frames (1 for a picture), H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Scene:
    """Natural frames and where an object is in them: what composites are made from.

    Attributes:
        name: unique in its set, without a file ending; the key of every per-clip table.
        frames: uint8 [T,3,H,W], RGB.
        masks: uint8 [T,1,H,W], full scale.
        subset: the part of the data set it belongs to, or "".
    """

    name: str
    frames: Tensor
    masks: Tensor
    subset: str = ""


@dataclass(frozen=True)
class Sample:
    """A composite with its mask and, where there is one, its true answer.

    Attributes:
        name: unique in its set.
        composite: uint8 [T,3,H,W], RGB: what a method is given.
        masks: uint8 [T,1,H,W], full scale.
        target: uint8 [T,3,H,W], the true answer; None for a real composite.
        subset: the part of the data set it belongs to, or "".
        flow: float32 [T-1,2,H,W], exact backward flow in pixels, (dx, dy): the point p of frame
            t+1 was at p + flow[t](p) in frame t. None where it is not known.
        valid: bool [T-1,1,H,W], where `flow` leads to a point that was seen in frame t.
        arguments: float32 [K], those of the filters that made the composite (see `filters`).
        filters: names of the filters `arguments` are for.
    """

    name: str
    composite: Tensor
    masks: Tensor
    target: Tensor | None = None
    subset: str = ""
    flow: Tensor | None = None
    valid: Tensor | None = None
    arguments: Tensor | None = None
    filters: tuple[str, ...] = field(default=())


@runtime_checkable
class DataSet(Protocol[T_co]):
    """A sized set, read by position; every access of a position gives the same again."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> T_co: ...


SceneSet = DataSet[Scene]
SampleSet = DataSet[Sample]

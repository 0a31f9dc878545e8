# SPDX-License-Identifier: Apache-2.0
"""Samples at the size a protocol asks for."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.types import Sample
from .protocol import Protocol


def read_sample(data: Any, index: int, protocol: Protocol) -> Sample:
    """One sample at the protocol's size.

    Raises:
        TypeError: the set holds something else, such as natural scenes without composites.
    """
    sample = data[index]
    if not isinstance(sample, Sample):
        hint = ""
        if type(sample).__name__ == "Scene":
            hint = ": natural pictures have no composites yet; recolour them first (--recolour)"
        raise TypeError(f"data: expected Samples, got {type(sample).__name__}{hint}")
    return resized(sample, protocol)


def resized(sample: Sample, protocol: Protocol) -> Sample:
    """The sample at the protocol's size; the same object where it has it already.

    Pictures and masks are resized bilinearly and rounded. A flow is resized and scaled with the
    frame; a point counts as seen where all points around it were.
    """
    size = protocol.size
    if size is None or tuple(sample.composite.shape[2:]) == tuple(size):
        return sample
    height, width = sample.composite.shape[2:]

    def picture(tensor: Tensor) -> Tensor:
        # One frame at a time: a clip as floats is four times its size.
        return torch.cat([_scaled(f[None].float(), size, protocol.antialias).round_().to(f.dtype)
                          for f in tensor])  # fmt: skip

    flow, valid = sample.flow, sample.valid
    if flow is not None:
        factor = flow.new_tensor([size[1] / width, size[0] / height])[:, None, None]
        flow = _scaled(flow.float(), size, False) * factor
    if valid is not None:
        valid = _scaled(valid.float(), size, False) >= 1
    return dataclasses.replace(
        sample, composite=picture(sample.composite), masks=picture(sample.masks),
        target=None if sample.target is None else picture(sample.target), flow=flow, valid=valid,
    )  # fmt: skip


def _scaled(image: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    if not len(image):
        return image.new_zeros(0, image.shape[1], *size)
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=antialias)

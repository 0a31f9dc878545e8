# SPDX-License-Identifier: Apache-2.0
"""The linear map of least displacement between two colour distributions.

Source: F. Pitie, A. Kokaram, "The linear Monge-Kantorovitch linear colour mapping for
example-based colour transfer" (CVMP 2007), eq. 12.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .transfer import ColourTransfer, region_moments

# Added to the variances along every axis, RGB in [0,1]: a flat region has no contrast to stretch.
FLOOR = 0.015
# The map's eigenvalues, its gains along its axes, are kept within 1/2 to 2.
GAIN_LIMIT = 2.0


def mkl_matrix(source: Tensor, target: Tensor) -> Tensor:
    """The symmetric positive matrix `T` with `T source T = target`, for covariances [3,3].

    `T = S^-1/2 (S^1/2 C S^1/2)^1/2 S^-1/2` with S the source's and C the target's covariance. Of
    all linear maps that bring one to the other it moves colours the least. S must be invertible.
    """
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    return inverse @ _power(root @ target @ root, 0.5) @ inverse


def limited(matrix: Tensor, limit: float = GAIN_LIMIT) -> Tensor:
    """A symmetric matrix with its eigenvalues clamped to [1/limit, limit]."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(1 / limit, limit)) @ vectors.mT


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    # Rounding can push a vanishing eigenvalue below zero.
    return (vectors * values.clamp(min=0) ** exponent) @ vectors.mT


class Mkl(ColourTransfer):
    name = "mkl"
    summary = "full covariance of RGB by the linear map that moves colours least"
    when_to_use = "first choice without trained weights: tints and contrast at once, no hue jumps."
    source = "Pitie and Kokaram, The linear Monge-Kantorovitch colour mapping, CVMP 2007"

    def describe(self, pictures: Tensor, weights: Tensor) -> list[Any]:
        return region_moments(pictures, weights)

    def transfer(self, source: Any, target: Any, colours: Tensor) -> Tensor:
        floor = FLOOR**2 * torch.eye(3, dtype=torch.float64)
        matrix = limited(
            mkl_matrix(source.covariance.double() + floor, target.covariance.double() + floor)
        )
        return (colours - source.mean) @ matrix.to(colours.dtype) + target.mean

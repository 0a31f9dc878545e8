# SPDX-License-Identifier: Apache-2.0
"""Whether a picture shows the grid of the patches it was painted in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class GridEnergy(NamedTuple):
    """Squared differences of neighbouring pixels, float64 [N] each.

    Attributes:
        border: sum over pairs with a patch border between them.
        borders: how many pairs those are.
        inside: sum over pairs inside a patch.
        insides: how many.
    """

    border: Tensor
    borders: Tensor
    inside: Tensor
    insides: Tensor

    def ratio(self, *, pooled: bool = False) -> Tensor:
        """The mean at patch borders over the mean inside: 1 for a picture without a grid.

        Args:
            pooled: one number over all pictures instead of [N]; pictures weigh by their pairs.

        Returns:
            float64; NaN where there is no pair of a kind or the picture is flat inside.
        """
        sums = [part.sum() if pooled else part for part in self]
        border, inside = sums[0] / sums[1], sums[2] / sums[3]
        return torch.where(inside > 0, border / inside, torch.nan)


def grid_energy(
    image: Tensor, mask: Tensor | None = None, *, patch: int = 16, offset: tuple[int, int] = (0, 0)
) -> GridEnergy:
    """Differences of horizontal and vertical neighbours at patch borders and inside patches.

    A natural picture has as much at the borders as elsewhere; painted patch by patch it has more.
    Compare with the same figure of the true picture, and with an `offset` of half a patch, where a
    grid does not show.

    Args:
        image: [N,C,H,W], float in [0,1] or uint8.
        mask: [N,1,H,W]; only pairs with both pixels above 0 count. None counts all.
        patch: side of a patch in pixels, 2 or more.
        offset: (rows, columns) of the first patch's corner.

    Raises:
        ValueError: a shape or a patch that is not such.
    """
    if image.ndim != 4:
        raise ValueError(f"image: expected [N,C,H,W], got {list(image.shape)}")
    if patch < 2:
        raise ValueError(f"patch: expected 2 or more, got {patch}")
    expected = [image.shape[0], 1, *image.shape[2:]]
    if mask is not None and list(mask.shape) != expected:
        raise ValueError(f"mask: expected {expected} to match image, got {list(mask.shape)}")
    values = image.double() / (255 if image.dtype == torch.uint8 else 1)
    parts = []
    for axis, start in ((2, offset[0]), (3, offset[1])):
        squares = values.diff(dim=axis).square().mean(1, keepdim=True)
        length = squares.shape[axis]
        # The pair (i, i + 1) has a border between it where i + 1 begins a patch.
        place = torch.arange(1, length + 1, device=image.device)
        at_border = (place - start) % patch == 0
        shape = [1, 1, -1, 1] if axis == 2 else [1, 1, 1, -1]
        border = at_border.view(shape).expand_as(squares)
        counted = torch.ones_like(border)
        if mask is not None:
            inside = mask > 0
            counted = inside.narrow(axis, 0, length) & inside.narrow(axis, 1, length)
        parts.append([_sums(squares, counted & border), _sums(squares, counted & ~border)])
    (top, below), (left, right) = parts
    border = [a + b for a, b in zip(top, left, strict=True)]
    inside = [a + b for a, b in zip(below, right, strict=True)]
    return GridEnergy(border[0], border[1], inside[0], inside[1])


def _sums(squares: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    return (squares * where).sum((1, 2, 3)), where.sum((1, 2, 3)).double()

# SPDX-License-Identifier: Apache-2.0
"""VHMAE's losses: reconstruction, pattern alignment, patch balancing.

Source: "Harmony Everything! Masked Autoencoders for Video Harmonization" (ACM MM 2024), eq. 1 to 6.
The paper's sums differ in size by orders of magnitude with the patch, the frame and the network's
width. By default each is a mean: reconstruction and balance over the frames' samples, alignment
over the Gram matrices' entries. `literal=True` gives the sums as printed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vharm import ops
from vharm.models.vhmae import Packed, Painted

from .losses import compressed


class Terms(NamedTuple):
    """The loss's three terms, each a scalar, unweighted."""

    reconstruction: Tensor
    alignment: Tensor
    balance: Tensor

    def total(self, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
        """Eq. 6. A term of weight 0 is left out."""
        loss = self.reconstruction
        if alpha:
            loss = loss + alpha * self.alignment
        return loss + beta * self.balance if beta else loss


def terms(
    painted: Painted, target: Tensor, *, patch: int, frames_per_clip: int = 1,
    alignment_wanted: bool = True, balance_wanted: bool = True, literal: bool = False,
    compress: float = 0.0,
) -> Terms:  # fmt: skip
    """All terms of a batch; those not wanted, or without what they compare, are 0.

    Args:
        painted: what the network gave.
        target: [N,3,H,W], the true frames in [0,1].
        patch: side of a patch in pixels.
        frames_per_clip: T.
        alignment_wanted, balance_wanted: False spares the work.
        literal: the paper's sums instead of means.
        compress: of each frame's reconstruction, see `vharm.training.losses.compressed`.
    """
    nothing = painted.patches.new_zeros((), dtype=torch.float32)
    aligned = nothing
    if alignment_wanted and painted.pattern is not None:
        aligned = alignment(painted.pattern, painted.visible, frames_per_clip, literal=literal)
    return Terms(
        reconstruction(painted, target, patch, literal=literal, compress=compress),
        aligned,
        balance(painted.image, literal=literal) if balance_wanted else nothing,
    )


def reconstruction(
    painted: Painted, target: Tensor, patch: int, *, literal: bool = False, compress: float = 0.0
) -> Tensor:  # fmt: skip
    """Eq. 1: squared error of the painted patches over all patches, masked or not.

    As a mean the sum is also divided by the samples of a patch; 0 for no frames.
    """
    masked = painted.masked
    true, _, _ = ops.pack_patches(target, masked, patch, count=len(painted.patches))
    error = (painted.patches.float() - true.float()).square().flatten(1).sum(1)
    if not masked.numel():
        return error.sum()
    frame = masked.flatten(1).nonzero()[:, 0]
    each = error.new_zeros(len(masked)).index_add(0, frame, error) / masked[0].numel()
    return compressed(each if literal else each / (3 * patch * patch), compress).mean()


def alignment(
    pattern: Packed, visible: Packed, frames_per_clip: int = 1, *, literal: bool = False
) -> Tensor:
    """Eq. 2 and 3: how far the patterns' Gram matrices are from those of the visible tokens.

    The encoder's tokens are the goal and get no gradient. N in the denominator is the mean count
    per frame of each clip. As a mean the squared Frobenius norm is divided by its C * C entries.
    The mean over clips; a clip in which either kind is absent counts as 0.
    """
    counts = pattern.bounds.diff() * visible.bounds.diff().to(torch.float32)
    if not len(counts):
        return pattern.tokens.sum().float()
    front = ops.gram(pattern.tokens.float(), pattern.bounds)
    behind = ops.gram(visible.tokens.detach().float(), visible.bounds)
    distance = (front - behind).square().sum((1, 2))
    # T * (K / T) * (V / T)
    distance = distance * frames_per_clip / counts.clamp(min=1)
    distance = torch.where(counts > 0, distance, torch.zeros_like(distance))
    width = pattern.tokens.shape[1]
    return distance.mean() if literal else distance.mean() / width**2


def balance(image: Tensor, *, literal: bool = False) -> Tensor:
    """Eq. 4 and 5: squared differences of neighbouring pixels, the mean over the frames."""
    if not len(image):
        return image.sum().float()
    return ops.patch_balance(image, reduction="sum" if literal else "mean").mean()

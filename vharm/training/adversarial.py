# SPDX-License-Identifier: Apache-2.0
"""Losses of the pixel-wise adversarial game.

Source: Huang et al., "Temporally Coherent Video Harmonization Using Adversarial Networks" (IEEE
TIP 29, 2020), eq. 1 and 2. N and N_F count pixels, not channels; colours are in [-1,1].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vharm import ops

from .losses import compressed

TEMPORAL = ("regional", "global")


def discriminator_loss(on_output: Tensor, on_composite: Tensor, on_target: Tensor, mask: Tensor
                       ) -> Tensor:  # fmt: skip
    """Eq. 1: `|D(O)-M|^2 / 2N + |D(I)-M|^2 / 2N + |D(X)|^2 / N`, mean over the batch.

    Args:
        on_output, on_composite, on_target: what the discriminator says, [B,1,H,W].
        mask: [B,1,H,W] in [0,1].
    """
    made = (on_output - mask).square().mean() + (on_composite - mask).square().mean()
    return 0.5 * made + on_target.square().mean()


def reconstruction_loss(output: Tensor, target: Tensor, compress: float = 0.0) -> Tensor:
    """Eq. 2, first term: `|O-X|^2 / N`, squares summed over channels.

    Args:
        output, target: [B,C,H,W].
        compress: see `vharm.training.losses.compressed`, of each picture's error; 0, as in the
            paper, leaves them as they are.
    """
    each = output.shape[1] * (output - target).square().mean((1, 2, 3))
    return compressed(each, compress).mean()


def temporal_loss(
    output: Tensor, mask: Tensor, flow: Tensor, valid: Tensor, kind: str = "regional"
) -> Tensor:
    """Eq. 2, second term without its factor: `|M o (O_t - S(O_(t-1)))|^2 / N_F`.

    Pixels whose warp leaves the frame, or that are occluded, are excluded.

    Args:
        output: [P,2,C,H,W].
        mask: [P,1,H,W], of the second frame.
        flow: [P,2,H,W], from the second frame to the first.
        valid: bool [P,1,H,W].
        kind: "regional", or "global" over all pixels (the loss it is compared with in IV-C).
    """
    where = torch.ones_like(mask) if kind == "global" else mask
    before, now = (output[:, i].float().contiguous() for i in (0, 1))
    return output.shape[2] * ops.temporal_loss(now, before, flow, where, valid=valid).mean()


def adversarial_loss(on_output: Tensor) -> Tensor:
    """Eq. 2, third term without its factor: `|D(O)|^2 / N`."""
    return on_output.square().mean()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """A network that gradients pass through without leaving anything in its own weights."""
    wanted = [(p, p.requires_grad) for p in network.parameters()]
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, needs in wanted:
            parameter.requires_grad_(needs)

# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation over all processes, also where they talk by gloo on CPUs.

torch's own synchronised layer needs GPUs. This one makes n processes with a share of the batch
each compute what one would with all of it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's loss depends on every one's input."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose batch is that of all processes together; equal shares are assumed."""

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(features)
        wide = features.float()
        dims = (0, 2, 3)
        world = dist.get_world_size()
        mean = _Sum.apply(wide.mean(dims)) / world
        # In two passes: the difference of two squares loses what a far mean leaves.
        centred = wide - mean[:, None, None]
        variance = _Sum.apply(centred.square().mean(dims)) / world
        self._remember(mean.detach(), variance.detach(), features.numel() // features.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(features.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.num_batches_tracked += 1
        count *= dist.get_world_size()
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)


def synchronised(network: nn.Module) -> nn.Module:
    """`network` with every batch normalisation synchronised; names of its weights stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm2d
    return network

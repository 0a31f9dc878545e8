# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation over all processes, also where they talk by gloo on CPUs.

torch's own synchronised layer needs GPUs. This one makes n processes with a share of the batch
each compute what one would with all of it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose batch is that of all processes together; equal shares are assumed."""

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(features)
        wide = features.float()
        dims = (0, 2, 3)
        world = dist.get_world_size()
        mean = all_reduce(wide.mean(dims)) / world
        # In two passes: the difference of two squares loses what a far mean leaves.
        centred = wide - mean[:, None, None]
        variance = all_reduce(centred.square().mean(dims)) / world
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

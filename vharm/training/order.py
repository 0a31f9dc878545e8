# SPDX-License-Identifier: Apache-2.0
"""Which pictures a step sees: a pure function of seed and step, so that resuming is exact."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vharm.data import seeding

Key = tuple[int, int]


class Order:
    """Batches of keys (epoch, index), for ever; a `batch_sampler` for a `DataLoader`.

    All pictures come once an epoch in an order of its own. Each process takes its share of every
    batch, so that the processes together see what one alone would.

    Args:
        count: pictures in the set.
        batch: pictures a step, over all processes.
        seed: of the orders.
        start: the first step.
        rank, world: this process and how many there are.

    Raises:
        ValueError: no pictures, or a batch that cannot be shared evenly.
    """

    def __init__(
        self, count: int, batch: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if count < 1:
            raise ValueError("data: expected at least one picture, got none")
        if batch % world:
            raise ValueError(f"batch: expected a multiple of {world} processes, got {batch}")
        self.count, self.batch, self.seed = count, batch, seed
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[list[Key]]:
        position = self.start * self.batch
        order: list[int] = []
        epoch = -1
        while True:
            keys: list[Key] = []
            for place in range(position, position + self.batch):
                if place // self.count != epoch:
                    epoch = place // self.count
                    order = self._permutation(epoch)
                keys.append((epoch, order[place % self.count]))
            position += self.batch
            yield keys[self.rank :: self.world]

    def _permutation(self, epoch: int) -> list[int]:
        source = seeding.generator(self.seed, epoch)
        return torch.randperm(self.count, generator=source).tolist()

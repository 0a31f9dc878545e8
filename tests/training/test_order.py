# SPDX-License-Identifier: Apache-2.0
"""Which pictures a step sees."""

from __future__ import annotations

from itertools import islice

import pytest

from vharm.training.order import Order


def batches(steps: int, *, count: int = 10, batch: int = 4, **options: int) -> list:
    return list(islice(Order(count, batch, **{"seed": 3, **options}), steps))


@pytest.mark.parametrize("world", [2, 4])
def test_processes_together_see_the_joint_batch(world: int) -> None:
    shares = [batches(9, rank=rank, world=world) for rank in range(world)]
    for step, joint in enumerate(batches(9)):
        parts = [share[step] for share in shares]
        assert sorted(key for part in parts for key in part) == sorted(joint)
        assert {len(part) for part in parts} == {4 // world}


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (7, 7), (3, 8), (1, 2)])
def test_every_picture_once_an_epoch(count: int, batch: int) -> None:
    keys = [key for one in batches(3 * count, count=count, batch=batch) for key in one]
    for epoch in range(3 * batch):
        assert sorted(i for e, i in keys if e == epoch) == list(range(count))
    assert [epoch for epoch, _ in keys] == sorted(epoch for epoch, _ in keys)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    keys = [key for one in batches(6, count=12) for key in one]
    first, second = ([i for e, i in keys if e == epoch] for epoch in (0, 1))
    assert first != second
    assert first != sorted(first)
    assert batches(3, seed=4) != batches(3)
    assert batches(3) == batches(3)


@pytest.mark.parametrize("start", [1, 2, 3, 25])
def test_start_continues_the_sequence(start: int) -> None:
    assert batches(5, start=start) == batches(start + 5)[start:]
    assert batches(5, start=start, rank=1, world=2) == batches(start + 5, rank=1, world=2)[start:]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="data: expected at least one picture"):
        Order(0, 4, seed=0)
    with pytest.raises(ValueError, match="batch: expected a multiple of 3 processes, got 4"):
        Order(10, 4, seed=0, world=3)

# SPDX-License-Identifier: Apache-2.0
"""How the stages' losses become one number, and what carries gradient."""

from __future__ import annotations

import pytest
import torch

from vharm.training import losses

STAGES = torch.tensor([[1.0, 3.0, 2.0, 4.0], [2.0, 1.0, 1.5, 1.0]], dtype=torch.float64)


def with_gradient(loss, values: torch.Tensor = STAGES) -> tuple[float, torch.Tensor]:
    stages = values.clone().requires_grad_()
    total = loss(stages)
    total.backward()
    return total.item(), stages.grad


def test_paper() -> None:
    """Rows add 1, 2, 0, 2 of 4, and 2, 0, 0.5, 0 of 1; ten times, averaged over both."""
    total, gradient = with_gradient(losses.dynamic_paper)
    assert total == pytest.approx(10 * (5 / 4 + 2.5 / 1) / 2)
    # Only the stage itself carries gradient, and only where it adds to the loss.
    expected = torch.tensor([[1, 1, 0, 1], [4, 0, 4, 0]], dtype=torch.float64) * 10 / 4 / 2
    torch.testing.assert_close(gradient, expected)


def test_released() -> None:
    """Of the sum of what is added, each has its share: the value is 1 whatever the losses."""
    total, gradient = with_gradient(losses.dynamic_released)
    assert total == pytest.approx(1)
    expected = torch.tensor([[1, 1, 0, 1], [2, 0, 2, 0]], dtype=torch.float64) / 5 / 2
    torch.testing.assert_close(gradient, expected)


def test_plain_and_last() -> None:
    assert with_gradient(losses.plain)[0] == pytest.approx(15.5 / 2)
    total, gradient = with_gradient(losses.last)
    assert total == 2.5
    assert gradient.count_nonzero() == 2
    assert bool((gradient[:, -1] == 0.5).all())


@pytest.mark.parametrize("name", losses.LOSSES)
def test_perfect_stages_give_a_finite_gradient(name: str) -> None:
    total, gradient = with_gradient(losses.LOSSES[name], torch.zeros(2, 3))
    assert total == pytest.approx(0)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("name", losses.LOSSES)
def test_means_over_the_batch(name: str) -> None:
    """Halves of a batch average to the whole, as processes do that share it."""
    loss = losses.LOSSES[name]
    halves = (loss(STAGES[:1]) + loss(STAGES[1:])) / 2
    torch.testing.assert_close(halves, loss(STAGES))


def test_compressed_losses_count_less_the_larger_they_are() -> None:
    losses_ = torch.tensor([0.001, 0.1, 10.0], requires_grad=True)
    small = losses.compressed(losses_, 0.1)
    torch.testing.assert_close(small, 0.1 * torch.log1p(losses_ / 0.1))
    small.sum().backward()
    torch.testing.assert_close(losses_.grad, torch.tensor([1 / 1.01, 0.5, 1 / 101]))
    assert losses.compressed(losses_, 0.0) is losses_

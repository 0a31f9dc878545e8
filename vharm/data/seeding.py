# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend on what they are for, and not on who draws them or when."""

from __future__ import annotations

import numpy
import torch


def generator(seed: int, *key: int) -> torch.Generator:
    """A CPU generator of its own for each key, such as (epoch, index of the sample).

    Workers and ranks that draw for the same key draw the same numbers.

    Args:
        seed: of the whole run, not negative.
        key: whatever tells the draws apart, not negative.
    """
    state = numpy.random.SeedSequence([seed, *key]).generate_state(1, numpy.uint64)
    # Generators take signed seeds.
    return torch.Generator().manual_seed(int(state[0] >> numpy.uint64(1)))


def uniform(source: torch.Generator, low: float, high: float) -> float:
    """One number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=source))


def chance(source: torch.Generator, probability: float) -> bool:
    """True with the probability given; always draws one number."""
    return float(torch.rand((), generator=source)) < probability


def integer(source: torch.Generator, count: int) -> int:
    """One of 0 .. count - 1."""
    return int(torch.randint(count, (), generator=source))

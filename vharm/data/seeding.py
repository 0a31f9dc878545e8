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
    return torch.Generator().manual_seed(_signed(numpy.random.SeedSequence([seed, *key])))


def generators(*key: int) -> tuple[numpy.random.Generator, torch.Generator]:
    """Independent generators of numpy and torch for the same whole numbers, not negative.

    Raises:
        ValueError: a number below 0.
    """
    if any(number < 0 for number in key):
        raise ValueError(f"seed: expected whole numbers of 0 or more, got {key}")
    first, second = numpy.random.SeedSequence(key).spawn(2)
    source = torch.Generator().manual_seed(_signed(second))
    return numpy.random.Generator(numpy.random.PCG64(first)), source


def uniform(source: torch.Generator, low: float, high: float) -> float:
    """One number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=source))


def chance(source: torch.Generator, probability: float) -> bool:
    """True with the probability given; always draws one number."""
    return float(torch.rand((), generator=source)) < probability


def integer(source: torch.Generator, count: int) -> int:
    """One of 0 .. count - 1."""
    return int(torch.randint(count, (), generator=source))


def _signed(sequence: numpy.random.SeedSequence) -> int:
    """63 bits: torch takes signed seeds."""
    return int(sequence.generate_state(1, numpy.uint64)[0] >> numpy.uint64(1))

# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend on a seed and a place only: not on process, worker or order."""

from __future__ import annotations

import numpy as np
import torch


def generators(*entropy: int) -> tuple[np.random.Generator, torch.Generator]:
    """Independent generators of numpy and torch for the same whole numbers >= 0.

    Raises:
        ValueError: a number below 0.
    """
    if any(number < 0 for number in entropy):
        raise ValueError(f"seed: expected whole numbers of 0 or more, got {entropy}")
    first, second = np.random.SeedSequence(entropy).spawn(2)
    generator = torch.Generator()
    generator.manual_seed(int(second.generate_state(1, np.uint64)[0] >> np.uint64(1)))
    return np.random.Generator(np.random.PCG64(first)), generator

# SPDX-License-Identifier: Apache-2.0
"""The learning rate over a training, as a share of its highest."""

from __future__ import annotations

import math

from .config import TrainingConfig


def rate(config: TrainingConfig, step: int) -> float:
    """Share of `config.learning_rate` that step number `step` (from 0) uses."""
    warm_up = config.warm_up * config.steps
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        passed = sum(step >= share * config.steps for share in config.milestones)
        return config.decay**passed
    done = (step - warm_up) / max(config.steps - warm_up, 1)
    wave = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return config.last_rate + (1 - config.last_rate) * wave

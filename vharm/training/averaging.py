# SPDX-License-Identifier: Apache-2.0
"""A running mean of weights over the steps of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential mean of a module's weights and buffers.

    Args:
        module: whose weights; the mean starts at what they are.
        decay: share of the old mean kept at a step, in [0, 1). Early on it is less, (1 + n) /
            (10 + n) after n steps, so that a short training is not dominated by its start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.tensors = {name: t.detach().clone() for name, t in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present weights into the mean."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        means, values = [], []
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                means.append(self.tensors[name])
                values.append(tensor)
            else:
                self.tensors[name].copy_(tensor)
        torch._foreach_lerp_(means, values, share)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with the mean in place of its weights."""
        own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(self.tensors)
        try:
            yield
        finally:
            module.load_state_dict(own)

    def state_dict(self) -> dict[str, object]:
        return {"steps": self.steps, "tensors": self.tensors}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self.steps = int(state["steps"])  # type: ignore[call-overload]
        tensors: Mapping[str, Tensor] = state["tensors"]  # type: ignore[assignment]
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

# SPDX-License-Identifier: Apache-2.0
"""Each pair of frames is estimated once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import torch
from torch import Tensor

from .estimators import FlowEstimator


class FlowCache:
    """The last flows of a clip, by the frames they are between.

    Args:
        estimator: what is asked for pairs that are not here.
        capacity: flows kept; those that were not asked for longest go first.

    Attributes:
        estimated: how many pairs have been estimated.

    Raises:
        ValueError: a capacity below 1.
    """

    def __init__(self, estimator: FlowEstimator, capacity: int = 64) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected 1 or more, got {capacity}")
        self.estimator, self.capacity = estimator, capacity
        self.estimated = 0
        self._flows: OrderedDict[tuple[Hashable, Hashable], Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flows)

    def flow(self, key: Hashable, current: Tensor, other_key: Hashable, other: Tensor) -> Tensor:
        """The flow from `current` to `other`, [1,2,H,W]; zero from a frame to itself.

        Args:
            key: tells the current frame apart, such as its number in the clip.
            current: [1,3,H,W], see `FlowEstimator`.
            other_key, other: the other frame.
        """
        if key == other_key:
            return torch.zeros(1, 2, *current.shape[2:], device=current.device)
        pair = (key, other_key)
        if pair in self._flows:
            self._flows.move_to_end(pair)
            return self._flows[pair]
        found = self.estimator(current, other)
        self.estimated += 1
        self._flows[pair] = found
        while len(self._flows) > self.capacity:
            self._flows.popitem(last=False)
        return found

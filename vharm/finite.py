# SPDX-License-Identifier: Apache-2.0
"""Whether tensors hold numbers, asked often and of large ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether no value of a floating-point tensor is NaN or infinite.

    `torch.isfinite` makes four tensors on its way; a sum reads this one once. What is not finite
    stays so in a sum. Only a sum that overflows needs the longer way.
    """
    return math.isfinite(tensor.sum()) or bool(torch.isfinite(tensor).all())

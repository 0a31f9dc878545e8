# SPDX-License-Identifier: Apache-2.0
"""NaN and infinity are found, and large numbers are not taken for them."""

from __future__ import annotations

import pytest
import torch

from vharm.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_value_is_found(dtype, bad):
    values = torch.linspace(-1, 1, 1000, dtype=dtype)
    assert all_finite(values)
    values[567] = bad
    assert not all_finite(values)


def test_infinities_that_cancel_are_found():
    assert not all_finite(torch.tensor([float("inf"), float("-inf"), 1.0]))


def test_sums_that_overflow_are_no_error():
    assert all_finite(torch.full((1000,), torch.finfo(torch.float32).max))
    assert all_finite(torch.empty(0))

# SPDX-License-Identifier: Apache-2.0
"""What benchmarks share as fixtures; how they measure is in `common`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from common import THREADS


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch, and with it vharm, on `common.THREADS` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)

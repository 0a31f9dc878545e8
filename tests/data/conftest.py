# SPDX-License-Identifier: Apache-2.0
"""Small data sets made in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("cv2")

from data_sets import make_clips, make_folders


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """See `data_sets.make_folders`."""
    return make_folders(tmp_path / "set")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """See `data_sets.make_clips`."""
    return make_clips(tmp_path / "clips")

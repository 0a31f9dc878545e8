# SPDX-License-Identifier: Apache-2.0
"""Runs the Triton kernels in the interpreter, or on a GPU with `--device cuda`.

The interpreter is chosen by an environment variable that triton reads when it is imported, and it
would make the Triton backend eligible in every other test. So these tests want a process of their
own, `pytest tests/triton`, and skip themselves elsewhere.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
_skip_reason = ""


def _is_here(argument: str) -> bool:
    path = Path(argument.split("::", 1)[0]).resolve()
    return path == HERE or HERE in path.parents


def pytest_configure(config: pytest.Config) -> None:
    global _skip_reason
    if config.getoption("--device") != "cpu":
        return
    if os.environ.get("TRITON_INTERPRET") == "1":
        return
    if not all(_is_here(argument) for argument in config.args):
        _skip_reason = "the Triton interpreter needs a process of its own: pytest tests/triton"
    elif "triton" in sys.modules:
        _skip_reason = "triton was imported before TRITON_INTERPRET=1 could be set"
    else:
        os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def device(device: torch.device) -> torch.device:
    """Where the kernels run: the CPU, interpreted, or a GPU."""
    pytest.importorskip("triton")
    if device.type == "cpu" and _skip_reason:
        pytest.skip(_skip_reason)
    return device

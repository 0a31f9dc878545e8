# SPDX-License-Identifier: Apache-2.0
"""Options and fixtures shared by tests/ and benchmarks/.

pytest --device cuda           the same tests on a GPU
pytest --fail-skipped-gpu      there, a test skipped for want of a GPU is a failure
pytest benchmarks --quick      small sizes, few repetitions
"""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import sys

import pytest
import torch

# No test takes a tenth of this; pyproject.toml's faulthandler_timeout is longer.
CHILD_SECONDS = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vharm")
    group.addoption("--device", default="cpu", help="device of the tensors: cpu or cuda")
    group.addoption("--quick", action="store_true", help="small sizes, few repetitions")
    group.addoption(
        "--fail-skipped-gpu", action="store_true",
        help="a test skipped because there is no GPU counts as failed",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU")
    if hasattr(signal, "SIGALRM"):
        # Forked children, such as a DataLoader's workers, say where they hang, and end. (With
        # dump_traceback_later they would hang by that: it waits for the parent's thread.)
        faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)
        os.register_at_fork(after_in_child=functools.partial(signal.alarm, CHILD_SECONDS))
    device = config.getoption("--device")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise pytest.UsageError(f"--device {device}: torch sees no CUDA device")
    os.environ["VHARM_TEST_DEVICE"] = device
    if profile := os.environ.get("HYPOTHESIS_PROFILE"):
        import hypothesis

        hypothesis.settings.load_profile(profile)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no GPU")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    outcome = yield
    report = outcome.get_result()
    if not (report.skipped and item.config.getoption("--fail-skipped-gpu")):
        return
    if "gpu" in item.keywords or "GPU" in str(report.longrepr):
        report.outcome = "failed"


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Each test draws the same numbers, alone or after others: none fails by its place in a run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where a test's tensors live."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Whether a benchmark should only show that it works."""
    return request.config.getoption("--quick")


def _hypothesis_profiles() -> None:
    try:
        import hypothesis
    except ImportError:
        return
    # Derandomized: a red CI run is red again when it is repeated by hand.
    hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=25)
    hypothesis.settings.register_profile("thorough", deadline=None, max_examples=400)
    hypothesis.settings.load_profile("ci")


_hypothesis_profiles()

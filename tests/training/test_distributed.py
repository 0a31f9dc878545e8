# SPDX-License-Identifier: Apache-2.0
"""Two processes with half the batch each are one process with all of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

import toy_training
from toy_training import train

import vharm
from vharm.training import checkpoint, log

ROOT = Path(vharm.__file__).parent.parent
SETTINGS = ("network=harmonizer", "size=32", "steps=3", "validate_every=3", "learning_rate=0.1")

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch is built without gloo",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_pair(folder: Path, *settings: str) -> list[subprocess.Popen[str]]:
    """The toy training in two processes, as `torchrun` would start them."""
    paths = os.pathsep.join((str(ROOT), str(Path(toy_training.__file__).parent)))
    common = {
        **os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "LOCAL_WORLD_SIZE": "2",
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, toy_training.__file__, str(folder), *settings],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip


def finish(pair: list[subprocess.Popen[str]]) -> list[str]:
    """What both said last; an error in either fails."""
    said = []
    try:
        for process in pair:
            output, errors = process.communicate(timeout=90)
            assert process.returncode == 0, errors
            said.append(output.split()[-1])
    finally:
        for process in pair:
            process.kill()
    return said


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    assert finish(start_pair(folder, *SETTINGS)) == ["finished", "finished"]
    return folder


def test_same_losses_and_weights(pair: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train(tmp_path, *SETTINGS)
    alone, together = log.read(tmp_path), log.read(pair)
    assert [line["step"] for line in together] == [line["step"] for line in alone]
    for one, other in zip(alone, together, strict=True):
        for name in one.keys() - {"seconds", "part", "step"}:
            assert other[name] == pytest.approx(one[name], rel=1e-4), (one["step"], name)
    expected = checkpoint.load(tmp_path / checkpoint.LAST)
    found = checkpoint.load(pair / checkpoint.LAST)
    pairs = (
        (found["networks"]["net"], expected["networks"]["net"]),
        (found["averages"]["net"]["tensors"], expected["averages"]["net"]["tensors"]),
    )
    for mine, theirs in pairs:
        for name, tensor in theirs.items():
            torch.testing.assert_close(mine[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_weights_moved_by_more_than_the_tolerance(pair: Path, tmp_path: Path) -> None:
    train(tmp_path, *SETTINGS, "steps=1", "learning_rate=1e-9", "average=0")
    start = checkpoint.load(tmp_path / checkpoint.LAST)["networks"]["net"]
    end = checkpoint.load(pair / checkpoint.LAST)["networks"]["net"]
    moved = {n: float((end[n] - start[n]).abs().max()) for n in start if n.endswith("weight")}
    assert max(moved.values()) > 1e-2
    assert sum(far > 1e-4 for far in moved.values()) > len(moved) / 2


def test_without_shared_statistics_it_would_show(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that normalises over its own half is seen by the comparison above."""
    forward = torch.nn.BatchNorm2d.forward

    def halves(self: torch.nn.BatchNorm2d, features: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return forward(self, features)
        return torch.cat([forward(self, part) for part in (features[0::2], features[1::2])])

    torch.set_num_threads(1)
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", halves)
    train(tmp_path, *SETTINGS)
    wrong, right = log.read(tmp_path)[0], log.read(pair)[0]
    assert wrong["loss"] != pytest.approx(right["loss"], rel=1e-4)


def test_a_signal_to_one_ends_both(tmp_path: Path) -> None:
    """The other must not be left waiting in the next step."""
    pair = start_pair(tmp_path, "slow=0.1", "steps=200", "validate_every=200")
    for _ in range(600):
        if (tmp_path / log.FILE).exists() and log.read(tmp_path):
            break
        assert all(process.poll() is None for process in pair)
        time.sleep(0.1)
    pair[1].send_signal(signal.SIGTERM)
    assert finish(pair) == ["interrupted", "interrupted"]
    assert 0 < checkpoint.load(tmp_path / checkpoint.LAST)["step"] < 200

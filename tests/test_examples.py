# SPDX-License-Identifier: Apache-2.0
"""The examples are built and run as their readers would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_cpp_consumer_builds_and_runs(tmp_path):
    build = tmp_path / "build"
    for command in (
        ["cmake", "-S", str(EXAMPLES / "cpp_consumer"), "-B", str(build)],
        ["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)],
    ):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    picture = tmp_path / "out.ppm"
    for isa in ("", "baseline"):
        result = subprocess.run(
            [str(build / "consumer"), str(picture)],
            capture_output=True,
            text=True,
            env={**os.environ, "VHARM_CPU_ISA": isa},
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert "largest difference" in result.stdout
    assert picture.read_bytes().startswith(b"P6\n320 180\n255\n")
    assert picture.stat().st_size == 15 + 320 * 180 * 3


def test_triton_kernels_alone(tmp_path):
    pytest.importorskip("triton")
    folder = tmp_path / "examples" / "triton_only"
    shutil.copytree(EXAMPLES / "triton_only", folder)
    shutil.copytree(EXAMPLES.parent / "triton_kernels", tmp_path / "triton_kernels")
    result = subprocess.run(
        [sys.executable, str(folder / "brighten.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert "no vharm" in result.stdout

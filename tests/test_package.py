# SPDX-License-Identifier: Apache-2.0
"""What an installation promises: a light import, a pure-PyTorch fallback, headers to include."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import vharm

HEAVY = ("av", "cv2", "typer", "rich", "triton", "matplotlib", "PIL", "safetensors")


def run(code: str, *flags: str, **options) -> str:
    result = subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=300, **options
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_brings_in_nothing_heavy():
    code = f"import sys, vharm; print([m for m in {HEAVY!r} if m in sys.modules])"
    # torch itself may import triton where it is installed; what vharm adds is what counts.
    base = run(f"import sys, torch; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert run(code) == base


def test_every_public_module_imports():
    names = "ops looks methods media models session api"
    run(f"import importlib\nfor n in {names!r}.split(): importlib.import_module('vharm.' + n)")


def test_works_without_any_native_module(tmp_path):
    """What VHARM_BUILD=none installs: the same package without compiled files."""
    source = Path(vharm.__file__).parent
    shutil.copytree(
        source, tmp_path / "vharm", ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.pyd")
    )
    code = """
import torch, vharm
from vharm import ops
rows = {row.op: row for row in ops.explain()}
assert not any("cpp" in row.able or "cuda" in row.able for row in rows.values())
assert rows["filter_chain"].backend == "reference"
assert "not built" in rows["filter_chain"].reasons["cpp"]
frames = (torch.rand(2, 3, 32, 48) * 255).byte()
masks = torch.zeros(2, 32, 48)
masks[:, 8:20, 10:30] = 1
out = vharm.harmonize(frames, masks, method="reinhard", verbose=False)
assert out.shape == frames.shape and out.dtype == frames.dtype
outside = (masks == 0)[:, None].expand_as(frames)
assert torch.equal(out[outside], frames[outside])
print(vharm.__file__)
"""
    # -S: without `site`, an editable installation's import hook cannot find the native modules.
    packages = sysconfig.get_paths()["purelib"]
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{packages}", "PATH": os.environ["PATH"]}
    where = run(code, "-S", cwd=tmp_path, env=environment)
    assert where.startswith(str(tmp_path))


def test_headers_can_be_found():
    folder = Path(vharm.get_include())
    assert (folder / "vharm" / "filters.hpp").exists()
    text = "".join(p.read_text() for p in (folder / "vharm").iterdir())
    assert "torch/" not in text
    assert "Python.h" not in text


def test_version_is_one():
    from importlib import metadata

    try:
        installed = metadata.version("vharm")
    except metadata.PackageNotFoundError:
        pytest.skip("runs from a checkout that is not installed")
    assert installed == vharm.__version__

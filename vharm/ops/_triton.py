# SPDX-License-Identifier: Apache-2.0
"""Finds `vharm.triton_kernels`, installed or beside the package in a bare checkout."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import torch

from ._backends import Request


@functools.cache
def _package() -> tuple[str | None, str | None]:
    if importlib.util.find_spec("triton") is None:
        return None, "triton is not installed"
    from importlib.metadata import version

    found = version("triton")
    if tuple(int(part) for part in found.split(".")[:2]) < (3, 3):
        return None, f"triton {found} is too old; the kernels need 3.3"
    name = "vharm.triton_kernels"
    if importlib.util.find_spec(name) is not None:
        return name, None
    folder = Path(__file__).resolve().parents[2] / "triton_kernels"
    if not (folder / "__init__.py").exists():
        return None, "the package vharm.triton_kernels is missing from this installation"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return name, None


def triton_module(stem: str) -> ModuleType:
    """The module `vharm.triton_kernels.<stem>`."""
    package, reason = _package()
    if package is None:
        raise RuntimeError(reason)
    return importlib.import_module(f"{package}.{stem}")


def interpreted() -> bool:
    """True where Triton's interpreter runs the kernels, on CPU tensors too."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_not_triton(request: Request) -> str | None:
    """The reason the Triton backend cannot run this request, or None."""
    package, reason = _package()
    if package is None:
        return reason
    if request.dtype == torch.float64:
        return "has no kernel for torch.float64"
    if interpreted():
        # The interpreter is for tests: thousands of times slower, so never chosen by itself.
        return None if request.device.type == "cpu" else "the interpreter runs on CPU tensors"
    if request.device.type != "cuda":
        return f"runs on CUDA tensors; these are on {request.device}"
    return None

# SPDX-License-Identifier: Apache-2.0
"""Compiling Triton kernels ahead of time for sm_90, on a machine without a GPU.

A test file that uses this is also a program: run apart, without the interpreter, it compiles its
variants and prints what came out as JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def machine_code(function: Any, signature: dict[str, Any], given: dict[Any, Any]) -> dict[str, Any]:
    """Compiles one kernel and says what its machine code holds."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(function, signature, given)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    ptx = compiled.asm["ptx"]
    return {
        "target": ".target sm_90" in ptx,
        "cubin": len(compiled.asm["cubin"]),
        "double": ".f64" in ptx,
        "atomics": re.search(r"\b(red|atom)\.", ptx) is not None,
    }


def run_apart(program: str, factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the test file prints when it is run in a process of its own."""
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {
        "TRITON_CACHE_DIR": str(factory.mktemp("triton_cache")),
        "TRITON_DEFAULT_FP_FUSION": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, str(Path(program).resolve())],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

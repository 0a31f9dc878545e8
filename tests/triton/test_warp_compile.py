# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the warps compiles to machine code for sm_90.

Run as a program, this file compiles and prints what came out as JSON; the tests run it in a
process of its own, because the interpreter that the other tests use cannot be switched off again.
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

VARIANTS = (
    ("warp_kernel", "fp32"),
    ("warp_kernel", "u8"),
    ("warp_backward_kernel", "fp32"),
    ("warp_backward_kernel", "fp16"),
    ("loss_kernel", "fp32"),
    ("loss_backward_kernel", "bf16"),
    ("consistency_kernel", "fp32"),
)
LIKE_THE_IMAGE = ("image", "out", "grad", "current", "previous", "grad_current")
NUMBERS = ("channels", "height", "width", "blocks")


def _type(argument: str, kernel: str, image: str) -> Any:
    if argument in NUMBERS:
        return "i32"
    if argument in ("alpha", "beta"):
        return "fp32"
    if argument.endswith("_at"):  # image, channel and row steps; the pixel step is 1
        return ("i64", "i64", "i64", "constexpr")
    if argument == "valid" or (argument == "out" and kernel == "consistency_kernel"):
        return "*u8"
    return f"*{image}" if argument in LIKE_THE_IMAGE else "*fp32"


def _compile(kernel: str, image: str) -> dict[str, Any]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vharm.ops._triton import triton_module

    function = getattr(triton_module("_warp_kernels"), kernel)
    constants = {
        "BORDER": False, "NEED_VALID": True, "NEED_IMAGE": True, "NEED_CURRENT": True,
        "NEED_PREVIOUS": True, "NEED_FLOW": True, "HAS_VALID": True, "MASK_SCALE": 1.0,
        "VALID_SCALE": 255.0, "ROUND": image == "u8", "BLOCK": 256,
    }  # fmt: skip
    signature, given = {}, {}
    for place, argument in enumerate(function.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
            given[(place,)] = constants[argument]
            continue
        signature[argument] = _type(argument, kernel, image)
        if argument.endswith("_at"):
            given[(place, 3)] = 1
    compiled = triton.compile(
        ASTSource(function, signature, given), target=GPUTarget("cuda", 90, 32)
    )
    ptx = compiled.asm["ptx"]
    return {
        "target": ".target sm_90" in ptx,
        "cubin": len(compiled.asm["cubin"]),
        "double": ".f64" in ptx,
        "atomics": re.search(r"\b(red|atom)\.", ptx) is not None,
    }


def _name(kernel: str, image: str) -> str:
    return f"{kernel}-{image}"


def _main() -> None:
    from vharm.ops._triton import triton_module

    kernels = [k for k in dir(triton_module("_warp_kernels")) if k.endswith("_kernel")]
    results = {_name(*variant): _compile(*variant) for variant in VARIANTS}
    print(json.dumps({"kernels": kernels, "results": results}))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton_cache")),
        "TRITON_DEFAULT_FP_FUSION": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve())],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_kernel_is_forgotten(compiled: dict[str, Any]) -> None:
    assert sorted(compiled["kernels"]) == sorted({kernel for kernel, _ in VARIANTS})


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: _name(*variant))
def test_machine_code(variant: tuple[Any, ...], compiled: dict[str, Any]) -> None:
    result = compiled["results"][_name(*variant)]
    assert result["target"]
    assert result["cubin"] > 1000
    assert not result["double"]
    # Only scattering may depend on the order in which programs run.
    assert result["atomics"] == ("backward" in variant[0])


if __name__ == "__main__":
    # Its folder, put first by Python, is called like the package it needs.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve().name != "tests"]
    _main()

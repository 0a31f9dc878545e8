# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the warps compiles to machine code for sm_90.

Run as a program, this file compiles and prints what came out as JSON; the tests run it in a
process of its own, because the interpreter that the other tests use cannot be switched off again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from triton_compile import machine_code, run_apart

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
    return machine_code(function, signature, given)


def _name(kernel: str, image: str) -> str:
    return f"{kernel}-{image}"


def _main() -> None:
    from vharm.ops._triton import triton_module

    kernels = [k for k in dir(triton_module("_warp_kernels")) if k.endswith("_kernel")]
    results = {_name(*variant): _compile(*variant) for variant in VARIANTS}
    print(json.dumps({"kernels": kernels, "results": results}))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_apart(__file__, tmp_path_factory)


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

# SPDX-License-Identifier: Apache-2.0
"""Every attention kernel compiles to machine code for sm_90.

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

MODULES = ("_attention_kernels", "_attention_nonlocal_kernels", "_gate_kernels")
# Module, kernel, type of the feature maps.
VARIANTS = (
    ("_attention_kernels", "window_kernel", "fp32"),
    ("_attention_kernels", "window_kernel", "fp16"),
    ("_attention_kernels", "window_query_kernel", "fp32"),
    ("_attention_kernels", "window_key_kernel", "bf16"),
    ("_gate_kernels", "gate_kernel", "fp32"),
    ("_gate_kernels", "gate_backward_kernel", "fp16"),
    ("_gate_kernels", "mean_kernel", "fp32"),
    ("_gate_kernels", "mean_kernel", "bf16"),
    ("_gate_kernels", "mean_backward_kernel", "fp32"),
    ("_gate_kernels", "mean_backward_kernel", "fp16"),
    ("_attention_nonlocal_kernels", "pairs_kernel", "fp32"),
    ("_attention_nonlocal_kernels", "pairs_query_kernel", "bf16"),
    ("_attention_nonlocal_kernels", "pairs_key_kernel", "fp32"),
)
INTEGERS = (
    "height", "width", "blocks", "heads", "embedding", "channels", "lines", "pixels",
    "query_size", "query_width", "key_size", "key_width", "lists", "share",
)  # fmt: skip
CONSTANTS = {
    "WINDOW": 4, "DQ": 16, "PQ": 16, "DV": 24, "PV": 32, "HAS_MASK": True, "HAS_KEY_MASK": True,
    "NEED_QUERY": True, "NEED_KEY": True, "NEED_VALUE": True, "NEED_THETA": True,
    "NEED_PHI": True, "NEED_FEATURE": True, "NEED_MASK": True, "MASK_SCALE": 255.0, "BLOCK": 64,
    "OTHER": 64, "NEED_NEIGHBOURS": True, "NEED_OWN": True, "CHANNELS": 32,
}  # fmt: skip


def _type(argument: str, features: str) -> Any:
    if argument in INTEGERS:
        return "i32"
    if argument.endswith("_at"):  # image, channel and line steps; the pixel step is 1
        return ("i64", "i64", "i64", "constexpr")
    if argument.endswith("_step"):
        return "i64"
    if argument.endswith(("_index", "_count")):
        return "*i32"
    if argument in ("factor", "scale"):
        return "fp32"
    if argument in ("mask", "key_mask"):
        return "*u8"
    return "*fp32" if argument in ("lse", "inner") else f"*{features}"


def _compile(module: str, kernel: str, features: str) -> dict[str, Any]:
    from vharm.ops._triton import triton_module

    function = getattr(triton_module(module), kernel)
    signature, given = {}, {}
    for place, argument in enumerate(function.arg_names):
        if argument in CONSTANTS:
            signature[argument] = "constexpr"
            given[(place,)] = CONSTANTS[argument]
            continue
        signature[argument] = _type(argument, features)
        if argument.endswith("_at"):
            given[(place, 3)] = 1
    return machine_code(function, signature, given)


def _main() -> None:
    from vharm.ops._triton import triton_module

    kernels = [k for m in MODULES for k in dir(triton_module(m)) if k.endswith("_kernel")]
    results = {"-".join(variant): _compile(*variant) for variant in VARIANTS}
    print(json.dumps({"kernels": kernels, "results": results}))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_apart(__file__, tmp_path_factory)


def test_no_kernel_is_forgotten(compiled: dict[str, Any]) -> None:
    assert sorted(compiled["kernels"]) == sorted({kernel for _, kernel, _ in VARIANTS})


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_machine_code(variant: tuple[str, str, str], compiled: dict[str, Any]) -> None:
    result = compiled["results"]["-".join(variant)]
    assert result["target"]
    assert result["cubin"] > 1000
    assert not result["double"]
    assert not result["atomics"]  # every sum is taken in one order


if __name__ == "__main__":
    # Its folder, put first by Python, is called like the package it needs.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve().name != "tests"]
    _main()

# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the tokens, Gram matrices and patch balance compiles to machine code for sm_90.

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

MODULES = ("_tokens_kernels", "_sequence_kernels")
# Module, kernel, image type, layout.
VARIANTS = (
    ("_tokens_kernels", "foreground_kernel", "u8", "NCHW"),
    ("_tokens_kernels", "pack_kernel", "u8", "NHWC"),
    ("_tokens_kernels", "pack_kernel", "fp32", "NCHW"),
    ("_tokens_kernels", "unpack_kernel", "fp32", "NCHW"),
    ("_tokens_kernels", "unpack_kernel", "u8", "NHWC"),
    ("_tokens_kernels", "unpack_kernel", "bf16", "NCHW"),
    ("_tokens_kernels", "mask_gradient_kernel", "fp16", "NCHW"),
    ("_sequence_kernels", "gram_kernel", "fp32", "NCHW"),
    ("_sequence_kernels", "gram_kernel", "bf16", "NCHW"),
    ("_sequence_kernels", "gram_backward_kernel", "bf16", "NCHW"),
    ("_sequence_kernels", "balance_kernel", "u8", "NHWC"),
    ("_sequence_kernels", "balance_backward_kernel", "fp32", "NCHW"),
)
SCALES = {"u8": 255.0, "u16": 65535.0}
TYPES = {
    "index": "*i64", "slots": "*i64", "sequence": "*i64", "cu_seqlens": "*i32", "patches": "i32",
    "columns": "i32", "total": "i64", "channels": "i32", "width": "i32", "height": "i32",
    "blocks": "i32", "count": "i32", "factor": "fp32", "mask": "*u8", "parts": "*fp32",
    "square": "*fp32",
}  # fmt: skip
LIKE_THE_IMAGE = ("image", "tokens", "grad", "out")
FLOATS = {
    "foreground_kernel": {"out": "*u8"}, "mask_gradient_kernel": {"out": "*fp32"},
    "gram_kernel": {"out": "*fp32"}, "balance_backward_kernel": {"grad": "*fp32"},
    "pack_kernel": {"tokens": "*fp32"},
}  # fmt: skip


def _type(kernel: str, argument: str, image: str) -> Any:
    if argument.endswith("_at"):
        return ("i64", "i64", "i64", "i64")
    if found := FLOATS.get(kernel, {}).get(argument) or TYPES.get(argument):
        return found
    assert argument in LIKE_THE_IMAGE
    return f"*{image}"


def _compile(module: str, kernel: str, image: str, layout: str) -> dict[str, Any]:
    from vharm.ops._triton import triton_module

    function = getattr(triton_module(module), kernel)
    constants = {
        "PATCH": 16, "NHWC": layout == "NHWC", "MOVE": False, "HAS_MASK": True,
        "HAS_TOKENS": True, "HAS_IMAGE": True, "IMAGE_SCALE": SCALES.get(image, 1.0),
        "TOKEN_SCALE": 1.0, "MASK_SCALE": 255.0, "BLOCK": 256, "BLOCK_C": 64, "BLOCK_K": 32,
    }  # fmt: skip
    signature, given = {}, {}
    for place, argument in enumerate(function.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
            given[(place,)] = constants[argument]
        else:
            signature[argument] = _type(kernel, argument, image)
    return machine_code(function, signature, given)


def _name(module: str, kernel: str, image: str, layout: str) -> str:
    return f"{kernel}-{image}-{layout}"


def _main() -> None:
    from vharm.ops._triton import triton_module

    kernels = [k for m in MODULES for k in dir(triton_module(m)) if k.endswith("_kernel")]
    results = {_name(*variant): _compile(*variant) for variant in VARIANTS}
    print(json.dumps({"kernels": kernels, "results": results}))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_apart(__file__, tmp_path_factory)


def test_no_kernel_is_forgotten(compiled: dict[str, Any]) -> None:
    assert sorted(compiled["kernels"]) == sorted({kernel for _, kernel, _, _ in VARIANTS})


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: _name(*variant))
def test_machine_code(variant: tuple[Any, ...], compiled: dict[str, Any]) -> None:
    result = compiled["results"][_name(*variant)]
    assert result["target"]
    assert result["cubin"] > 1000
    assert not result["double"]
    assert not result["atomics"]


if __name__ == "__main__":
    # Its folder, put first by Python, is called like the package it needs.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve().name != "tests"]
    _main()

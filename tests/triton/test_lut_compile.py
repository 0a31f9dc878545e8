# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the tables and the moments compiles to machine code for sm_90.

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

MODULES = ("_lut_kernels", "_statistics_kernels")
# Module, kernel, image type, interpolation.
VARIANTS = (
    ("_lut_kernels", "apply_kernel", "u8", 0),
    ("_lut_kernels", "apply_kernel", "fp16", 0),
    ("_lut_kernels", "apply_kernel", "u16", 1),
    ("_lut_kernels", "apply_backward_kernel", "fp32", 0),
    ("_lut_kernels", "apply_backward_kernel", "bf16", 1),
    ("_lut_kernels", "splat_kernel", "u8", 1),
    ("_lut_kernels", "splat_kernel", "fp32", 1),
    ("_statistics_kernels", "moments_kernel", "u8", 0),
    ("_statistics_kernels", "moments_kernel", "fp32", 0),
    ("_statistics_kernels", "moments_backward_kernel", "fp32", 0),
)
SCALES = {"u8": 255.0, "u16": 65535.0}
TYPES = {
    "strength": "fp32", "lut_step": "i64", "lines": "i32", "pixels": "i32", "blocks": "i32",
}  # fmt: skip
LIKE_THE_IMAGE = ("image", "out", "source", "target", "grad", "grad_image")


def _type(argument: str, image: str) -> Any:
    if argument in TYPES:
        return TYPES[argument]
    if argument.endswith("_at"):  # image, channel and line steps; the pixel step is 1
        return ("i64", "i64", "i64", "constexpr")
    return f"*{image}" if argument in LIKE_THE_IMAGE else "*fp32"


def _compile(module: str, kernel: str, image: str, kind: int) -> dict[str, Any]:
    from vharm.ops._triton import triton_module

    function = getattr(triton_module(module), kernel)
    constants = {
        "SIZE": 33, "KIND": kind, "OFFSET": True, "HAS_MASK": True, "NEED_IMAGE": True,
        "NEED_LUT": True, "NEED_MASK": True, "IMAGE_SCALE": SCALES.get(image, 1.0),
        "MASK_SCALE": 1.0, "BLOCK": 256,
    }  # fmt: skip
    signature, given = {}, {}
    for place, argument in enumerate(function.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
            given[(place,)] = constants[argument]
            continue
        signature[argument] = _type(argument, image)
        if argument.endswith("_at"):
            given[(place, 3)] = 1
    return machine_code(function, signature, given)


def _name(module: str, kernel: str, image: str, kind: int) -> str:
    return f"{kernel}-{image}-{kind}"


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
    # Only scattering may depend on the order in which programs run.
    assert result["atomics"] == (variant[1] in ("apply_backward_kernel", "splat_kernel"))


if __name__ == "__main__":
    # Its folder, put first by Python, is called like the package it needs.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve().name != "tests"]
    _main()

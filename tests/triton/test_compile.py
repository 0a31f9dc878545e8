# SPDX-License-Identifier: Apache-2.0
"""Every Triton kernel compiles to machine code for sm_90, with or without a GPU at hand.

Run as a program, this file compiles and prints what came out as JSON; the tests run it in a
process of its own, because the interpreter that the other tests use cannot be switched off again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from triton_compile import run_apart

DEFAULT_CODES = (0, 1, 2, 3, 4, 5)
ALL_CODES = (0, 1, 2, 3, 4, 5, 6, 7)
HUE = 7
KERNELS = (
    "chain_kernel",
    "chain_backward_kernel",
    "means_kernel",
    "means_backward_kernel",
    "loss_kernel",
    "loss_backward_kernel",
    "parameters_kernel",
)
# Kernel, image type, codes. Gradients of byte images exist for the parameters only.
VARIANTS = (
    *((name, "fp32", DEFAULT_CODES) for name in KERNELS),
    ("chain_kernel", "u8", DEFAULT_CODES),
    ("chain_kernel", "u16", ALL_CODES),
    ("chain_backward_kernel", "bf16", ALL_CODES),
    ("means_kernel", "u8", ()),
    ("means_backward_kernel", "u8", DEFAULT_CODES),
)
SCALES = {"u8": 255.0, "u16": 65535.0}
TYPES = {"strength": "fp32", "share": "fp32", "stage_step": "i64"} | dict.fromkeys(
    ("lines", "pixels", "blocks"), "i32"
)
LIKE_THE_IMAGE = ("image", "out", "targets", "grad_image")


def _type(kernel: str, argument: str, image: str) -> Any:
    if argument in TYPES:
        return TYPES[argument]
    if argument.endswith("_at"):  # image, channel and line steps; the pixel step is 1
        return ("i64", "i64", "i64", "constexpr")
    if argument == "sums" and kernel == "parameters_kernel":
        return "*fp64"
    if argument in LIKE_THE_IMAGE or (argument == "grad" and kernel == "chain_backward_kernel"):
        return f"*{image}"
    return "*fp32"


def _compile(kernel: str, image: str, codes: tuple[int, ...]) -> dict[str, Any]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vharm.ops._triton import triton_module

    function = getattr(triton_module("_filter_kernels"), kernel)
    constants = {
        "FILTERS": triton_module("filters").pack(codes), "K": len(codes), "QUANTIZED": False,
        "HAS_MASK": True,
        "NEED_IMAGE": image not in SCALES, "NEED_MASK": True, "IMAGE_SCALE": SCALES.get(image, 1.0),
        "MASK_SCALE": 1.0, "BLOCK": 256,
    }  # fmt: skip
    signature, given = {}, {}
    for place, argument in enumerate(function.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
            given[(place,)] = constants[argument]
            continue
        signature[argument] = _type(kernel, argument, image)
        if argument.endswith("_at"):
            given[(place, 3)] = 1
    source = ASTSource(function, signature, given)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    ptx = compiled.asm["ptx"]
    return {
        "target": ".target sm_90" in ptx,
        "cubin": len(compiled.asm["cubin"]),
        "double": ".f64" in ptx,
    }


def _name(kernel: str, image: str, codes: tuple[int, ...]) -> str:
    return f"{kernel}-{image}-{len(codes)}"


def _main() -> None:
    from vharm.ops._triton import triton_module

    module = triton_module("_filter_kernels")
    print(
        json.dumps(
            {
                "kernels": [name for name in dir(module) if name.endswith("_kernel")],
                "results": {_name(*variant): _compile(*variant) for variant in VARIANTS},
            }
        )
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_apart(__file__, tmp_path_factory)


def test_no_kernel_is_forgotten(compiled: dict[str, Any]) -> None:
    assert sorted(compiled["kernels"]) == sorted(KERNELS)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: _name(*variant))
def test_machine_code(variant: tuple[Any, ...], compiled: dict[str, Any]) -> None:
    result = compiled["results"][_name(*variant)]
    assert result["target"]
    assert result["cubin"] > 1000
    # Only the few sums per image are double; one double literal would slow all pixels down. Hue
    # brings in CUDA's sine, whose path for huge angles, never taken here, uses double.
    assert result["double"] == (variant[0] == "parameters_kernel" or HUE in variant[2])


if __name__ == "__main__":
    # Its folder, put first by Python, is called like the package it needs.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve().name != "tests"]
    _main()

# SPDX-License-Identifier: Apache-2.0
"""The compiled modules `vharm._C` and `vharm._cuda`, and how tensors are shown to them.

The modules know no framework: a tensor crosses as its data pointer, dtype code, sizes and strides.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from ._backends import Request
from ._check import full_scale

# Must equal vharm::DType in csrc/include/vharm/types.hpp.
DTYPE_CODES = {
    torch.uint8: 0,
    torch.uint16: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.float32: 4,
    torch.bool: 0,
}

PREFAULT_BYTES = 4 << 20  # smaller outputs are mostly memory that was used before


@functools.cache
def _load(name: str) -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module(f"vharm.{name}"), None
    except ModuleNotFoundError:
        return None, f"vharm.{name} was not built (see VHARM_BUILD in the installation notes)"
    except ImportError as error:
        return None, f"vharm.{name} was built but does not load: {error}"


def cpu_module() -> ModuleType:
    """`vharm._C`; only called after `why_not_cpp` said it is there."""
    module, reason = _load("_C")
    if module is None:
        raise RuntimeError(reason)
    return module


def cuda_module() -> ModuleType:
    """`vharm._cuda`; only called after `why_not_cuda` said it is there."""
    module, reason = _load("_cuda")
    if module is None:
        raise RuntimeError(reason)
    return module


def why_not_cpp(request: Request) -> str | None:
    """The reason the C++ backend cannot run this request, or None."""
    module, reason = _load("_C")
    if module is None:
        return reason
    if request.device.type != "cpu":
        return f"runs on the CPU; the tensors are on {request.device}"
    if request.dtype not in DTYPE_CODES:
        return f"has no kernel for {request.dtype}"
    return None


def why_not_cuda(request: Request) -> str | None:
    """The reason the CUDA backend cannot run this request, or None."""
    module, reason = _load("_cuda")
    if module is None:
        return reason
    if request.device.type != "cuda":
        return f"runs on CUDA tensors; these are on {request.device}"
    if request.dtype not in DTYPE_CODES:
        return f"has no kernel for {request.dtype}"
    return cuda_device_problem()


@functools.cache
def cuda_device_problem() -> str | None:
    """None when `vharm._cuda` sees a usable device, else what it says."""
    module, reason = _load("_cuda")
    if module is None:
        return reason
    status = module.device_status()
    return None if status == "ok" else status


class Kernels:
    """The functions of one family in one of the modules, which have the same signatures.

    The last argument says where they run: a number of threads, or a stream and whether every run
    must give the same.
    """

    def __init__(self, backend: Literal["cpp", "cuda"]) -> None:
        self._cuda = backend == "cuda"

    def _call(self, name: str, tensor: Tensor, *arguments: Any) -> None:
        """Calls a function, on the device of `tensor`."""
        if not self._cuda:
            getattr(cpu_module(), name)(*arguments, threads())
            return
        with torch.cuda.device(tensor.device):
            stream = torch.cuda.current_stream().cuda_stream
            where = (stream, torch.are_deterministic_algorithms_enabled())
            getattr(cuda_module(), name)(*arguments, where)


def image_view(tensor: Tensor, layout: str) -> tuple[int, ...]:
    """(pointer, dtype, n, h, w, stride n, stride c, stride h, stride w) for vharm::ImageView."""
    if layout == "NCHW":
        n, _, h, w = tensor.shape
        sn, sc, sh, sw = tensor.stride()
    else:
        n, h, w, _ = tensor.shape
        sn, sh, sw, sc = tensor.stride()
    return (tensor.data_ptr(), DTYPE_CODES[tensor.dtype], n, h, w, sn, sc, sh, sw)


def mask_view(tensor: Tensor | None, layout: str, strength: float) -> tuple[float, ...] | None:
    """(pointer, dtype, stride n, stride h, stride w, black, white, strength), or None for ones."""
    if tensor is None:
        return None if strength == 1.0 else (0, 0, 0, 0, 0, 0.0, 1.0, strength)
    if layout == "NCHW":
        sn, _, sh, sw = tensor.stride()
    else:
        sn, sh, sw, _ = tensor.stride()
    white = 1.0 if tensor.dtype == torch.bool else full_scale(tensor.dtype)
    return (tensor.data_ptr(), DTYPE_CODES[tensor.dtype], sn, sh, sw, 0.0, white, strength)


def prefault(*fresh: Tensor | None) -> None:
    """Has the system map the memory of outputs just allocated (dense, on the CPU) in one go.

    Results above a few megabytes are mapped anew for each call; page by page, as the kernel's
    stores touch them first, that takes longer than most kernels.
    """
    for tensor in fresh:
        if tensor is not None and tensor.nbytes >= PREFAULT_BYTES:
            cpu_module().prefault(tensor.data_ptr(), tensor.nbytes, threads())


def return_large_blocks(least: int) -> bool:
    """Has the C library give freed blocks of so many bytes back at once, in the whole process.

    False where it cannot be told so, or `vharm._C` was not built.
    """
    module, _ = _load("_C")
    return module is not None and module.return_large_blocks(least)


_most_threads: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    "vharm_threads", default=None
)


class AtMost:
    """A context in which CPU kernels use no more threads than this."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        self._token = _most_threads.set(self._threads)

    def __exit__(self, *error: object) -> None:
        _most_threads.reset(self._token)


def threads(wanted: int | None = None) -> int:
    """How many threads a CPU kernel may use: torch's own setting unless `wanted` says otherwise.

    Within `AtMost`, no more than that.
    """
    most, wanted = _most_threads.get(), wanted or torch.get_num_threads()
    return wanted if most is None else min(most, wanted)

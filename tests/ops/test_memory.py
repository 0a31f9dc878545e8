# SPDX-License-Identifier: Apache-2.0
"""Fresh outputs are mapped before the kernels write to them, and nothing else changes."""

from __future__ import annotations

import ctypes
import mmap
import platform
import resource
import sys

import pytest
import torch
from strategies import backends

from vharm.ops import _native, flow_warp, pack_patches, unpack_patches

SIZE = 9 * (1 << 20) + 4096
needs_native = pytest.mark.skipif("cpp" not in backends("flow_warp"), reason="vharm._C not built")


def can_populate() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    major, minor = platform.release().split(".")[:2]
    return (int(major), int(minor)) >= (5, 14)


def faults_of_touching(memory: mmap.mmap, begin: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for offset in range(begin, SIZE, mmap.PAGESIZE):
        memory[offset] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@needs_native
@pytest.mark.skipif(not can_populate(), reason="needs Linux 5.14 or later")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("offset", [0, 100])
def test_pages_are_there_afterwards(threads, offset):
    for prefault in (False, True):
        memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_NOHUGEPAGE") and not prefault:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        if prefault:
            _native.cpu_module().prefault(first + offset, SIZE - offset, threads)
        faults = faults_of_touching(memory, mmap.PAGESIZE)
        assert faults < 100 if prefault else faults > 1000


@needs_native
@pytest.mark.parametrize("size", [0, 1, 4096, (4 << 20) + 1, SIZE])
def test_contents_stay(size):
    values = torch.arange(size + 2, dtype=torch.int32).to(torch.uint8)
    kept = values.clone()
    _native.cpu_module().prefault(kept.data_ptr() + 1, size, 2)
    assert torch.equal(kept, values)


@needs_native
@pytest.mark.skipif(not can_populate(), reason="needs Linux 5.14 or later")
def test_large_outputs_are_prefaulted(monkeypatch):
    seen: list[int] = []
    module = _native.cpu_module()

    class Spy:
        def __getattr__(self, name):
            if name == "prefault":
                return lambda data, size, threads: seen.append(size)
            return getattr(module, name)

    monkeypatch.setattr(_native, "cpu_module", Spy)
    image = torch.rand(1, 3, 640, 640)
    keep = torch.ones(1, 1600, dtype=torch.bool)
    flow_warp(image, torch.zeros(1, 2, 640, 640))
    tokens, index, _ = pack_patches(image, keep)
    unpack_patches(tokens, index, image)
    assert seen == [image.nbytes] * 3
    seen.clear()
    pack_patches(image, keep, out=tokens)  # memory that was there
    assert seen == []

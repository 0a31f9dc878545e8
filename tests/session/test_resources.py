# SPDX-License-Identifier: Apache-2.0
"""What a clip's way from file to file takes of the machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clips import ListWriter, Shift, box_mask, clip
from strategies import backends

from vharm import methods
from vharm.media.frame import ColorSpec
from vharm.ops import _native
from vharm.session import Session, resources

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HD, UHD, UHD2 = 1920 * 1080 * 3 // 2, 3840 * 2160 * 3 // 2, 7680 * 4320 * 3 // 2


class Opened:
    """As much of a reader as is asked about."""

    def __init__(self, width: int, height: int, depth: int = 8) -> None:
        self.width, self.height = width, height
        self.color = ColorSpec("yuv", depth, (1, 1))


def test_bytes_of_a_frame():
    assert resources.frame_bytes(Opened(1920, 1080)) == HD
    assert resources.frame_bytes(Opened(1920, 1080, 10)) == 2 * HD
    assert resources.frame_bytes(iter(())) > HD


def test_large_frames_wait_in_smaller_numbers():
    assert [resources.ahead(size) for size in (HD, 2 * HD, UHD, UHD2)] == [4, 2, 1, 1]
    assert [resources.batch_room(size, CPU) for size in (HD, UHD, UHD2)] == [4, 1, 1]
    assert [resources.batch_room(size, CUDA) for size in (HD, UHD)] == [86, 21]


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_threads_of_kernels_can_be_limited():
    assert _native.threads() == 4
    with _native.AtMost(2):
        assert _native.threads() == 2
        with _native.AtMost(9):
            assert _native.threads() == 4
        assert _native.threads() == 2
    assert _native.threads() == 4


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("threads", "expected"), [(True, 2), (False, 4)])
def test_kernels_leave_half_of_the_cores_to_others(threads, expected, monkeypatch):
    """Kernels that apply Looks and make thumbnails, in whichever thread they run."""
    found, own = set(), _native.threads

    def threads_seen():
        found.add(own())
        return own()

    monkeypatch.setattr(_native, "threads", threads_seen)
    Session("mkl").run(clip(3), [box_mask()] * 3, ListWriter(), threads=threads)
    assert found == {expected}


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("heavy", "expected"), [(False, 2), (True, 4)])
def test_networks_in_torch_are_estimated_with_all_threads(heavy, expected):
    class Watched(Shift):
        runs_in_torch = heavy

        def estimate(self, *arguments, **options):
            seen.append(_native.threads())
            return super().estimate(*arguments, **options)

    seen = []
    Session(Watched(0.1)).run(clip(3), [box_mask()] * 3, ListWriter())
    assert set(seen) == {expected}


@pytest.mark.parametrize(
    ("size", "heavy", "expected"),
    [((3840, 2160), False, True), ((3840, 2160), None, True), ((1920, 1080), False, False),
     ((3840, 2160), True, False)],
)  # fmt: skip
def test_only_large_frames_go_back_and_only_where_tensors_are_few(
    size, heavy, expected, monkeypatch
):
    monkeypatch.setattr(_native, "return_large_blocks", lambda least: True)
    method = None if heavy is None else SimpleNamespace(runs_in_torch=heavy)
    assert resources.return_freed_frames(Opened(*size), method) is expected


def test_methods_say_what_they_do_with_memory():
    assert not methods.get("mkl").runs_in_torch
    assert methods.Method.runs_in_torch


FREED = """
import ctypes, sys
from vharm.ops import _native

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096

def kept():
    '''How much is still there of three blocks of 12 MB that were used and freed.'''
    before = resident()
    blocks = [libc.malloc(12 << 20) for _ in range(3)]
    for block in blocks:
        ctypes.memset(block, 1, 12 << 20)
    # Something behind them, as there always is: the heap cannot shrink.
    libc.malloc(8 << 20)
    for block in blocks:
        libc.free(block)
    return resident() - before

if sys.argv[1] == "told":
    assert _native.return_large_blocks(1 << 20)
kept()  # from now on the library knows that such blocks are freed
print(kept() >> 20)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="of GNU's C library"
)
@pytest.mark.skipif("cpp" not in backends("flow_warp"), reason="vharm._C not built")
def test_freed_frames_go_back_to_the_system():
    kept = {}
    for told in ("untold", "told"):
        command = [sys.executable, "-c", FREED, told]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        kept[told] = int(run.stdout)
    assert kept["untold"] >= 20
    assert kept["told"] <= 1


def test_results_are_the_same_with_and_without_threads():
    written = []
    for threads in (True, False):
        writer = ListWriter()
        Session("mkl").run(clip(4), [box_mask()] * 4, writer, threads=threads)
        written.append(writer.frames)
    for a, b in zip(*written, strict=True):
        for one, other in zip(a.planes, b.planes, strict=True):
            np.testing.assert_array_equal(one, other)

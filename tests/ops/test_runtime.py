# SPDX-License-Identifier: Apache-2.0
"""The native module's run time: instruction sets, threads, forks; and the choice of backend."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
from strategies import natural

from vharm import ops
from vharm.ops._native import _load

needs_native = pytest.mark.skipif(_load("_C")[0] is None, reason="vharm._C is not built")

PROBE = """
import json, sys, torch
import vharm._C as native
from vharm import ops
torch.manual_seed(0)
v = torch.rand(2, 3, 37, 601)
mask = (torch.rand(2, 1, 37, 601) * 2 - 0.5).clamp(0, 1)
a = torch.tensor([[0.3, -0.2, 0.2, 0.4, -0.3, 0.2, 0.1, 0.1]] * 2, requires_grad=True)
with ops.backend("cpp"):
    out = ops.filter_chain(v, mask, a, filters=ops.FILTERS)
    out.mean().backward()
    bytes_out = ops.filter_chain((v * 255).byte(), mask, a.detach(), filters=ops.FILTERS)
    planes = ops.rgb_to_yuv(v[0].permute(1, 2, 0), format=ops.YuvFormat())
    half = ops.filter_chain(v.half(), mask, a.detach(), filters=ops.FILTERS)
    brain = ops.filter_chain(v.bfloat16(), mask, a.detach(), filters=ops.FILTERS)
torch.save([native.isa(), native.isa_problem(), out.detach(), a.grad, bytes_out, *planes,
            half, brain], sys.argv[1])
"""


def probe(isa: str, path: str) -> list:
    environment = {**os.environ, "VHARM_CPU_ISA": isa}
    subprocess.run([sys.executable, "-c", PROBE, path], check=True, env=environment)
    return torch.load(path)


@needs_native
def test_every_instruction_set_gives_the_same(tmp_path):
    base = probe("baseline", str(tmp_path / "baseline.pt"))
    assert base[:2] == ["baseline", ""]
    for isa in ("avx2", "avx512"):
        name, problem, *tensors = probe(isa, str(tmp_path / f"{isa}.pt"))
        if problem:
            assert name != isa  # this processor lacks it, and the module said so
            continue
        assert name == isa
        for found, expected in zip(tensors, base[2:], strict=True):
            if found.is_floating_point():
                bound = {torch.float16: 2e-3, torch.bfloat16: 8e-3}.get(found.dtype, 2e-4)
                assert (found - expected).abs().max() <= bound
            else:
                assert (found.int() - expected.int()).abs().max() <= 1


@needs_native
def test_an_unknown_instruction_set_is_reported(tmp_path):
    name, problem, *_ = probe("avx9000", str(tmp_path / "x.pt"))
    assert "VHARM_CPU_ISA" in problem
    assert name in ("baseline", "avx2", "avx512")


def _chain(v: torch.Tensor, queue) -> None:
    # Only the op itself: torch's own OpenMP loops are what hangs in a forked child.
    with ops.backend("cpp"):
        out = ops.filter_chain(v, None, torch.full((1, 6), 0.2))
    queue.put(float(out.numpy().astype("float64").sum()))


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_works_in_a_forked_child():
    """DataLoader workers fork after the parent has used its thread pool."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        v = natural(1, 200, 2000, seed=0)
        _chain(v, queue)
        expected = queue.get()
        children = [context.Process(target=_chain, args=(v, queue)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join(20)
            if child.exitcode is None:
                child.kill()
                pytest.fail("the child hung")
            assert child.exitcode == 0
        assert [queue.get() for _ in children] == [expected] * 2
    finally:
        torch.set_num_threads(before)


@needs_native
def test_two_threads_at_once_agree():
    from concurrent.futures import ThreadPoolExecutor

    v, a = natural(1, 300, 400, seed=1), torch.full((1, 6), 0.1)
    expected = ops.filter_chain(v, None, a)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: ops.filter_chain(v, None, a), range(16)))
    assert all(torch.equal(r, expected) for r in results)


def test_forcing_a_backend_that_cannot_run_raises_its_reason():
    with ops.backend("cuda"), pytest.raises(RuntimeError, match="cuda.*cannot run"):
        ops.filter_chain(torch.zeros(1, 3, 2, 2), None, torch.zeros(1, 6))
    wanted = "backend: name must be.*reference.*got 'numpy'"
    with pytest.raises(ValueError, match=wanted), ops.backend("numpy"):
        pass


def test_forced_backend_does_not_leak_into_other_threads():
    from concurrent.futures import ThreadPoolExecutor

    with ops.backend("reference"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(ops._backends.forced).result() is None


def test_explain_gives_a_choice_and_reasons_for_every_op():
    rows = {row.op: row for row in ops.explain()}
    assert {"filter_chain", "apply_lut", "masked_moments", "filter_chain_yuv"} <= set(rows)
    for row in rows.values():
        assert row.backend == row.able[0]
        assert row.backend in ("cpp", "reference", "sdpa")
        assert all(reason for reason in row.reasons.values())
    assert "cuda" in rows["filter_chain"].reasons
    json.dumps([row.reasons for row in rows.values()])

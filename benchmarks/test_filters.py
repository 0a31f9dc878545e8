# SPDX-License-Identifier: Apache-2.0
"""The filter chain beside eager PyTorch, torch.compile, and a plain copy.

pytest benchmarks/test_filters.py -s            the full measurement, results kept
pytest benchmarks/test_filters.py -s --quick    that it works
"""

from __future__ import annotations

import pytest
import torch
from common import Subject, compare, peak_extra, publish

from vharm import ops
from vharm.ops import filter_chain, filter_chain_loss, filter_statistics

ARGUMENTS = [[0.2, -0.1, 0.15, 0.3, 0.2, -0.2]]


def fast_backends(device: torch.device) -> list[str]:
    rows = {row.op: row for row in ops.explain(device, torch.uint8)}
    return [name for name in rows["filter_chain"].able if name != "reference"]


def on(name: str, call):
    """`call` forced onto one backend."""

    def run():
        with ops.backend(name):
            return call()

    return run


def photograph(height: int, width: int, device: torch.device) -> torch.Tensor:
    """[1,3,H,W] float: smooth shapes with grain, all values occurring."""
    generator = torch.Generator().manual_seed(0)
    v = torch.rand(1, 3, 9, 16, generator=generator)
    v = torch.nn.functional.interpolate(v, size=(height, width), mode="bicubic")
    return (v + 0.05 * torch.randn(v.shape, generator=generator)).clamp(0, 1).to(device)


def levels_off(expected: torch.Tensor, bound: int = 1, share: float = 0.01):
    def check(found: torch.Tensor) -> None:
        error = (found.int() - expected.int()).abs()
        assert error.max() <= bound
        assert (error > 0).double().mean() < share

    return check


@pytest.mark.benchmark
def test_filter_chain(device, quick):
    height, width = (270, 480) if quick else (1080, 1920)
    rounds, slow = (2, 1) if quick else (15, 5)
    v = photograph(height, width, device)
    frame = (v * 255).round().byte().permute(0, 2, 3, 1).contiguous()
    v = (frame.permute(0, 3, 1, 2).float() / 255).contiguous()
    mask8 = torch.full((1, height, width, 1), 255, dtype=torch.uint8, device=device)
    mask = torch.ones(1, 1, height, width, device=device)
    arguments = torch.tensor(ARGUMENTS, device=device)
    with ops.backend("reference"):
        expected8 = filter_chain(frame, mask8, arguments, layout="NHWC")
        expected = filter_chain(v, mask, arguments)

    def close(found: torch.Tensor) -> None:
        assert (found - expected).abs().max() < 1e-4

    def whole8():
        return filter_chain(frame, mask8, arguments, layout="NHWC")

    def whole():
        return filter_chain(v, mask, arguments)

    subjects = [Subject(f"{name}, uint8", on(name, whole8), levels_off(expected8))
                for name in fast_backends(device)]  # fmt: skip
    subjects += [Subject(f"{name}, float32", on(name, whole), close)
                 for name in fast_backends(device)]  # fmt: skip
    subjects.append(Subject("eager PyTorch, float32", on("reference", whole), close, slow))
    if not quick:
        with ops.backend("reference"):
            compiled = torch.compile(lambda: filter_chain(v, mask, arguments))
            compiled8 = torch.compile(lambda: filter_chain(frame, mask8, arguments, layout="NHWC"))
            compiled(), compiled8()
        subjects.append(Subject("torch.compile, float32", compiled, close, slow))
        subjects.append(Subject("torch.compile, uint8", compiled8, levels_off(expected8), slow))
    table = compare(
        f"filter_chain, six filters, {width}x{height}, full mask", subjects, rounds=rounds,
        device=device, copy_bytes=frame.numel(),
    )  # fmt: skip
    publish("filters", [table], device, keep=not quick)
    if quick or device.type != "cpu":
        return
    assert table.ratio("eager PyTorch, float32") >= 20
    assert table.ratio("torch.compile, float32") >= 4
    assert table.ratio("torch.compile, uint8") >= 10
    assert table.rows[0].median_ms <= 20 * table.copy_ms


@pytest.mark.benchmark
def test_cost_follows_the_mask(device, quick):
    height, width = (270, 480) if quick else (1080, 1920)
    frame = (photograph(height, width, device) * 255).byte().permute(0, 2, 3, 1).contiguous()
    arguments = torch.tensor(ARGUMENTS, device=device)
    statistics = filter_statistics(frame, arguments, layout="NHWC")
    subjects = []
    for percent in (100, 50, 20, 5, 0):
        mask = torch.zeros(1, height, width, 1, dtype=torch.uint8, device=device)
        side = (percent / 100) ** 0.5
        mask[:, : round(height * side), : round(width * side)] = 255

        def run(mask=mask):
            return filter_chain(frame, mask, arguments, statistics=statistics, layout="NHWC")

        subjects.append(Subject(f"mask covers {percent} %", run))
    table = compare(
        f"filter_chain, apply pass, uint8 {width}x{height}", subjects, rounds=2 if quick else 25,
        device=device, copy_bytes=frame.numel(),
    )  # fmt: skip
    publish("filters-mask", [table], device, keep=not quick)
    if not quick and device.type == "cpu":
        assert table.ratio("mask covers 20 %") < 0.5


@pytest.mark.benchmark
def test_backward(device, quick):
    height, width = (270, 480) if quick else (1080, 1920)
    v = photograph(height, width, device)
    mask = torch.ones(1, 1, height, width, device=device)
    arguments = torch.tensor(ARGUMENTS, device=device, requires_grad=True)

    def gradients():
        out = filter_chain(v, mask, arguments)
        (grad,) = torch.autograd.grad(out.sum(), arguments)
        return grad

    with ops.backend("reference"):
        expected = gradients()

    def close(found: torch.Tensor) -> None:
        assert (found - expected).norm() < 1e-3 * expected.norm()

    subjects = [Subject(name, on(name, gradients), close) for name in fast_backends(device)]
    subjects.append(Subject("eager PyTorch", on("reference", gradients), close, 1 if quick else 3))
    table = compare(
        f"filter_chain, forward + backward to the arguments, float32 {width}x{height}", subjects,
        rounds=2 if quick else 9, device=device, copy_bytes=v.numel() * 4,
    )  # fmt: skip
    publish("filters-backward", [table], device, keep=not quick)
    if not quick and device.type == "cpu":
        assert table.ratio("eager PyTorch") >= 10


@pytest.mark.benchmark
def test_loss(device, quick):
    batch, size = (2, 64) if quick else (16, 256)
    v = torch.cat([photograph(size, size, device)] * batch)
    targets = v[:, None].expand(batch, 6, 3, size, size) * 0.9
    mask = torch.zeros(batch, 1, size, size, device=device)
    mask[..., size // 4 : 3 * size // 4] = 1
    arguments = torch.tensor(ARGUMENTS * batch, device=device, requires_grad=True)

    def gradients():
        statistics = filter_statistics(v, arguments)
        losses = filter_chain_loss(v, mask, arguments, targets, statistics=statistics)
        (grad,) = torch.autograd.grad(losses.sum(), arguments)
        return grad

    with ops.backend("reference"):
        expected = gradients()

    def close(found: torch.Tensor) -> None:
        assert (found - expected).norm() < 1e-3 * expected.norm()

    subjects = [Subject(name, on(name, gradients), close) for name in fast_backends(device)]
    subjects.append(Subject("eager PyTorch", on("reference", gradients), close, 1 if quick else 3))
    notes = {}
    if device.type == "cpu":
        mine, peers = peak_extra(subjects[0].run), peak_extra(subjects[-1].run)
        notes["peak extra memory"] = f"{mine / 2**20:.1f} MiB, eager {peers / 2**20:.1f} MiB"
        assert mine < peers / 3
    table = compare(
        f"filter_chain_loss, forward + backward, batch {batch} at {size}", subjects,
        rounds=2 if quick else 9, device=device, copy_bytes=targets.numel() * 4, **notes,
    )  # fmt: skip
    publish("filters-loss", [table], device, keep=not quick)
    if not quick and device.type == "cpu":
        assert table.ratio("eager PyTorch") >= 5

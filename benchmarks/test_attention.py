# SPDX-License-Identifier: Apache-2.0
"""Masked attention beside unfold, compiled unfold, FlexAttention and dense attention.

pytest benchmarks/test_attention.py -s            the full measurement, results kept
pytest benchmarks/test_attention.py -s --quick    that it works
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from common import Subject, Table, compare, peak_extra, publish
from torch import Tensor

from vharm.ops import neighborhood_attention, nonlocal_attention, similarity_gate

CQ, CV, WINDOW = 16, 32, 4
LOW, HIGH = -(WINDOW // 2), WINDOW - 1 - WINDOW // 2
COMPILED, FLEX = "unfold, torch.compile", "FlexAttention, torch.compile"


pytestmark = pytest.mark.usefixtures("two_threads")


def noise(*shape: int, seed: int, device: torch.device) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def box(size: int, percent: int, device: torch.device) -> Tensor:
    """A centred square that covers `percent` of the frame."""
    mask = torch.zeros(1, 1, size, size, dtype=torch.bool, device=device)
    side = round(size * (percent / 100) ** 0.5)
    first = (size - side) // 2
    mask[..., first : first + side, first : first + side] = True
    return mask


def by_unfold(query: Tensor, key: Tensor, value: Tensor, blocked: Tensor, mask: Tensor) -> Tensor:
    """F.unfold, products and one softmax over the frame; `blocked` `[1,q*q,H*W]`, the keys outside
    the image, is made once beforehand. Multiplying and summing is the fastest of the ways to write
    it: with einsum or matmul, which make a small product per position, it takes over twice as long.
    """
    n, c, h, w = query.shape
    pad = (-LOW, HIGH, -LOW, HIGH)
    keys = F.unfold(F.pad(key, pad), WINDOW).view(n, c, WINDOW**2, h * w)
    values = F.unfold(F.pad(value, pad), WINDOW).view(n, -1, WINDOW**2, h * w)
    scores = (query.flatten(2)[:, :, None] * keys).sum(1) / math.sqrt(c)
    weights = torch.softmax(scores.masked_fill(blocked, -torch.inf), 1)
    return (weights[:, None] * values).sum(2).view(n, -1, h, w) * mask


def outside(size: int, device: torch.device) -> Tensor:
    ones = torch.ones(1, 1, size, size, device=device)
    return F.unfold(F.pad(ones, (-LOW, HIGH, -LOW, HIGH)), WINDOW) == 0


def flex(size: int, device: torch.device) -> Callable[..., Tensor]:
    """FlexAttention with the window as its mask, tokens in raster order."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def near(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        dy, dx = k // size - q // size, k % size - q % size
        return (dy >= LOW) & (dy <= HIGH) & (dx >= LOW) & (dx <= HIGH)

    blocks = torch.compile(create_block_mask)(
        near, 1, 1, size * size, size * size, device=str(device)
    )
    attend = torch.compile(flex_attention)

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (t.flatten(2).transpose(1, 2)[:, None].contiguous() for t in (query, key, value))
        return attend(q, k, v, block_mask=blocks)[:, 0].transpose(1, 2).reshape(value.shape)

    return run


def try_flex(size: int, tensors: list[Tensor]) -> tuple[Callable[..., Tensor] | None, str]:
    try:
        run = flex(size, tensors[0].device)
        with torch.no_grad():
            run(*tensors)
    except Exception as error:  # whatever torch's compiler has to say is the finding
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return None, f"does not run here: {type(error).__name__}: {first[:120]}"
    return run, "runs"


def near(expected: Any, relative: float = 1e-4) -> Callable[[Any], None]:
    def check(found: Any) -> None:
        if isinstance(expected, Tensor):
            found, expected_ = (found,), (expected,)
        else:
            expected_ = expected
        for f, e in zip(found, expected_, strict=True):
            assert (f - e).norm() < relative * e.norm()

    return check


def gradients(run: Callable[[], Tensor], leaves: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(run(), leaves, grad)


def pair_of_tables(
    size: int,
    percent: int,
    rounds: int,
    slow: int,
    device: torch.device,
    peers: dict[str, Callable[..., Tensor]],
    **notes: Any,
) -> list[Table]:
    """Forward, and forward with backward, of one mask."""
    tensors = [noise(1, c, size, size, seed=i, device=device) for i, c in enumerate((CQ, CQ, CV))]
    leaves = [t.clone().requires_grad_() for t in tensors]
    grad = noise(1, CV, size, size, seed=9, device=device)
    mask = None if percent == 100 else box(size, percent, device)
    blocked = outside(size, device)
    keep = torch.ones(1, 1, size, size, device=device) if mask is None else mask.float()

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return neighborhood_attention(q, k, v, mask, window=WINDOW)

    def unfold(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return by_unfold(q, k, v, blocked, keep)

    everyone = {"neighborhood_attention": ours, "unfold": unfold}
    for name, run in peers.items():
        everyone[name] = (
            (lambda q, k, v, run=run: run(q, k, v, blocked, keep)) if name == COMPILED
            else (lambda q, k, v, run=run: run(q, k, v) * keep)
        )  # fmt: skip
    expected = unfold(*tensors)
    expected_grads = gradients(lambda: unfold(*leaves), leaves, grad)
    forward, both = [], []
    for name, run in everyone.items():
        r = None if name == "neighborhood_attention" else slow
        forward.append(Subject(name, lambda run=run: run(*tensors), near(expected), r))
        if name != FLEX:
            both.append(Subject(name, lambda run=run: gradients(lambda: run(*leaves), leaves, grad),
                                near(expected_grads), r))  # fmt: skip
    title = f"{size}x{size}, Cq {CQ}, Cv {CV}, window {WINDOW}, mask {percent} %, float32"
    moved = (2 * CQ + 2 * CV) * size * size * 4
    tables = []
    for what, subjects in (("forward", forward), ("forward + backward", both)):
        own, their = (peak_extra(subjects[i].run) for i in (0, 1))
        tables.append(
            compare(
                f"neighborhood_attention, {what}, {title}", subjects, rounds=rounds, device=device,
                copy_bytes=moved, **{"peak extra memory": f"{own / 1e6:.1f} MB, unfold "
                f"{their / 1e6:.1f} MB ({their / own:.0f}x)"}, **notes,
            )
        )  # fmt: skip
        if device.type == "cpu":
            assert 20 * own < their or what != "forward"
    return tables


@pytest.mark.benchmark
def test_neighborhood(device, quick: bool) -> None:
    size = 48 if quick else 256
    rounds, slow = (2, 1) if quick else (21, 7)
    tensors = [noise(1, c, size, size, seed=i, device=device) for i, c in enumerate((CQ, CQ, CV))]
    peers: dict[str, Callable[..., Tensor]] = {}
    note = "not asked for by --quick"
    if not quick:
        peers[COMPILED] = torch.compile(by_unfold)
        run, note = try_flex(size, tensors)
        if run is not None:
            peers[FLEX] = run
    tables = []
    for percent in (100, 20):
        tables += pair_of_tables(size, percent, rounds, slow, device, peers, FlexAttention=note)
    publish("attention-neighborhood", tables, device, keep=not quick)
    if quick or device.type != "cpu":
        return
    for table, bar in zip(tables, (12, 8, 40, 20), strict=True):
        assert table.ratio("unfold") >= bar, table.title
        assert table.ratio(COMPILED) >= 3, table.title
        if FLEX in peers and "backward" not in table.title:
            assert table.ratio(FLEX) >= 3, table.title


@pytest.mark.benchmark
def test_windows(device, quick: bool) -> None:
    """How time grows with the window."""
    size = 48 if quick else 256
    tensors = [noise(1, c, size, size, seed=i, device=device) for i, c in enumerate((CQ, CQ, CV))]
    subjects = [
        Subject(f"window {w}", lambda w=w: neighborhood_attention(*tensors, window=w))
        for w in (4, 1, 3, 7, 15)
    ]
    table = compare(f"neighborhood_attention, {size}x{size}, forward", subjects,
                    rounds=1 if quick else 7, device=device)  # fmt: skip
    publish("attention-windows", [table], device, keep=not quick)


@pytest.mark.benchmark
def test_nonlocal(device, quick: bool) -> None:
    """Beside boolean indexing and torch's own attention, forward and with gradients."""
    size, rounds, slow = (24, 1, 1) if quick else (128, 7, 3)
    tensors = [noise(1, c, size, size, seed=i, device=device) for i, c in enumerate((CQ, CQ, CV))]
    leaves = [t.clone().requires_grad_() for t in tensors]
    grad = noise(1, CV, size, size, seed=9, device=device)
    mask = box(size, 20, device)
    there = ~mask

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nonlocal_attention(q, k, v, mask, there)

    def indexed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own, other = mask.flatten(), there.flatten()
        a = q.flatten(2)[:, :, own].transpose(1, 2)[:, None].contiguous()
        b, c = (t.flatten(2)[:, :, other].transpose(1, 2)[:, None].contiguous() for t in (k, v))
        found = F.scaled_dot_product_attention(a, b, c)[:, 0].transpose(1, 2)
        out = torch.zeros_like(v).flatten(2)
        out[:, :, own] = found
        return out.view_as(v)

    tables = []
    for what, function in (
        ("forward", lambda run: run(*tensors)),
        ("forward + backward", lambda run: gradients(lambda: run(*leaves), leaves, grad)),
    ):
        expected = function(indexed)
        subjects = [
            Subject("nonlocal_attention", lambda f=function: f(ours), near(expected)),
            Subject("indexing + scaled_dot_product_attention", lambda f=function: f(indexed),
                    near(expected), slow),
        ]  # fmt: skip
        memory = [f"{peak_extra(s.run) / 1e6:.1f} MB" for s in subjects]
        tables.append(
            compare(
                f"nonlocal_attention, {what}, {size}x{size}, 20 % attend to 80 %", subjects,
                rounds=rounds, device=device, **{"peak extra memory": ", ".join(memory)},
            )
        )  # fmt: skip
    publish("attention-nonlocal", tables, device, keep=not quick)


@pytest.mark.benchmark
def test_gate(device, quick: bool) -> None:
    size, rounds, slow = (48, 1, 1) if quick else (256, 15, 7)
    tensors = [noise(1, 32, size, size, seed=i, device=device) * 0.3 for i in range(3)]
    mask = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(3)).to(device)
    leaves = [t.clone().requires_grad_() for t in tensors]
    grad = noise(1, 32, size, size, seed=9, device=device)

    def eager(theta: Tensor, phi: Tensor, feature: Tensor) -> Tensor:
        gate = torch.sigmoid((theta * phi).sum(1, keepdim=True))
        return mask * feature * gate + (1 - mask) * feature

    def ours(theta: Tensor, phi: Tensor, feature: Tensor) -> Tensor:
        return similarity_gate(theta, phi, feature, mask)

    runs = {"similarity_gate": ours, "eager PyTorch": eager}
    if not quick:
        runs["torch.compile"] = torch.compile(eager)
    tables = []
    for what, function in (
        ("forward", lambda run: run(*tensors)),
        ("forward + backward", lambda run: gradients(lambda: run(*leaves), leaves, grad)),
    ):
        expected = function(eager)
        subjects = [
            Subject(name, lambda f=function, run=run: f(run), near(expected),
                    None if run is ours else slow)
            for name, run in runs.items()
        ]  # fmt: skip
        tables.append(
            compare(f"similarity_gate, {what}, {size}x{size}, 32 channels", subjects,
                    rounds=rounds, device=device, copy_bytes=2 * 32 * size * size * 4)
        )  # fmt: skip
    publish("attention-gate", tables, device, keep=not quick)

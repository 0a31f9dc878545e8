# SPDX-License-Identifier: Apache-2.0
"""The blocks of the video network beside the same blocks on the reference backend.

pytest benchmarks/test_blocks.py -s            the full measurement, results kept
pytest benchmarks/test_blocks.py -s --quick    that it works
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from common import Subject, Table, compare, publish
from torch import Tensor

from vharm import ops
from vharm.models.chen import Aggregator
from vharm.models.nonlocal_block import NonlocalBlock

CHANNELS, NEIGHBOURS, LISTS = 32, 4, 2
FAST, REFERENCE = "vharm", "reference backend"
FORWARD, BOTH = "forward", "forward + backward"


pytestmark = pytest.mark.usefixtures("two_threads")


def noise(*shape: int, seed: int, device: torch.device) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def box(size: int, percent: int, device: torch.device) -> Tensor:
    """A centred square that covers `percent` of the frame."""
    mask = torch.zeros(1, 1, size, size, device=device)
    side = round(size * (percent / 100) ** 0.5)
    first = (size - side) // 2
    mask[..., first : first + side, first : first + side] = 1
    return mask


def tables(
    title: str, fast: Callable[..., Tensor], slow: Callable[..., Tensor],
    inputs: Sequence[Tensor], parameters: Sequence[Tensor], quick: bool, device: torch.device,
) -> list[Table]:  # fmt: skip
    """Both implementations, forward and with the gradients of inputs and parameters."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    grad = noise(*fast(*inputs).shape, seed=9, device=device)

    def forward(run: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (run(*inputs),)

    def both(run: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(*leaves), [*leaves, *parameters], grad)

    found = []
    for what, function in ((FORWARD, forward), (BOTH, both)):
        expected = function(slow)

        def near(result: tuple[Tensor, ...], expected: tuple[Tensor, ...] = expected) -> None:
            # Some gradients are zero but for rounding, such as that of a bias all keys share.
            noise_floor = 1e-6 * max(wanted.norm() for wanted in expected)
            for one, wanted in zip(result, expected, strict=True):
                assert (one - wanted).norm() <= 1e-3 * wanted.norm() + noise_floor

        subjects = [
            Subject(FAST, lambda f=function: f(fast), near),
            Subject(REFERENCE, lambda f=function: f(slow), rounds=1 if quick else 3),
        ]
        name = f"{title}, {what}"
        found.append(compare(name, subjects, rounds=1 if quick else 9, device=device))
    return found


def on_reference(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def called(*arguments: Tensor) -> Tensor:
        with ops.backend("reference"):
            return run(*arguments)

    return called


@pytest.mark.benchmark
@pytest.mark.parametrize("percent", [20, 100])
def test_masked_attention_block(device, quick: bool, percent: int) -> None:
    """The nonlocal block with its 1x1 convolutions."""
    size = 32 if quick else 256
    block = NonlocalBlock(CHANNELS).to(device)
    torch.nn.init.normal_(block.g.weight, std=0.1)
    mask = box(size, percent, device)
    features = noise(1, CHANNELS, size, size, seed=0, device=device)

    def run(x: Tensor) -> Tensor:
        return block(x, mask)

    title = f"nonlocal block, {size}x{size}, {CHANNELS} channels, mask {percent} %"
    parameters = list(block.parameters())
    found = tables(title, run, on_reference(run), [features], parameters, quick, device)
    publish(f"blocks-attention-{percent}", found, device, keep=not quick)
    if not quick and device.type == "cpu":
        for table in found:
            assert table.ratio(REFERENCE) >= 5, table.title


@pytest.mark.benchmark
def test_propagation_and_aggregator(device, quick: bool) -> None:
    """Neighbours' features warped along their flow, and the foreground temporal aggregator.

    The aggregator ends in the means of past and future. The reference has it as the paper writes
    it: both embeddings, of every neighbour, each gated by itself.
    """
    size = 32 if quick else 256
    part = Aggregator(CHANNELS).to(device)
    mask = box(size, 20, device)
    neighbours = noise(NEIGHBOURS, CHANNELS, size, size, seed=0, device=device)
    current = noise(1, CHANNELS, size, size, seed=1, device=device)
    flow = 10 * noise(NEIGHBOURS, 2, 1, 1, seed=2, device=device).expand(-1, -1, size, size)

    def run(others: Tensor, own: Tensor) -> Tensor:
        warped = ops.flow_warp(others, flow, padding="border")
        return part(warped[None], own, mask, LISTS)

    def gate(warped: Tensor, own: Tensor) -> Tensor:
        return part(warped[None], own, mask, LISTS)

    def as_written(others: Tensor, own: Tensor) -> Tensor:
        return gate_as_written(ops.flow_warp(others, flow, padding="border"), own)

    def gate_as_written(warped: Tensor, own: Tensor) -> Tensor:
        embedded = part.phi(own).expand(len(warped), -1, -1, -1)
        masks = mask.expand(len(warped), -1, -1, -1)
        gated = ops.similarity_gate(part.theta(warped), embedded, warped, masks)
        return gated.unflatten(0, (1, LISTS, -1)).mean(2)

    parameters = list(part.parameters())
    title = f"{size}x{size}, {CHANNELS} channels, {NEIGHBOURS} neighbours, mask 20 %"
    both = tables(
        f"propagation and aggregator, {title}", run, on_reference(as_written),
        [neighbours, current], parameters, quick, device,
    )  # fmt: skip
    alone = tables(
        f"aggregator, {title}", gate, on_reference(gate_as_written), [neighbours, current],
        parameters, quick, device,
    )  # fmt: skip
    publish("blocks-temporal", [*both, *alone], device, keep=not quick)
    if not quick and device.type == "cpu":
        for table in (*both, *alone):
            assert table.ratio(REFERENCE) >= 5, table.title

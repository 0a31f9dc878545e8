# SPDX-License-Identifier: Apache-2.0
"""The warps' GPU backends against the reference on the same GPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vharm import ops
from vharm.ops import flow_consistency, flow_warp, temporal_loss

pytestmark = pytest.mark.gpu
BACKENDS = ("cuda", "triton")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(c: int, dtype: torch.dtype, layout: str) -> list[Tensor]:
    """Image, gradient, current frame, flow with what is not a number, mask."""
    frames = [torch.rand(2, c, 37, 300, generator=seeded(s)) for s in (1, 2, 3)]
    flow = 4 * torch.randn(2, 2, 37, 300, generator=seeded(4))
    flow[0, 0, 0, 0], flow[1, 1, 5, 6] = float("nan"), float("inf")
    mask = (torch.rand(2, 1, 37, 300, generator=seeded(5)) * 1.6 - 0.4).clamp(0, 1)
    tensors = [*(f.to(dtype) for f in frames), flow, mask]
    if layout == "NHWC":
        tensors = [t.permute(0, 2, 3, 1).contiguous() for t in tensors]
    return [t.cuda() for t in tensors]


def run(backend: str, tensors: list[Tensor], padding: str, layout: str) -> list[Tensor]:
    image, weight, current, flow, mask = tensors
    leaves = [t.clone().requires_grad_() for t in (image, flow, current)]
    with ops.backend(backend):
        out, valid = flow_warp(*leaves[:2], padding=padding, return_valid=True, layout=layout)
        grads = torch.autograd.grad(out, leaves[:2], weight)
        loss = temporal_loss(leaves[2], leaves[0], leaves[1], mask, layout=layout)
        grads += torch.autograd.grad(loss.sum(), leaves)
        agree = flow_consistency(flow, -flow, layout=layout)
    return [out.detach(), valid.float(), *grads, loss.detach(), agree.float()]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("c", [1, 3, 32])
def test_agrees_with_reference(backend: str, layout: str, padding: str, c: int) -> None:
    tensors = sample(c, torch.float32, layout)
    expected = run("reference", tensors, padding, layout)
    found = run(backend, tensors, padding, layout)
    for f, e in zip(found[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(f, e, atol=2e-5 * max(float(e.abs().max()), 1e-3), rtol=1e-4)
    assert (found[-1] != expected[-1]).sum() <= 5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8], ids=str)
def test_dtypes(backend: str, dtype: torch.dtype) -> None:
    flow = 4 * torch.randn(2, 2, 19, 300, generator=seeded(4)).cuda()
    image = torch.rand(2, 3, 19, 300, generator=seeded(1)).cuda()
    image = (image * 255).round().to(dtype) if dtype == torch.uint8 else image.to(dtype)
    results = []
    for name in ("reference", backend):
        with ops.backend(name):
            results.append(flow_warp(image, flow).float())
    tolerance = {torch.uint8: 1, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]
    assert (results[0] - results[1]).abs().max() <= tolerance


@pytest.mark.parametrize("backend", BACKENDS)
def test_atomics_are_refused_where_determinism_is_asked_for(backend: str) -> None:
    image, weight, _, flow, _ = sample(3, torch.float32, "NCHW")
    image.requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        with ops.backend(backend), pytest.raises(RuntimeError, match="deterministic"):
            torch.autograd.grad(flow_warp(image, flow), image, weight)
    finally:
        torch.use_deterministic_algorithms(False)

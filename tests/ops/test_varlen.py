# SPDX-License-Identifier: Apache-2.0
"""varlen_attention: against a loop over sequences, gradients, and the choice of what runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vharm import ops
from vharm.ops import varlen, varlen_attention

LENGTHS = [[3, 0, 5, 3], [4, 4], [7], [0], [1, 2, 3, 0], [], [6, 1, 6, 1, 2]]


def sample(lengths: list[int], device: torch.device) -> tuple[list[Tensor], Tensor]:
    generator, count = torch.Generator().manual_seed(0), sum(lengths)
    tensors = [torch.randn(count, 2, 8, generator=generator).to(device) for _ in range(3)]
    return tensors, torch.tensor([0, *lengths], device=device).cumsum(0)


def loop(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scale: float) -> Tensor:
    parts = [
        torch.einsum("hqk,khd->qhd", (torch.einsum("qhd,khd->hqk", q, k) * scale).softmax(-1), v)
        for q, k, v in zip(
            *(t.tensor_split(bounds[1:-1].cpu()) for t in (query, key, value)), strict=True
        )
    ]
    return torch.cat(parts)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("run", ["public", "reference", "compiled op", "nested"])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_is_attention_within_each_sequence(lengths, run, scale, device):
    tensors, bounds = sample(lengths, device)
    weight = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1)).to(device)
    factor, results = 8**-0.5 if scale is None else scale, []

    def chosen(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if run == "compiled op":
            return varlen._sdpa_op(q, k, v, bounds, factor)
        if run == "nested":
            return varlen._by_nested(q, k, v, bounds, max([0, *lengths]), factor)
        if run == "reference":
            with ops.backend("reference"):
                return varlen_attention(q, k, v, bounds, scale=scale)
        return varlen_attention(q, k, v, bounds, scale=scale)

    for function in (chosen, lambda q, k, v: loop(q, k, v, bounds, factor)):
        leaves = [t.clone().requires_grad_() for t in tensors]
        out = function(*leaves)
        results.append((out, *torch.autograd.grad((out * weight).sum(), leaves)))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_attention_over_everything_is_noticed(device):
    """Forgetting the bounds is another result."""
    (q, k, v), bounds = sample([3, 5], device)
    whole = F.scaled_dot_product_attention(*(t.transpose(0, 1) for t in (q, k, v)))
    found = varlen_attention(q, k, v, bounds)
    assert (found - whole.transpose(0, 1)).abs().max() > 0.1


def test_reference_passes_gradcheck():
    tensors, bounds = sample([2, 0, 3], torch.device("cpu"))
    leaves = [t.double().requires_grad_() for t in tensors]
    with ops.backend("reference"):
        assert torch.autograd.gradcheck(lambda *t: varlen_attention(*t, bounds), leaves)


def test_half(device):
    tensors, bounds = sample([2, 6], device)
    found = varlen_attention(*(t.bfloat16() for t in tensors), bounds)
    assert found.dtype == torch.bfloat16
    expected = varlen_attention(*(t.bfloat16().float() for t in tensors), bounds)
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)


def test_the_choice_is_explained():
    (row,) = [r for r in ops.explain("cpu") if r.op == "varlen_attention"]
    assert row.backend == "sdpa"
    assert "CUDA" in row.reasons["flash"]
    assert "CUDA" in row.reasons["nested"]
    (row,) = [r for r in ops.explain("cuda", torch.float32) if r.op == "varlen_attention"]
    assert (row.backend, "float16" in row.reasons["flash"]) == ("nested", True)


def test_compiles_without_graph_break(device):
    (q, _, _), bounds = sample([2, 0, 5], device)
    longest, grads = 5, []

    def step(q: Tensor, bounds: Tensor) -> Tensor:
        return varlen_attention(q, 2 * q, q.sin(), bounds, max_seqlen=longest).square().sum()

    for run in (torch.compile(step, fullgraph=True, backend="aot_eager"), step):
        leaf = q.clone().requires_grad_()
        run(leaf, bounds).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0]], ids=str)
def test_opcheck(lengths):
    tensors, bounds = sample(lengths, torch.device("cpu"))
    leaves = [t.requires_grad_() for t in tensors]
    torch.library.opcheck(torch.ops.vharm.varlen_sdpa.default, (*leaves, bounds, 0.5))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_on_a_gpu(dtype):
    tensors, bounds = sample([30, 0, 5, 64], torch.device("cuda"))
    expected = loop(*tensors, bounds, 8**-0.5)
    leaves = [t.to(dtype).requires_grad_() for t in tensors]
    found = varlen_attention(*leaves, bounds)
    tolerance = 0.03 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)
    assert all(g.isfinite().all() for g in torch.autograd.grad(found.sum(), leaves))


Q, BOUNDS = torch.zeros(5, 2, 4), torch.tensor([0, 5])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: varlen_attention(Q[0], Q, Q, BOUNDS), ValueError, r"query.*\[K, heads, D\]"),
        (lambda: varlen_attention(Q, Q[1:], Q, BOUNDS), ValueError, r"key.*\[5, 2, 4\]"),
        (lambda: varlen_attention(Q, Q, Q.half(), BOUNDS), TypeError, "value.*float32"),
        (lambda: varlen_attention(Q, Q, Q, BOUNDS + 1), ValueError, "cu_seqlens must rise"),
        (lambda: varlen_attention(Q, Q, Q, BOUNDS, max_seqlen=-1), ValueError, "max_seqlen"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()

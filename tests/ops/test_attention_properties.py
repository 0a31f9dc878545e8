# SPDX-License-Identifier: Apache-2.0
"""The attention family: properties, gradients asked for in part, registration, errors."""

from __future__ import annotations

import pytest
import torch
from attention_samples import agree, noise, selection, triple, with_gradients
from strategies import TOLERANCES, assert_close, backends, relayout
from torch import Tensor

from vharm import ops
from vharm.ops import gated_mean, neighborhood_attention, nonlocal_attention, similarity_gate
from vharm.ops._attention_native import set_positions

ALL = ["reference", *backends("neighborhood_attention")]
FAST = backends("neighborhood_attention")
NAN = float("nan")
KINDS = ("contiguous", "transposed", "strided", "offset")


# ---- properties ---------------------------------------------------------------------------------


def dense(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The attention of torch itself over all positions."""
    tokens = [t.flatten(2).transpose(1, 2) for t in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*tokens, scale=scale)
    return out.transpose(1, 2).reshape(v.shape)


@pytest.mark.parametrize("backend", ALL)
def test_a_window_over_the_whole_image_is_dense_attention(backend, device):
    q, k, v = (t.to(device) for t in triple(2, 5, 4, 6, 11))
    expected = dense(q, k, v, 0.7)
    with ops.backend(backend):
        assert_close(neighborhood_attention(q, k, v, window=23, scale=0.7), expected)
        assert_close(nonlocal_attention(q, k, v, None, None, scale=0.7), expected)


@pytest.mark.parametrize("backend", ALL)
def test_window_one_is_the_value(backend, device):
    q, k, v = (t.to(device) for t in triple(2, 3, 4, 6, 19))
    with ops.backend(backend):
        assert_close(neighborhood_attention(q, k, v, window=1), v)


@pytest.mark.parametrize("backend", ALL)
def test_heads_are_independent_and_may_be_permuted(backend, device):
    q, k, v = (t.to(device) for t in triple(1, 6, 9, 8, 21))
    everywhere = torch.ones(1, 1, 8, 21, dtype=torch.bool, device=device)
    order = [2, 0, 1]

    def permuted(t: Tensor) -> Tensor:
        return t.unflatten(1, (3, -1))[:, order].flatten(1, 2)

    for run in (
        lambda q, k, v, heads: neighborhood_attention(q, k, v, window=3, heads=heads),
        lambda q, k, v, heads: nonlocal_attention(q, k, v, everywhere, None, heads=heads),
    ):
        with ops.backend(backend):
            out = run(q, k, v, 3)
            assert_close(run(*(permuted(t) for t in (q, k, v)), 3), permuted(out))
            parts = zip(q.chunk(3, 1), k.chunk(3, 1), v.chunk(3, 1), strict=True)
            alone = [run(*part, 1) for part in parts]
        assert_close(torch.cat(alone, 1), out)


@pytest.mark.parametrize("backend", ALL)
def test_masked_positions_are_zero_and_the_others_do_not_notice(backend, device):
    tensors = [t.to(device) for t in triple(2, 4, 3, 20, 70)]
    mask = selection(2, 20, 70, 0.2).to(device)
    with ops.backend(backend):
        whole = neighborhood_attention(*tensors)
        out = neighborhood_attention(*tensors, mask)
        everything = nonlocal_attention(*tensors, None, mask)
        some = nonlocal_attention(*tensors, mask, mask)
    for masked, full in ((out, whole), (some, everything)):
        assert (masked[~mask.expand_as(masked)] == 0).all()
        assert_close(masked, full * mask)


@pytest.mark.parametrize("backend", ALL)
def test_keys_outside_the_key_mask_do_not_matter_whatever_they_hold(backend, device):
    q, k, v = (t.to(device) for t in triple(1, 4, 3, 12, 35))
    there = selection(1, 12, 35, 0.5).to(device)
    broken_k, broken_v = (torch.where(there, t, NAN) for t in (k, v))
    weight = noise(1, 3, 12, 35).to(device)
    for run in (
        lambda q, k, v: neighborhood_attention(q, k, v, key_mask=there, window=5),
        lambda q, k, v: nonlocal_attention(q, k, v, None, there),
    ):
        sound = with_gradients(backend, run, [q, k, v], weight)
        broken = with_gradients(backend, run, [q, broken_k, broken_v], weight)
        agree(broken, sound)
        assert (broken[2] * ~there == 0).all()


@pytest.mark.parametrize("backend", ALL)
def test_queries_outside_the_mask_do_not_matter_whatever_they_hold(backend, device):
    q, k, v = (t.to(device) for t in triple(1, 4, 3, 12, 35))
    mask = selection(1, 12, 35, 0.5).to(device)
    weight = noise(1, 3, 12, 35).to(device)
    for run in (
        lambda q, k, v: neighborhood_attention(q, k, v, mask, window=5),
        lambda q, k, v: nonlocal_attention(q, k, v, mask, None),
    ):
        sound = with_gradients(backend, run, [q, k, v], weight)
        broken = with_gradients(backend, run, [torch.where(mask, q, NAN), k, v], weight)
        agree(broken, sound)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("mask_too", [False, True])
def test_outside_the_mask_neighbours_pass_whatever_own_holds(backend, mask_too, device):
    w, own = noise(2, 4, 3, 12, 35, seed=1).to(device), noise(2, 3, 12, 35, seed=2).to(device)
    inside = selection(2, 12, 35, 0.5).to(device)
    inside[:, :, :4] = False  # whole spans
    mask = inside.float().requires_grad_(mask_too)
    outside = ~inside[:, None].expand_as(w)
    weight = noise(2, 4, 3, 12, 35, seed=3).to(device)

    def run(w: Tensor, own: Tensor) -> Tensor:
        return gated_mean(w, own, mask, lists=4)

    sound = with_gradients(backend, run, [w, own], weight)
    assert torch.equal(sound[0][outside], w[outside])
    assert not torch.equal(sound[0][~outside], w[~outside])
    for broken in (torch.nan, torch.inf):
        torn = torch.where(inside, own, broken)
        found = with_gradients(backend, run, [w, torn], weight)
        agree(found, sound, 0.0)
        assert torch.equal(found[1][outside], weight[outside])
        assert (found[2] * ~inside == 0).all()
    # A neighbour's own samples pass as they are, and reach nothing else.
    torn = torch.where(inside[:, None], w, torch.nan)
    out, grad_w, grad_own = with_gradients(backend, run, [torn, own], weight)
    assert torch.equal(out.isnan(), outside)
    assert torch.equal(out[~outside], sound[0][~outside])
    agree([grad_w, grad_own], sound[1:], 0.0)


@pytest.mark.parametrize("backend", ALL)
def test_lists_are_means_of_their_own_and_order_within_does_not_matter(backend, device):
    w, own = noise(1, 6, 5, 8, 21, seed=1).to(device), noise(1, 5, 8, 21, seed=2).to(device)
    mask = torch.rand(1, 1, 8, 21, generator=torch.Generator().manual_seed(3)).to(device)
    with ops.backend(backend):
        out = gated_mean(w, own, mask, lists=3)
        assert_close(gated_mean(w[:, [1, 0, 3, 2, 5, 4]], own, mask, lists=3), out)
        assert_close(gated_mean(w[:, [2, 3, 4, 5, 0, 1]], own, mask, lists=3), out.roll(-1, 1))
        for i in range(3):
            alone = gated_mean(w[:, 2 * i : 2 * i + 2], own, mask)
            assert torch.equal(alone[:, 0], out[:, i])
        assert_close(gated_mean(w, own, mask)[:, 0], out.mean(1))


@pytest.mark.parametrize("backend", ALL)
def test_without_admissible_keys_all_is_zero(backend, device):
    tensors = [t.to(device) for t in triple(2, 4, 3, 9, 20)]
    key_mask = torch.ones(2, 1, 9, 20, dtype=torch.bool, device=device)
    key_mask[:, :, :, :12] = False  # columns 0 to 10 see nothing through offsets -2 to 1
    key_mask[1] = False
    weight = noise(2, 3, 9, 20).to(device)
    out, *grads = with_gradients(
        backend, lambda q, k, v: neighborhood_attention(q, k, v, key_mask=key_mask), tensors, weight
    )
    assert (out[0, :, :, :11] == 0).all()
    assert (grads[0][0, :, :, :11] == 0).all()
    assert (out[0, :, :, 11:] != 0).all()
    assert all((t[1] == 0).all() and t.isfinite().all() for t in (out, *grads))
    results = with_gradients(
        backend, lambda q, k, v: nonlocal_attention(q, k, v, None, key_mask), tensors, weight
    )
    assert all((t[1] == 0).all() and (t[0] != 0).any() for t in results)


@pytest.mark.parametrize("backend", ALL)
def test_large_scores_do_not_overflow(backend, device):
    q, k, v = (100 * t.to(device) for t in triple(1, 8, 3, 6, 17))
    weight = noise(1, 3, 6, 17).to(device)
    for run, exact in (
        (lambda q, k, v: neighborhood_attention(q, k, v, window=40, scale=1.0), dense),
        (lambda q, k, v: nonlocal_attention(q, k, v, None, None, scale=1.0), dense),
    ):
        out = with_gradients(backend, run, [q, k, v], weight)[0]
        assert_close(out, exact(q, k, v, 1.0), atol=1e-2)


@pytest.mark.parametrize("backend", FAST)
def test_results_do_not_depend_on_threads_or_batching(backend, device):
    tensors = [t.to(device) for t in triple(2, 4, 6, 40, 70)]
    mask = selection(2, 40, 70, 0.5).to(device)
    weight = noise(2, 6, 40, 70).to(device)

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor = mask) -> Tensor:
        gate = similarity_gate(q, k, v, mask) + gated_mean(v[:, None], v.flip(1), mask)[:, 0]
        near = neighborhood_attention(q, k, v, mask)
        return near + gate + nonlocal_attention(q, k, v, mask, mask)

    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(with_gradients(backend, run, tensors, weight))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))
    for i in range(2):
        one = slice(i, i + 1)
        with ops.backend(backend):
            alone = run(*(t[one] for t in tensors), mask=mask[one])
        assert torch.equal(alone, results[0][0][one])


@pytest.mark.parametrize("needed", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)])
@pytest.mark.parametrize("backend", FAST)
def test_a_part_of_the_gradients_is_the_same_as_in_all(backend, needed, device):
    tensors = [t.to(device) for t in triple(1, 4, 6, 10, 20)]
    for run in (
        lambda q, k, v: neighborhood_attention(q, k, v),
        lambda q, k, v: nonlocal_attention(q, k, v, None, None),
        lambda q, k, v: similarity_gate(q, k, v, torch.ones(1, 1, 10, 20, device=device)),
        lambda q, k, v: gated_mean(torch.stack((q, 2 * q), 1), k, v[:, :1].sigmoid()),
    ):
        with ops.backend(backend):
            every = [t.clone().requires_grad_() for t in tensors]
            expected = torch.autograd.grad(run(*every).square().sum(), every)
            some = [t.clone().requires_grad_(bool(n)) for t, n in zip(tensors, needed, strict=True)]
            run(*some).square().sum().backward()
        for leaf, e, need in zip(some, expected, needed, strict=True):
            assert torch.equal(leaf.grad, e) if need else leaf.grad is None


def test_set_positions(device):
    mask = selection(3, 4, 5, 0.4).to(device)
    mask[1] = False
    tensor = torch.zeros(3, 2, 4, 5, device=device)
    for same in (mask, mask.to(torch.int32).to(torch.uint16), mask.float() * 0.2):
        index, count = set_positions(tensor, same)
        for n in range(3):
            expected = mask[n].flatten().nonzero().flatten()
            assert count[n] == len(expected)
            assert index[n, : len(expected)].tolist() == expected.tolist()
    index, count = set_positions(tensor, None)
    assert index[2].tolist() == list(range(20))
    assert count.tolist() == [20, 20, 20]


# ---- torch.library ------------------------------------------------------------------------------


def library_samples() -> dict[str, list[Tensor]]:
    q, k, v = triple(2, 4, 6, 5, 9)
    big = triple(2, 4, 6, 10, 18)
    return {
        "contiguous": [q, k, v],
        "transposed": [relayout(t, "transposed") for t in (q, k, v)],
        "channels_last": [t.contiguous(memory_format=torch.channels_last) for t in (q, k, v)],
        "sliced": [t[:, :, ::2, ::2] for t in big],
        "expanded": [t[:1].expand(2, -1, -1, -1) for t in (q, k, v)],
        "empty": [t[:, :, :0] for t in (q, k, v)],
    }


@pytest.mark.parametrize("sample", library_samples())
def test_opcheck(sample):
    if "cpp" not in FAST:
        pytest.skip("vharm._C is not built")
    q, k, v = (t.detach().requires_grad_() for t in library_samples()[sample])
    n, _, h, w = q.shape
    mask = selection(n, h, w, 0.6)
    vharm = torch.ops.vharm
    for case in (
        (vharm.neighborhood_attention.default, (q, k, v, mask, None, 4, 2, 0.5, "cpp")),
        (vharm.neighborhood_attention.default, (q, k, v, None, mask, 3, 1, 0.5, "cpp")),
        (vharm.nonlocal_attention.default, (q, k, v, mask, mask, 2, 0.5, "cpp")),
        (vharm.similarity_gate.default, (q, k, v, mask.float().requires_grad_(), "cpp")),
        (
            vharm.gated_mean.default,
            (
                v.detach().unflatten(1, (-1, 2)).requires_grad_(),
                q[:, :2].detach().requires_grad_(),
                mask.float().requires_grad_(),
                3,
                "cpp",
            ),
        ),
        (vharm.gated_mean.default, (v[:, None], v, mask, 1, "cpp")),
    ):
        torch.library.opcheck(*case)


def test_compiles_without_graph_break(device):
    tensors = [t.to(device) for t in triple(1, 4, 6, 5, 9)]
    mask = selection(1, 5, 9, 0.6).to(device)

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        near = neighborhood_attention(q, k, v, mask, key_mask=mask)
        far = nonlocal_attention(q, k, v, mask, None)
        mean = gated_mean(v.unflatten(1, (3, 2)), q[:, :2], mask, lists=3).flatten(1, 2)
        return (near + far + similarity_gate(q, k, v, mask) + mean).sum()

    found, expected = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    torch.compile(step, fullgraph=True, backend="aot_eager")(*found).backward()
    step(*expected).backward()
    for f, e in zip(found, expected, strict=True):
        assert_close(f.grad, e.grad)


def test_double_backward_is_refused_not_wrong():
    if "cpp" not in FAST:
        pytest.skip("vharm._C is not built")
    q, k, v = (t.requires_grad_() for t in triple(1, 2, 2, 3, 4))
    for run in (
        lambda: neighborhood_attention(q, k, v),
        lambda: nonlocal_attention(q, k, v, None, None),
        lambda: similarity_gate(q, k, v, torch.ones(1, 1, 3, 4)),
        lambda: gated_mean(v[:, None], q, torch.ones(1, 1, 3, 4)),
    ):
        with ops.backend("cpp"):
            (grad,) = torch.autograd.grad(run().square().sum(), q, create_graph=True)
        with pytest.raises(RuntimeError, match="double backward"):
            grad.sum().backward()


# ---- errors -------------------------------------------------------------------------------------

Q, V, M = torch.zeros(2, 4, 5, 6), torch.zeros(2, 6, 5, 6), torch.ones(2, 1, 5, 6)
W = torch.zeros(2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: neighborhood_attention(Q.int(), Q, V), TypeError, "query.*int32"),
        (lambda: neighborhood_attention(Q[0], Q, V), ValueError, r"query.*\[N, C, H, W\]"),
        (lambda: neighborhood_attention(Q, Q.half(), V), TypeError, "key.*float32.*float16"),
        (lambda: neighborhood_attention(Q, V, V), ValueError,
         r"key.*\[2, 4, 5, 6\].*\[2, 6, 5, 6\]"),
        (lambda: neighborhood_attention(Q, Q, V[:, :, 1:]), ValueError, r"value.*\[2, Cv, 5, 6\]"),
        (lambda: neighborhood_attention(Q, Q, V, Q), ValueError, r"mask.*\[2, 1, 5, 6\]"),
        (lambda: neighborhood_attention(Q, Q, V, key_mask=M.long()), TypeError, "key_mask.*int64"),
        (lambda: neighborhood_attention(Q, Q, V, window=0), ValueError, "window.*got 0"),
        (lambda: neighborhood_attention(Q, Q, V, window=4.0), TypeError, "window.*int.*float"),
        (lambda: neighborhood_attention(Q, Q, V, heads=4), ValueError, "value.*4 heads.*got 6"),
        (lambda: neighborhood_attention(Q, Q, V, heads=3), ValueError, "query.*3 heads.*got 4"),
        (lambda: neighborhood_attention(Q[:, :0], Q[:, :0], V), ValueError, "query.*got 0"),
        (lambda: neighborhood_attention(Q, Q, V, scale="1"), TypeError, "scale.*str"),
        (lambda: neighborhood_attention(Q, Q, V, scale=NAN), ValueError, "scale.*finite.*nan"),
        (lambda: neighborhood_attention(Q, Q, V, M.clone().requires_grad_()), ValueError,
         "mask must not require a gradient"),
        (lambda: nonlocal_attention(Q, Q, V, M.clone().requires_grad_(), M), ValueError,
         "query_mask must not require a gradient"),
        (lambda: nonlocal_attention(Q, Q[:1], V, M, M), ValueError, r"key.*\[2, 4, Hk, Wk\]"),
        (lambda: nonlocal_attention(Q, Q[:, :, 1:], V, M, M), ValueError,
         r"value.*\[2, Cv, 4, 6\]"),
        (lambda: nonlocal_attention(Q, Q[:, :, 1:], V[:, :, 1:], M, M), ValueError,
         r"key_mask.*\[2, 1, 4, 6\]"),
        (lambda: similarity_gate(Q, V, V, M), ValueError, r"phi.*\[2, 4, 5, 6\]"),
        (lambda: similarity_gate(Q, Q, V.half(), M), TypeError, "feature.*float16"),
        (lambda: similarity_gate(Q, Q, V, Q), ValueError, r"mask.*\[2, 1, 5, 6\]"),
        (lambda: similarity_gate(Q, Q, V, None), TypeError, "mask must be a torch.Tensor"),
        (lambda: gated_mean(None, Q, M), TypeError, "neighbours must be a torch.Tensor"),
        (lambda: gated_mean(Q, Q, M), ValueError, r"neighbours.*\[N, K, C, H, W\]"),
        (lambda: gated_mean(W.int(), Q, M), TypeError, "neighbours.*int32"),
        (lambda: gated_mean(W, V, M), ValueError, r"own.*\[2, 4, 5, 6\].*\[2, 6, 5, 6\]"),
        (lambda: gated_mean(W, Q.half(), M), TypeError, "own.*float32.*float16"),
        (lambda: gated_mean(W, Q, Q), ValueError, r"mask.*\[2, 1, 5, 6\]"),
        (lambda: gated_mean(W, Q, M, lists=2), ValueError, "neighbours.*2 lists.*got 3"),
        (lambda: gated_mean(W[:, :0], Q, M), ValueError, "neighbours.*1 lists.*got 0"),
        (lambda: gated_mean(W, Q, M, lists=0), ValueError, "lists.*got 0"),
        (lambda: gated_mean(W, Q, M, lists=3.0), TypeError, "lists.*int.*float"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_float64_runs_on_the_reference_alone():
    q, k, v = (t.double() for t in triple(1, 2, 2, 3, 4))
    assert neighborhood_attention(q, k, v).dtype == torch.float64
    with ops.backend("cpp"), pytest.raises(RuntimeError, match="float64|not built"):
        neighborhood_attention(q, k, v)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_gpu_agrees_with_the_reference(name, dtype):
    """All four ops with masks, two heads and their gradients; every case the kernels branch on."""
    place = torch.device("cuda")
    tensors = [t.to(place).to(dtype) for t in triple(2, 36, 40, 21, 70)]
    mask, key_mask = (selection(2, 21, 70, 0.6, seed).to(place) for seed in (1, 2))
    weight = noise(2, 40, 21, 70, seed=6).to(place)
    runs = [lambda q, k, v: nonlocal_attention(q, k, v, mask, key_mask, heads=2),
            lambda q, k, v: similarity_gate(q, k, v, mask)]  # fmt: skip
    for lists in (1, 2, 10):  # lists of ten: more gates than a thread keeps
        runs.append(lambda q, k, v, lists=lists: gated_mean(
            v.unflatten(1, (10, 4)), q[:, :4], k[:, :1].sigmoid() * mask, lists=lists
        ).mean(1).repeat(1, 10, 1, 1))  # fmt: skip
    runs += [
        lambda q, k, v, w=w: neighborhood_attention(
            q, k, v, mask, key_mask=key_mask, window=w, heads=2
        )
        for w in (1, 4, 7, 13, 22)  # in shared memory with 128, 64, 32 threads, and not
    ]
    limit = 1e-4 if dtype == torch.float32 else 4 * TOLERANCES[dtype]
    for run in runs:
        agree(*(with_gradients(n, run, tensors, weight) for n in (name, "reference")), limit)

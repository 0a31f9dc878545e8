# SPDX-License-Identifier: Apache-2.0
"""The attention family against the reference, dense attention, and values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import AWKWARD, TOLERANCES, assert_close, backends, relayout
from torch import Tensor

from vharm import ops
from vharm.ops import neighborhood_attention, nonlocal_attention, similarity_gate
from vharm.ops._attention_native import set_positions
from vharm.ops.reference import attention as reference

ALL = ["reference", *backends("neighborhood_attention")]
FAST = backends("neighborhood_attention")
NAN = float("nan")
KINDS = ("contiguous", "transposed", "strided", "offset")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def selection(n: int, h: int, w: int, share: float, seed: int = 0) -> Tensor:
    """About `share` of the positions."""
    return torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(seed)) < share


def triple(n: int, cq: int, cv: int, h: int, w: int) -> list[Tensor]:
    return [noise(n, cq, h, w, seed=1), noise(n, cq, h, w, seed=2), noise(n, cv, h, w, seed=3)]


def with_gradients(name: str, function, tensors: list[Tensor], weight: Tensor) -> list[Tensor]:
    """The result and the gradients of its weighted sum."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    with ops.backend(name):
        out = function(*leaves)
    return [out.detach(), *torch.autograd.grad((out.float() * weight).sum(), leaves)]


def agree(found: list[Tensor], expected: list[Tensor], relative: float = 1e-5) -> None:
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape
        assert f.isfinite().all()
        error = (f.double() - e.double()).abs().max() if f.numel() else torch.zeros(())
        assert error <= relative * (1 + e.double().abs().max() if e.numel() else 1)


# ---- neighborhood_attention: values known beforehand --------------------------------------------


@pytest.mark.parametrize("backend", ALL)
def test_by_hand(backend, device):
    """Query 1 and keys 0, ln 2, ln 4, ln 8 in a row of four, window 4 (offsets -2 to 1).

    At x=0 the window holds x 0 and 1: weights 1, 2 of 3; at x=2 all four: 1, 2, 4, 8 of 15; at
    x=3 x 1 to 3: 2, 4, 8 of 14.
    """
    key = torch.tensor([1.0, 2, 4, 8], device=device).log().view(1, 1, 1, 4)
    value = torch.tensor([1.0, 10, 100, 1000], device=device).view(1, 1, 1, 4)
    with ops.backend(backend):
        out = neighborhood_attention(torch.ones_like(key), key, value, window=4, scale=1.0)
    expected = [21 / 3, 421 / 7, 8421 / 15, 8420 / 14]
    assert out.flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("window", [2, 3, 4, 5, 6])
def test_the_window_reaches_where_it_should(backend, window, device):
    """Equal scores: the output is the mean of the window, as written down by loops."""
    h, w = 7, 9
    value = noise(1, 1, h, w)
    flat = torch.zeros(1, 1, h, w, device=device)
    with ops.backend(backend):
        out = neighborhood_attention(flat, flat, value.to(device), window=window).cpu()
    first, last = (-(window // 2), window - 1 - window // 2)
    if window % 2:
        assert first == -last
    for y in range(h):
        for x in range(w):
            near = [
                value[0, 0, y + dy, x + dx].item()
                for dy in range(first, last + 1)
                for dx in range(first, last + 1)
                if 0 <= y + dy < h and 0 <= x + dx < w
            ]
            assert out[0, 0, y, x].item() == pytest.approx(sum(near) / len(near), abs=1e-5)


def test_a_mirrored_window_is_another_thing(device):
    """Negative control: offsets -1..2 in place of -2..1 are far outside every tolerance."""
    q, k, v = (t.to(device) for t in triple(1, 4, 3, 9, 8))
    flip = (-1, -2)
    right = neighborhood_attention(q, k, v, window=4)
    mirrored = neighborhood_attention(*(t.flip(flip) for t in (q, k, v)), window=4).flip(flip)
    assert (right - mirrored).abs().mean() > 0.05
    odd = neighborhood_attention(q, k, v, window=5)
    same = neighborhood_attention(*(t.flip(flip) for t in (q, k, v)), window=5).flip(flip)
    assert_close(same, odd)


# ---- against the reference ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=60)
@given(data=st.data())
def test_neighborhood_agrees_with_reference(backend, device, data):
    n, heads = data.draw(st.integers(1, 2)), data.draw(st.sampled_from((1, 2, 3)))
    cq, cv = heads * data.draw(st.integers(1, 5)), heads * data.draw(st.sampled_from((1, 4, 11)))
    h, w = data.draw(st.sampled_from(AWKWARD[:8])), data.draw(st.sampled_from(AWKWARD))
    window = data.draw(st.sampled_from((1, 2, 3, 4, 5, 8)))
    dtype = data.draw(st.sampled_from((torch.float32, torch.float16, torch.bfloat16)))
    tensors = [
        relayout(t, data.draw(st.sampled_from(KINDS))).to(device).to(dtype)
        for t in triple(n, cq, cv, h, w)
    ]
    masks = []
    for seed in (4, 5):
        share = data.draw(st.sampled_from((None, 0.0, 0.3, 1.0)))
        mask = None if share is None else selection(n, h, w, share, seed).to(device)
        if mask is not None:
            kind = data.draw(st.sampled_from((torch.bool, torch.uint8, torch.uint16, dtype)))
            mask = mask.to(torch.int32).to(kind)
            mask = relayout(mask, data.draw(st.sampled_from(KINDS[:3])))
        masks.append(mask)
    scale = data.draw(st.sampled_from((None, 1.0, -0.7)))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return neighborhood_attention(
            q, k, v, masks[0], key_mask=masks[1], window=window, heads=heads, scale=scale
        )

    weight = noise(n, cv, h, w, seed=6).to(device)
    expected = with_gradients("reference", run, tensors, weight)
    found = with_gradients(backend, run, tensors, weight)
    agree(found, expected, 2e-5 if dtype == torch.float32 else 4 * TOLERANCES[dtype])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    ("h", "w", "window", "heads"), [(40, 150, 4, 1), (19, 70, 15, 2), (9, 33, 24, 1), (3, 2, 7, 1)]
)
def test_neighborhood_over_tiles_and_large_windows(backend, h, w, window, heads, device):
    """Several tiles, windows that clear the tile, and images smaller than the window."""
    tensors = [t.to(device) for t in triple(2, 4, 6, h, w)]
    mask, key_mask = (selection(2, h, w, 0.7, seed).to(device) for seed in (1, 2))
    mask[:, :, : h // 2, : w // 2] = False

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return neighborhood_attention(q, k, v, mask, key_mask=key_mask, window=window, heads=heads)

    weight = noise(2, 6, h, w, seed=6).to(device)
    agree(*(with_gradients(name, run, tensors, weight) for name in (backend, "reference")))


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=40)
@given(data=st.data())
def test_nonlocal_agrees_with_reference(backend, device, data):
    n, heads = data.draw(st.integers(1, 2)), data.draw(st.sampled_from((1, 2)))
    cq, cv = heads * data.draw(st.integers(1, 9)), heads * data.draw(st.sampled_from((1, 4, 11)))
    h, w = data.draw(st.sampled_from((1, 3, 11, 17))), data.draw(st.sampled_from((1, 7, 16)))
    hk, wk = data.draw(st.sampled_from(((h, w), (5, 4), (13, 12), (0, 3))))
    dtype = data.draw(st.sampled_from((torch.float32, torch.float16, torch.bfloat16)))
    shapes = ((n, cq, h, w), (n, cq, hk, wk), (n, cv, hk, wk))
    tensors = [
        relayout(noise(*shape, seed=i), data.draw(st.sampled_from(KINDS[:3]))).to(device).to(dtype)
        for i, shape in enumerate(shapes)
    ]
    masks = []
    for seed, size in enumerate(((h, w), (hk, wk))):
        share = data.draw(st.sampled_from((None, 0.0, 0.4, 1.0)))
        masks.append(None if share is None else selection(n, *size, share, seed).to(device))
        if n == 2 and share:
            masks[-1][1] = False  # one image without any

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nonlocal_attention(q, k, v, *masks, heads=heads)

    weight = noise(n, cv, h, w, seed=6).to(device)
    expected = with_gradients("reference", run, tensors, weight)
    found = with_gradients(backend, run, tensors, weight)
    agree(found, expected, 2e-5 if dtype == torch.float32 else 4 * TOLERANCES[dtype])


@pytest.mark.parametrize("backend", backends("similarity_gate"))
@settings(max_examples=40)
@given(data=st.data())
def test_gate_agrees_with_reference(backend, device, data):
    n, c, cf = (data.draw(st.integers(1, 5)) for _ in range(3))
    h, w = data.draw(st.sampled_from(AWKWARD)), data.draw(st.sampled_from((*AWKWARD, 530)))
    h = 3 if w == 530 else h
    dtype = data.draw(st.sampled_from((torch.float32, torch.float16, torch.bfloat16)))
    soft = torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(4)) * 1.6 - 0.3
    tensors = [noise(n, c, h, w, seed=i) for i in range(2)] + [noise(n, cf, h, w, seed=2)]
    tensors = [
        relayout(t, data.draw(st.sampled_from(KINDS))).to(device).to(dtype)
        for t in (*tensors, soft)
    ]
    weight = noise(n, cf, h, w, seed=6).to(device)
    expected = with_gradients("reference", similarity_gate, tensors, weight)
    found = with_gradients(backend, similarity_gate, tensors, weight)
    agree(found, expected, 2e-5 if dtype == torch.float32 else 4 * TOLERANCES[dtype])


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16])
def test_gate_by_hand_and_with_integer_masks(backend, dtype, device):
    """theta . phi = ln 3 gives A = 3/4."""
    theta = torch.tensor([math.log(3), 0.5]).view(1, 2, 1, 1).expand(1, 2, 1, 3).to(device)
    phi = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3).to(device)
    full = {torch.bool: 1, torch.uint8: 255, torch.uint16: 65535}[dtype]
    mask = torch.tensor([0, full, 0], dtype=torch.int32).to(dtype).view(1, 1, 1, 3).to(device)
    with ops.backend(backend):
        out = similarity_gate(theta, phi, torch.full((1, 1, 1, 3), 8.0, device=device), mask)
    assert out.flatten().tolist() == pytest.approx([8, 6, 8])


# ---- properties ---------------------------------------------------------------------------------


def dense(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """torch's own attention over all positions."""
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
            alone = [run(q[:, 2 * i : 2 * i + 2], k[:, 2 * i : 2 * i + 2], v[:, 3 * i : 3 * i + 3], 1)
                     for i in range(3)]  # fmt: skip
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
        gate = similarity_gate(q, k, v, mask)
        return neighborhood_attention(q, k, v, mask) + gate + nonlocal_attention(q, k, v, mask, mask)

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
    for given in (mask, mask.to(torch.int32).to(torch.uint16), mask.float() * 0.2):
        index, count = set_positions(tensor, given)
        for n in range(3):
            expected = mask[n].flatten().nonzero().flatten()
            assert count[n] == len(expected)
            assert index[n, : len(expected)].tolist() == expected.tolist()
    index, count = set_positions(tensor, None)
    assert index[2].tolist() == list(range(20))
    assert count.tolist() == [20, 20, 20]


# ---- references ---------------------------------------------------------------------------------


def test_references_pass_gradcheck():
    q, k, v = (t.double().requires_grad_() for t in triple(2, 2, 4, 3, 4))
    mask, key_mask = selection(2, 3, 4, 0.7, 1), selection(2, 3, 4, 0.6, 2)
    key_mask[1] = False
    assert torch.autograd.gradcheck(
        lambda q, k, v: neighborhood_attention(
            q, k, v, mask, key_mask=key_mask, window=2, heads=2, scale=0.8
        ),
        (q, k, v),
    )
    assert torch.autograd.gradcheck(
        lambda q, k, v: nonlocal_attention(q, k, v, mask, key_mask, heads=2), (q, k, v)
    )
    soft = selection(2, 3, 4, 0.5).double() * 0.5 + 0.2
    assert torch.autograd.gradcheck(similarity_gate, (q, k, v, soft.requires_grad_()))


def test_reference_offsets_are_the_kernels():
    assert [reference.offsets(w) for w in (1, 2, 3, 4, 5)] == [
        (0, 0), (-1, 0), (-1, 1), (-2, 1), (-2, 2)
    ]  # fmt: skip


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
    ):
        torch.library.opcheck(*case)


def test_compiles_without_graph_break(device):
    tensors = [t.to(device) for t in triple(1, 4, 6, 5, 9)]
    mask = selection(1, 5, 9, 0.6).to(device)

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        near = neighborhood_attention(q, k, v, mask, key_mask=mask)
        return (near + nonlocal_attention(q, k, v, mask, None) + similarity_gate(q, k, v, mask)).sum()

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
    ):
        with ops.backend("cpp"):
            (grad,) = torch.autograd.grad(run().square().sum(), q, create_graph=True)
        with pytest.raises(RuntimeError, match="double backward"):
            grad.sum().backward()


# ---- errors -------------------------------------------------------------------------------------

Q, V, M = torch.zeros(2, 4, 5, 6), torch.zeros(2, 6, 5, 6), torch.ones(2, 1, 5, 6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: neighborhood_attention(Q.int(), Q, V), TypeError, "query.*int32"),
        (lambda: neighborhood_attention(Q[0], Q, V), ValueError, r"query.*\[N, C, H, W\]"),
        (lambda: neighborhood_attention(Q, Q.half(), V), TypeError, "key.*float32.*float16"),
        (lambda: neighborhood_attention(Q, V, V), ValueError, r"key.*\[2, 4, 5, 6\].*\[2, 6, 5, 6\]"),
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
        (lambda: nonlocal_attention(Q, Q[:, :, 1:], V, M, M), ValueError, r"value.*\[2, Cv, 4, 6\]"),
        (lambda: nonlocal_attention(Q, Q[:, :, 1:], V[:, :, 1:], M, M), ValueError,
         r"key_mask.*\[2, 1, 4, 6\]"),
        (lambda: similarity_gate(Q, V, V, M), ValueError, r"phi.*\[2, 4, 5, 6\]"),
        (lambda: similarity_gate(Q, Q, V.half(), M), TypeError, "feature.*float16"),
        (lambda: similarity_gate(Q, Q, V, Q), ValueError, r"mask.*\[2, 1, 5, 6\]"),
        (lambda: similarity_gate(Q, Q, V, None), TypeError, "mask must be a torch.Tensor"),
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

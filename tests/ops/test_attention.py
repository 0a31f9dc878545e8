# SPDX-License-Identifier: Apache-2.0
"""The attention family against its references, and values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from attention_samples import agree, noise, selection, triple, with_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import AWKWARD, TOLERANCES, assert_close, backends, relayout
from torch import Tensor

from vharm import ops
from vharm.ops import gated_mean, neighborhood_attention, nonlocal_attention, similarity_gate
from vharm.ops.reference import attention as reference

ALL = ["reference", *backends("neighborhood_attention")]
FAST = backends("neighborhood_attention")
NAN = float("nan")
KINDS = ("contiguous", "transposed", "strided", "offset")


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
    """A product of ln 3 gives A = 3/4."""
    theta = torch.tensor([math.log(3), 0.5]).view(1, 2, 1, 1).expand(1, 2, 1, 3).to(device)
    phi = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3).to(device)
    full = {torch.bool: 1, torch.uint8: 255, torch.uint16: 65535}[dtype]
    mask = torch.tensor([0, full, 0], dtype=torch.int32).to(dtype).view(1, 1, 1, 3).to(device)
    with ops.backend(backend):
        out = similarity_gate(theta, phi, torch.full((1, 1, 1, 3), 8.0, device=device), mask)
    assert out.flatten().tolist() == pytest.approx([8, 6, 8])


@pytest.mark.parametrize("backend", backends("gated_mean"))
@settings(max_examples=60)
@given(data=st.data())
def test_gated_mean_agrees_with_reference(backend, device, data):
    n, c, lists, share = (data.draw(st.integers(1, most)) for most in (2, 5, 3, 3))
    c = data.draw(st.sampled_from((c, c, c, 70)))  # 70: several runs of pixels in a span
    h, w = data.draw(st.sampled_from(AWKWARD)), data.draw(st.sampled_from((*AWKWARD, 530)))
    h = 3 if w == 530 else h
    dtype = data.draw(st.sampled_from((torch.float32, torch.float16, torch.bfloat16)))
    soft = torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(4)) * 1.6 - 0.3
    soft[:, :, : h // 2] = 0  # whole spans without any
    tensors = [noise(n, lists * share, c, h, w, seed=1), 0.5 * noise(n, c, h, w, seed=2), soft]
    tensors = [relayout(t, data.draw(st.sampled_from(KINDS))).to(device).to(dtype) for t in tensors]
    if data.draw(st.booleans()):
        tensors[0] = tensors[0].transpose(1, 2).contiguous().transpose(1, 2)
    whole = data.draw(st.booleans())  # the mask's gradient too
    wanted = tensors if whole else tensors[:2]

    def run(w: Tensor, own: Tensor, mask: Tensor = tensors[2]) -> Tensor:
        return gated_mean(w, own, mask, lists=lists)

    weight = noise(n, lists, c, h, w, seed=6).to(device)
    expected = with_gradients("reference", run, wanted, weight)
    found = with_gradients(backend, run, wanted, weight)
    agree(found, expected, 2e-5 if dtype == torch.float32 else 4 * TOLERANCES[dtype])


@pytest.mark.parametrize("backend", ["reference", *backends("gated_mean")])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.float64])
def test_gated_mean_by_hand_and_with_other_masks(backend, dtype, device):
    """Products ln 3 and 0 give A = 3/4 and 1/2; the lists are (0, 1) and (2, 3)."""
    w = torch.tensor([[math.log(3), 8.0], [0, 4], [0, 12], [0, 2]], device=device)
    w = w.view(1, 4, 2, 1, 1).expand(1, 4, 2, 1, 3)
    own = torch.tensor([1.0, 0.0], device=device).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    full = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    mask = torch.tensor([0, full, 0], dtype=torch.int32).to(dtype).view(1, 1, 1, 3).to(device)
    with ops.backend(backend):
        out = gated_mean(w, own, mask, lists=2)
    assert out[0, 0, 1].flatten().tolist() == pytest.approx([6, (6 + 2) / 2, 6])
    assert out[0, 1, 1].flatten().tolist() == pytest.approx([7, (6 + 1) / 2, 7])
    assert out[0, 0, 0, 0].tolist() == pytest.approx([s * math.log(3) for s in (0.5, 0.375, 0.5)])


@pytest.mark.parametrize("backend", ["reference", *backends("gated_mean")])
def test_gated_mean_is_the_mean_of_gates(backend, device):
    """Beside `similarity_gate`, which gates one neighbour, with the same gradients."""
    w, own = noise(2, 6, 4, 9, 40, seed=1).to(device), noise(2, 4, 9, 40, seed=2).to(device)
    soft = torch.rand(2, 1, 9, 40, generator=torch.Generator().manual_seed(3)).to(device)
    soft[:, :, :3] = 0

    def apart(w: Tensor, own: Tensor, mask: Tensor) -> Tensor:
        gated = torch.stack([similarity_gate(one, own, one, mask) for one in w.unbind(1)], 1)
        return gated.unflatten(1, (2, 3)).mean(2)

    weight = noise(2, 2, 4, 9, 40, seed=6).to(device)
    expected = with_gradients("reference", apart, [w, own, soft], weight)
    found = with_gradients(backend, lambda *t: gated_mean(*t, lists=2), [w, own, soft], weight)
    agree(found, expected)


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
    stack = noise(2, 4, 2, 3, 4, seed=5).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w, own, m: gated_mean(w, own, m, lists=2), (stack, q, soft)
    )
    hard = selection(2, 3, 4, 0.5)
    assert torch.autograd.gradcheck(lambda w, own: gated_mean(w, own, hard), (stack, q))


def test_reference_offsets_are_the_kernels():
    assert [reference.offsets(w) for w in (1, 2, 3, 4, 5)] == [
        (0, 0), (-1, 0), (-1, 1), (-2, 1), (-2, 2)
    ]  # fmt: skip

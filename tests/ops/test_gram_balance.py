# SPDX-License-Identifier: Apache-2.0
"""gram and patch_balance: by hand, against plain products and differences, and their gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_close, assert_gradient_close, backends, images, natural
from torch import Tensor

from vharm import ops
from vharm.ops import gram, patch_balance

NATIVE = backends("gram")
ALL = ["reference", *NATIVE]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("channels", [1, 5, 33, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gram_is_the_transpose_times_itself(backend, channels, dtype, device):
    """Longer than one piece of the sums, and empty sequences at both ends and inside."""
    tokens = torch.randn(300, channels, generator=seeded(0)).to(dtype).to(device)
    bounds = torch.tensor([0, 0, 7, 7, 290, 300, 300], device=device, dtype=torch.int32)
    with ops.backend(backend):
        found = gram(tokens, bounds)
    assert found.shape == (6, channels, channels)
    for s, (a, b) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        part = tokens[a:b].double()
        torch.testing.assert_close(found[s].double(), part.T @ part, atol=1e-3, rtol=1e-5)
    # Elsewhere both halves are products of their own, which libraries may add up differently.
    if backend == "cpp":
        assert torch.equal(found, found.transpose(1, 2))


def test_gram_of_a_clip_is_the_sum_over_its_frames(device):
    tokens = torch.randn(20, 6, generator=seeded(1)).to(device)
    frames = gram(tokens, torch.tensor([0, 8, 13, 20], device=device))
    clip = gram(tokens, torch.tensor([0, 20], device=device))
    torch.testing.assert_close(frames.sum(0), clip[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_gram_gradient(backend, dtype, device):
    values = torch.randn(75, 37, generator=seeded(2)).to(dtype)
    weight = torch.randn(4, 37, 37, generator=seeded(3)).to(device)
    bounds, found = torch.tensor([0, 3, 3, 40, 75], device=device), []
    for name in ("reference", backend):
        tokens = values.to(device).requires_grad_()
        with ops.backend(name):
            found.append(torch.autograd.grad((gram(tokens, bounds) * weight).sum(), tokens)[0])
    assert found[1].dtype == dtype
    relative = 1e-5 if dtype == torch.float32 else 1e-3
    assert_gradient_close(found[1], found[0], "tokens", relative=relative, share=0.01)


@pytest.mark.parametrize("backend", ALL)
def test_nothing_to_sum(backend, device):
    tokens = torch.zeros(0, 4, device=device, requires_grad=True)
    with ops.backend(backend):
        found = gram(tokens, torch.tensor([0, 0], device=device))
        assert (found == 0).all()
        assert gram(tokens, torch.tensor([0], device=device)).shape == (0, 4, 4)
        assert patch_balance(torch.zeros(2, 3, 0, 5, device=device)).tolist() == [0, 0]
        (grad,) = torch.autograd.grad(found.sum(), tokens)
    assert grad.shape == (0, 4)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_balance_of_a_constant_and_of_a_step(backend, layout, device):
    """A step of 0.5 between columns 2 and 3 of one channel: 4 rows of 0.25, over 3 * 4 * 5."""
    image = torch.full((2, 3, 4, 5), 0.25)
    image[1, 1, :, 3:] = 0.75
    image = (image if layout == "NCHW" else image.permute(0, 2, 3, 1)).to(device)
    with ops.backend(backend):
        total = patch_balance(image, reduction="sum", layout=layout)
        mean = patch_balance(image, layout=layout)
    assert total.tolist() == pytest.approx([0, 1.0])
    assert mean.tolist() == pytest.approx([0, 1.0 / 60])


@pytest.mark.parametrize("backend", NATIVE)
@settings(max_examples=60)
@given(data=st.data())
def test_balance_agrees_with_reference(backend, device, data):
    layout = data.draw(st.sampled_from(("NCHW", "NHWC")))
    image = data.draw(images(layout)).to(device)
    with ops.backend("reference"):
        expected = patch_balance(image, layout=layout)
    with ops.backend(backend):
        assert_close(patch_balance(image, layout=layout), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 17), (65, 481), (3, 1000)])
def test_balance_gradient(backend, layout, size, device):
    """Across the borders of the kernels' blocks of rows and columns."""
    image = natural(2, *size, seed=1)
    weight, found = torch.tensor([1.0, -2.0], device=device), []
    for name in ("reference", backend):
        leaf = (image if layout == "NCHW" else image.permute(0, 2, 3, 1)).to(device)
        leaf.requires_grad_()
        with ops.backend(name):
            total = (patch_balance(leaf, layout=layout, reduction="sum") * weight).sum()
            found.append(torch.autograd.grad(total, leaf)[0])
    torch.testing.assert_close(found[1], found[0], atol=2e-6, rtol=1e-5)


def test_dividing_by_the_number_of_differences_is_noticed(device):
    """The other plausible mean is far outside the tolerance above."""
    image = natural(1, 9, 9, seed=1).to(device)
    total, mean = patch_balance(image, reduction="sum"), patch_balance(image)
    with pytest.raises(AssertionError):
        assert_close(total / (3 * 2 * 9 * 8), mean, atol=1e-6, rtol=1e-5)


def test_references_pass_gradcheck():
    tokens = torch.rand(7, 3, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    image = torch.rand(2, 3, 3, 4, dtype=torch.float64, generator=seeded(2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: gram(t, torch.tensor([0, 2, 2, 7])), (tokens,))
    assert torch.autograd.gradcheck(patch_balance, (image,))


@pytest.mark.parametrize("backend", NATIVE)
def test_results_do_not_depend_on_threads(backend, device):
    image, before, results = natural(2, 70, 500, seed=3).to(device), torch.get_num_threads(), []
    tokens = torch.randn(90, 40, generator=seeded(1)).to(device)
    bounds = torch.tensor([0, 33, 90], device=device)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaves = [t.clone().requires_grad_() for t in (image, tokens)]
            with ops.backend(backend):
                found = patch_balance(leaves[0]), gram(leaves[1], bounds)
                total = sum(f.square().sum() for f in found)
                results.append((*found, *torch.autograd.grad(total, leaves)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def library_samples() -> dict[str, Tensor]:
    v = natural(2, 8, 9, seed=0)
    return {
        "contiguous": v,
        "transposed": v.transpose(2, 3).contiguous().transpose(2, 3),
        "sliced": natural(2, 16, 20, seed=0)[:, :, ::2, 1:19:2],
        "expanded": natural(1, 8, 9, seed=0).expand(2, 3, 8, 9),
        "empty": v[:, :, :0],
    }


@pytest.mark.parametrize("sample", library_samples())
def test_opcheck(sample):
    if "cpp" not in NATIVE:
        pytest.skip("vharm._C is not built")
    image = library_samples()[sample].detach().requires_grad_()
    tokens = image.detach().flatten(0, 1).flatten(1).requires_grad_()
    bounds = torch.tensor([0, 2, 6], dtype=torch.int32)
    torch.library.opcheck(torch.ops.vharm.gram.default, (tokens, bounds, "cpp"))
    torch.library.opcheck(torch.ops.vharm.patch_balance.default, (image, 0.5, False, "cpp"))


def test_compiles_without_graph_break(device):
    def step(image: Tensor, bounds: Tensor) -> Tensor:
        tokens = image.flatten(0, 1).flatten(1)
        return patch_balance(image).sum() + gram(tokens, bounds).square().sum()

    image = natural(2, 8, 9, seed=0).to(device)
    bounds, grads = torch.tensor([0, 2, 6], device=device), []
    for run in (torch.compile(step, fullgraph=True, backend="aot_eager"), step):
        leaf = image.clone().requires_grad_()
        run(leaf, bounds).backward()
        grads.append(leaf.grad)
    assert_close(*grads)


TOKENS, BOUNDS = torch.zeros(5, 3), torch.tensor([0, 5])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gram(TOKENS.int(), BOUNDS), TypeError, "tokens.*int32"),
        (lambda: gram(TOKENS[0], BOUNDS), ValueError, r"tokens.*\[K, C\]"),
        (lambda: gram(TOKENS, BOUNDS.float()), TypeError, "cu_seqlens.*float32"),
        (lambda: gram(TOKENS, BOUNDS - 1), ValueError, "cu_seqlens must rise from 0 to the 5"),
        (lambda: gram(TOKENS, BOUNDS[:1]), ValueError, "cu_seqlens must rise"),
        (lambda: gram(TOKENS, torch.tensor([0, 6, 5])), ValueError, "cu_seqlens must rise"),
        (lambda: gram(TOKENS, BOUNDS[:0]), ValueError, "cu_seqlens.*at least one"),
        (lambda: patch_balance(TOKENS), ValueError, r"image.*\[N, 3, H, W\]"),
        (lambda: patch_balance(torch.zeros(1, 3, 2, 2), reduction="max"), ValueError, "reduction"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()

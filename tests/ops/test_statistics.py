# SPDX-License-Identifier: Apache-2.0
"""masked_moments against the reference, torch.cov, and values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    assert_close,
    assert_gradient_close,
    backends,
    images,
    library_samples,
    masks,
    natural,
)
from torch import Tensor

from vharm import ops
from vharm.ops import masked_moments

ALL = ["reference", *backends("masked_moments")]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("backend", ALL)
def test_by_hand(backend, device):
    """Two colours of weight 1 and 3: mean (a + 3 b)/4, covariance 3/16 (b - a)(b - a)^T."""
    image = torch.tensor([[0.2, 0.4, 0.0], [0.6, 0.4, 0.8]], device=device).T.reshape(1, 3, 1, 2)
    mask = torch.tensor([0.25, 0.75], device=device).view(1, 1, 1, 2)
    with ops.backend(backend):
        mean, covariance, weight = masked_moments(image, mask)
    assert weight.tolist() == pytest.approx([1.0])
    assert mean[0].tolist() == pytest.approx([0.5, 0.4, 0.6])
    step = torch.tensor([0.4, 0.0, 0.8])
    expected = torch.outer(step, step) * 3 / 16
    torch.testing.assert_close(covariance[0].cpu(), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("backend", ALL)
def test_without_mask_is_the_plain_covariance(backend, device):
    image = natural(2, 33, 1030, seed=1).to(device)
    with ops.backend(backend):
        mean, covariance, weight = masked_moments(image, None)
    assert (weight == 33 * 1030).all()
    for i in range(2):
        flat = image[i].flatten(1).double()
        torch.testing.assert_close(mean[i].double(), flat.mean(1), atol=1e-6, rtol=0)
        exact = torch.cov(flat, correction=0)
        torch.testing.assert_close(covariance[i].double(), exact, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", ALL)
def test_small_spread_about_a_large_mean(backend, device):
    """A one-pass sum of squares in float32 would lose this covariance altogether."""
    image = 0.9 + 1e-4 * torch.randn(1, 3, 40, 400, generator=torch.Generator().manual_seed(7))
    image = image.to(device)
    with ops.backend(backend):
        _, covariance, _ = masked_moments(image, None)
    exact = torch.cov(image[0].flatten(1).double(), correction=0)
    torch.testing.assert_close(covariance[0].double(), exact, rtol=1e-3, atol=1e-11)


@pytest.mark.parametrize("backend", backends("masked_moments"))
@settings(max_examples=60)
@given(data=st.data())
def test_agrees_with_reference(backend, device, data):
    layout = data.draw(st.sampled_from(("NCHW", "NHWC")))
    image = data.draw(images(layout)).to(device)
    mask = data.draw(masks(image, layout))
    with ops.backend("reference"):
        expected = masked_moments(image, mask, layout=layout)
    with ops.backend(backend):
        found = masked_moments(image, mask, layout=layout)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == torch.float32
        assert_close(f, e, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_empty_mask_and_empty_image_give_zeros(backend, layout, device):
    image, mask = natural(2, 5, 6, seed=1), torch.zeros(2, 1, 5, 6)
    image[0, 0, 0, 0] = NAN  # not under the mask
    if layout == "NHWC":
        image, mask = image.permute(0, 2, 3, 1), mask.permute(0, 2, 3, 1)
    image, mask = image.to(device).requires_grad_(), mask.to(device).requires_grad_()
    with ops.backend(backend):
        results = masked_moments(image, mask, layout=layout)
        grads = torch.autograd.grad(sum(r.sum() for r in results), (image, mask))
        nothing = masked_moments(natural(2, 5, 6, seed=1)[:, :, :, :0].to(device), None)
    for result, shape in zip(results, ((2, 3), (2, 3, 3), (2,)), strict=True):
        assert result.shape == shape
        assert (result == 0).all()
    assert (grads[0] == 0).all()
    assert (grads[1] == 1).all()  # the weight's own
    assert all((result == 0).all() for result in nothing)


@pytest.mark.parametrize("backend", ALL)
def test_values_that_are_not_finite_count_only_under_the_mask(backend, device):
    image, mask = natural(1, 4, 37, seed=2), torch.ones(1, 1, 4, 37)
    mask[0, 0, 1, 3] = mask[0, 0, 2, 9] = 0
    with ops.backend(backend):
        expected = masked_moments(image.to(device), mask.to(device))
        image[0, 1, 1, 3], image[0, 2, 2, 9] = NAN, INF
        found = masked_moments(image.to(device), mask.to(device))
        mask[0, 0, 1, 3] = 0.5
        poisoned = masked_moments(image.to(device), mask.to(device))
    for f, e in zip(found, expected, strict=True):
        assert torch.equal(f, e)
    assert poisoned[0][0].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("backend", backends("masked_moments"))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["soft", "none"])
def test_gradients_agree_with_autograd_through_the_reference(backend, layout, kind, device):
    generator = torch.Generator().manual_seed(3)
    image = natural(2, 19, 37, seed=3)
    mask = (torch.rand(2, 1, 19, 37, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    factors = [torch.randn(s, generator=generator).to(device) for s in ((2, 3), (2, 3, 3), (2,))]
    if layout == "NHWC":
        image, mask = image.permute(0, 2, 3, 1), mask.permute(0, 2, 3, 1)
    gradients = []
    for name in ("reference", backend):
        leaves = [t.clone().to(device).requires_grad_() for t in (image, mask)]
        leaves = leaves if kind == "soft" else leaves[:1]
        with ops.backend(name):
            results = masked_moments(*leaves, *[None] * (2 - len(leaves)), layout=layout)
            total = sum((r * f).sum() for r, f in zip(results, factors, strict=True))
            gradients.append(torch.autograd.grad(total, leaves))
    for what, expected, found in zip(("image", "mask"), *gradients, strict=False):
        assert expected.norm() > 0
        assert_gradient_close(found, expected, what, relative=1e-5, share=0.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", backends("masked_moments"))
def test_half_gradients(dtype, backend, device):
    """Arithmetic is float32: only the stored gradient is rounded."""
    values = natural(1, 5, 6, seed=4).to(dtype).to(device)
    gradients = []
    for kind in (torch.float32, dtype):
        image = values.to(kind).requires_grad_()
        with ops.backend(backend):
            mean, covariance, _ = masked_moments(image, None)
        (grad,) = torch.autograd.grad(mean.sum() + covariance.sum(), image)
        assert grad.dtype == kind
        gradients.append(grad.float())
    assert (gradients[0] - gradients[1]).norm() < 8e-3 * gradients[0].norm()


def test_reference_passes_gradcheck():
    generator = torch.Generator().manual_seed(7)
    image = torch.rand(2, 3, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.rand(2, 1, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(masked_moments, (image, mask))


@pytest.mark.parametrize("backend", backends("masked_moments"))
def test_results_do_not_depend_on_threads(backend, device):
    image, before, results = natural(2, 64, 700, seed=8).to(device), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaf = image.clone().requires_grad_()
            with ops.backend(backend):
                found = masked_moments(leaf, None)
                grad = torch.autograd.grad(found[1].sum(), leaf)
            results.append((*found, *grad))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_dividing_by_weight_less_one_is_noticed(device):
    """The other usual normalisation is outside the tolerance the tests above use."""
    image = natural(1, 9, 9, seed=1).to(device)
    _, covariance, weight = masked_moments(image, None)
    wrong = covariance * weight / (weight - 1)
    with pytest.raises(AssertionError):
        assert_close(wrong, covariance, atol=1e-5, rtol=1e-5)


# ---- torch.library ------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", library_samples())
def test_opcheck(sample):
    if "cpp" not in backends("masked_moments"):
        pytest.skip("vharm._C is not built")
    image = library_samples()[sample].detach().requires_grad_()
    n, _, h, w = image.shape
    mask = torch.full((n, 1, h, w), 0.7, requires_grad=True)
    torch.library.opcheck(torch.ops.vharm.masked_moments.default, (image, mask, False, "cpp"))


def test_compiles_without_graph_break(device):
    def step(image: Tensor) -> Tensor:
        mean, covariance, _ = masked_moments(image, None)
        return mean.sum() + covariance.sum()

    image = natural(1, 8, 9, seed=0).to(device)
    found, expected = (image.clone().requires_grad_() for _ in range(2))
    torch.compile(step, fullgraph=True, backend="aot_eager")(found).backward()
    step(expected).backward()
    assert_close(found.grad, expected.grad)


# ---- errors -------------------------------------------------------------------------------------

IMAGE = torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: masked_moments([1], None), TypeError, "image must be a torch.Tensor"),
        (lambda: masked_moments(IMAGE.int(), None), TypeError, "image.*int32"),
        (lambda: masked_moments(IMAGE[0], None), ValueError, r"image.*\[N, 3, H, W\]"),
        (lambda: masked_moments(IMAGE, IMAGE), ValueError, r"mask.*\[2, 1, 4, 5\]"),
        (lambda: masked_moments(IMAGE, IMAGE[:, :1].int()), TypeError, "mask.*int32"),
        (lambda: masked_moments(IMAGE, None, layout="CHW"), ValueError, "layout"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()

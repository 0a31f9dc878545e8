# SPDX-License-Identifier: Apache-2.0
"""masked_histogram against the reference, a matrix of shares, and values worked out by hand."""

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
from vharm.ops import masked_histogram

ALL = ["reference", *backends("masked_histogram")]
NAN, INF = float("nan"), float("inf")


def exact(image: Tensor, mask: Tensor, bins: int) -> Tensor:
    """Every value's share of every bin, in float64."""
    v, m = image.double().flatten(2).clamp(0, 1), mask.double().flatten(2)
    away = (v[..., None] * (bins - 1) - torch.arange(bins, device=v.device)).abs()
    counts = (m[..., None] * (1 - away).clamp(min=0)).sum(2)
    return counts / m.sum(2).clamp(min=1e-4)[..., None]


@pytest.mark.parametrize("backend", ALL)
def test_by_hand(backend, device):
    """Half of each neighbour in the middle, all of the last bin at 1, quarters between."""
    image = torch.full((1, 3, 2, 2), 0.5, device=device)
    image[:, 1] = 1.0
    image[:, 2] = 3.25 / 15
    image[:, 2, 0, 1] = 0
    mask = torch.tensor([[[[1.0, 0.5], [0.0, 0.5]]]], device=device)
    with ops.backend(backend):
        counts = masked_histogram(image, mask)
    expected = torch.zeros(1, 3, 16)
    expected[0, 0, [7, 8]] = 0.5
    expected[0, 1, 15] = 1
    expected[0, 2, [0, 3, 4]] = torch.tensor([0.25, 0.75 * 0.75, 0.75 * 0.25])
    torch.testing.assert_close(counts.cpu(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("bins", [2, 3, 9, 10, 16, 64])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 1030), (120, 160)])
def test_any_number_of_bins_and_values_outside(backend, bins, size, device):
    generator = torch.Generator().manual_seed(bins)
    image = 1.6 * torch.rand(2, 3, *size, generator=generator) - 0.3
    mask = torch.rand(2, 1, *size, generator=generator)
    with ops.backend(backend):
        counts = masked_histogram(image.to(device), mask.to(device), bins=bins).cpu()
    torch.testing.assert_close(counts.double(), exact(image, mask, bins), atol=1e-5, rtol=0)
    torch.testing.assert_close(counts.sum(2), torch.ones(2, 3), atol=1e-5, rtol=0)
    assert (counts >= 0).all()


@pytest.mark.parametrize("backend", backends("masked_histogram"))
@settings(max_examples=60)
@given(data=st.data())
def test_agrees_with_reference(backend, device, data):
    layout = data.draw(st.sampled_from(("NCHW", "NHWC")))
    image = data.draw(images(layout)).to(device)
    mask = data.draw(masks(image, layout))
    bins = data.draw(st.sampled_from((2, 7, 16, 33)))
    with ops.backend("reference"):
        expected = masked_histogram(image, mask, bins=bins, layout=layout)
    with ops.backend(backend):
        found = masked_histogram(image, mask, bins=bins, layout=layout)
    assert found.dtype == torch.float32
    assert_close(found, expected, atol=1e-5, rtol=0)


def test_float64_stays_float64(device):
    image = natural(1, 6, 7, seed=1).double().to(device)
    mask = torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(0)).to(device)
    found = masked_histogram(image, mask)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact(image, mask, 16), atol=1e-12, rtol=0)


@pytest.mark.parametrize("backend", backends("masked_histogram"))
def test_float64_masks(backend, device):
    image, mask = natural(1, 6, 7, seed=1).to(device), torch.rand(1, 1, 6, 7, device=device)
    with ops.backend(backend):
        found = masked_histogram(image, mask.double())
        assert torch.equal(found, masked_histogram(image, mask))


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_empty_mask_and_empty_image_give_zeros(backend, layout, device):
    image, mask = natural(2, 5, 6, seed=1), torch.zeros(2, 1, 5, 6)
    image[0, 0, 0, 0] = NAN  # not under the mask
    if layout == "NHWC":
        image, mask = image.permute(0, 2, 3, 1), mask.permute(0, 2, 3, 1)
    with ops.backend(backend):
        found = masked_histogram(image.to(device), mask.to(device), layout=layout)
        nothing = masked_histogram(natural(2, 5, 6, seed=1)[:, :, :, :0].to(device), None)
    assert found.shape == nothing.shape == (2, 3, 16)
    assert not found.any()
    assert not nothing.any()


@pytest.mark.parametrize("backend", ALL)
def test_a_trace_of_weight_is_no_histogram(backend, device):
    mask = torch.zeros(1, 1, 4, 5, device=device)
    mask[0, 0, 1, 1] = 1e-5
    with ops.backend(backend):
        found = masked_histogram(natural(1, 4, 5, seed=1).to(device), mask)
    torch.testing.assert_close(found.sum(2).cpu(), torch.full((1, 3), 0.1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", ALL)
def test_values_that_are_not_finite(backend, device):
    """Infinities are the ends; a NaN is ignored where the mask is 0, and seen elsewhere."""
    image, mask = natural(1, 4, 37, seed=2), torch.ones(1, 1, 4, 37)
    mask[0, 0, 1, 3] = 0
    image[0, 0, 2, 9], image[0, 0, 2, 10] = 1, 0
    with ops.backend(backend):
        expected = masked_histogram(image.to(device), mask.to(device))
        image[0, 1, 1, 3], image[0, 0, 2, 9], image[0, 0, 2, 10] = NAN, INF, -INF
        found = masked_histogram(image.to(device), mask.to(device))
        mask[0, 0, 1, 3] = 0.5
        poisoned = masked_histogram(image.to(device), mask.to(device))
    assert torch.equal(found, expected)
    assert poisoned[0].isnan().any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("backend", backends("masked_histogram"))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["soft", "none", "small"])
def test_gradients_agree_with_autograd_through_the_reference(backend, layout, kind, device):
    generator = torch.Generator().manual_seed(3)
    image = 1.4 * natural(2, 19, 37, seed=3) - 0.2
    mask = (torch.rand(2, 1, 19, 37, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    mask = mask * 1e-7 if kind == "small" else mask  # their sum is below the least weight
    factor = torch.randn(2, 3, 16, generator=generator).to(device)
    if layout == "NHWC":
        image, mask = image.permute(0, 2, 3, 1), mask.permute(0, 2, 3, 1)
    gradients = []
    for name in ("reference", backend):
        leaves = [t.clone().to(device).requires_grad_() for t in (image, mask)]
        leaves = leaves[:1] if kind == "none" else leaves
        with ops.backend(name):
            found = masked_histogram(*leaves, *[None] * (2 - len(leaves)), layout=layout)
            gradients.append(torch.autograd.grad((found * factor).sum(), leaves))
    for what, expected, found in zip(("image", "mask"), *gradients, strict=False):
        assert expected.norm() > 0
        assert_gradient_close(found, expected, what, relative=1e-4, share=0.0)


def test_gradient_of_the_mask_alone(device):
    """What a network's training asks for: pictures need none."""
    image = (natural(1, 5, 6, seed=4) * 255).to(torch.uint8).to(device)
    mask = torch.full((1, 1, 5, 6), 0.5, device=device, requires_grad=True)
    masked_histogram(image, mask)[0, 0, 3:].sum().backward()
    assert mask.grad.norm() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", backends("masked_histogram"))
def test_half_gradients(dtype, backend, device):
    """Arithmetic is float32: only the stored gradient is rounded."""
    values, gradients = natural(1, 5, 6, seed=4).to(dtype).to(device), []
    factor = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(1)).to(device)
    for kind in (torch.float32, dtype):
        image = values.to(kind).requires_grad_()
        with ops.backend(backend):
            (grad,) = torch.autograd.grad((masked_histogram(image, None) * factor).sum(), image)
        assert grad.dtype == kind
        gradients.append(grad.float())
    assert (gradients[0] - gradients[1]).norm() < 8e-3 * gradients[0].norm()


def test_reference_passes_gradcheck():
    generator = torch.Generator().manual_seed(7)
    image = torch.rand(2, 3, 3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.rand(2, 1, 3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(masked_histogram, (image, mask))


@pytest.mark.parametrize("backend", backends("masked_histogram"))
def test_results_do_not_depend_on_threads(backend, device):
    image, before, results = natural(2, 64, 700, seed=8).to(device), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            with ops.backend(backend):
                results.append(masked_histogram(image, None))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


# ---- torch.library ------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", library_samples())
def test_opcheck(sample):
    if "cpp" not in backends("masked_histogram"):
        pytest.skip("vharm._C is not built")
    image = library_samples()[sample].detach().requires_grad_()
    n, _, h, w = image.shape
    mask = torch.full((n, 1, h, w), 0.7, requires_grad=True)
    torch.library.opcheck(torch.ops.vharm.masked_histogram.default, (image, mask, 16, False, "cpp"))


def test_compiles_without_graph_break(device):
    def step(image: Tensor) -> Tensor:
        return masked_histogram(image, None).square().sum()

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
        (lambda: masked_histogram([1], None), TypeError, "image must be a torch.Tensor"),
        (lambda: masked_histogram(IMAGE.int(), None), TypeError, "image.*int32"),
        (lambda: masked_histogram(IMAGE[0], None), ValueError, r"image.*\[N, 3, H, W\]"),
        (lambda: masked_histogram(IMAGE, IMAGE), ValueError, r"mask.*\[2, 1, 4, 5\]"),
        (lambda: masked_histogram(IMAGE, IMAGE[:, :1].int()), TypeError, "mask.*int32"),
        (lambda: masked_histogram(IMAGE, None, layout="CHW"), ValueError, "layout"),
        (lambda: masked_histogram(IMAGE, None, bins=1), ValueError, "bins must be 2 or more"),
        (lambda: masked_histogram(IMAGE, None, bins=4.0), TypeError, "bins must be an int"),
        (lambda: masked_histogram(IMAGE, None, bins=True), TypeError, "bins.*bool"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()

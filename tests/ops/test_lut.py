# SPDX-License-Identifier: Apache-2.0
"""apply_lut and fit_lut against the reference, grid_sample, and values worked out by hand."""

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
from vharm.ops import apply_lut, fit_lut
from vharm.ops.reference.lut import identity

KINDS = ("tetrahedral", "trilinear")
ALL = ["reference", *backends("apply_lut")]
NAN, INF = float("nan"), float("inf")


def table(*shape: int, seed: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Noise that leaves [0,1] on both sides."""
    values = torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed))
    return (values * 1.6 - 0.3).to(device)


def pixel(*rgb: float, device: torch.device | str = "cpu") -> Tensor:
    return torch.tensor(rgb, device=device).view(1, 3, 1, 1)


# ---- values known beforehand --------------------------------------------------------------------

# A 2^3 table with f(r,g,b) at the corners; `lut[r, g, b]` is (10, 20, 30) times it.
CORNERS = {
    (0, 0, 0): 0.00, (0, 0, 1): 0.10, (0, 1, 0): 0.25, (0, 1, 1): 0.40,
    (1, 0, 0): 0.30, (1, 0, 1): 0.55, (1, 1, 0): 0.70, (1, 1, 1): 1.00,
}  # fmt: skip
# One colour in each tetrahedron: from black along the largest coordinate, and so on to white.
#   r > g > b  (1-.8) f000 + (.8-.5) f100 + (.5-.1) f110 + .1 f111 = .09 + .28 + .10 = .47
#   r > b > g  (1-.8) f000 + (.8-.5) f100 + (.5-.1) f101 + .1 f111 = .09 + .22 + .10 = .41
#   b > r > g  (1-.8) f000 + (.8-.5) f001 + (.5-.1) f101 + .1 f111 = .03 + .22 + .10 = .35
#   b > g > r  (1-.8) f000 + (.8-.5) f001 + (.5-.1) f011 + .1 f111 = .03 + .16 + .10 = .29
#   g > b > r  (1-.8) f000 + (.8-.5) f010 + (.5-.1) f011 + .1 f111 = .075 + .16 + .10 = .335
#   g > r > b  (1-.8) f000 + (.8-.5) f010 + (.5-.1) f110 + .1 f111 = .075 + .28 + .10 = .455
BY_HAND = {
    (0.8, 0.5, 0.1): 0.47, (0.8, 0.1, 0.5): 0.41, (0.5, 0.1, 0.8): 0.35,
    (0.1, 0.5, 0.8): 0.29, (0.1, 0.8, 0.5): 0.335, (0.5, 0.8, 0.1): 0.455,
    (0.6, 0.6, 0.6): 0.6, (0.0, 0.0, 0.0): 0.0, (1.0, 1.0, 1.0): 1.0, (1.0, 0.0, 1.0): 0.55,
}  # fmt: skip


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("colour", BY_HAND)
def test_tetrahedral_by_hand(backend, colour, device):
    lut = torch.zeros(2, 2, 2, 3)
    for (r, g, b), value in CORNERS.items():
        lut[r, g, b] = value * torch.tensor([1.0, 2.0, 3.0])
    with ops.backend(backend):
        out = apply_lut(pixel(*colour, device=device), lut.to(device))
    expected = BY_HAND[colour] * torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(out.flatten().cpu(), expected, atol=1e-6, rtol=0)


def test_trilinear_by_hand(device):
    """(.8, .5, .1): a mean over blue (.9, .1), then green (.5, .5), then red (.2, .8).

    .2 (.5 * .01 + .5 * .265) + .8 (.5 * .325 + .5 * .73) = .2 * .1375 + .8 * .5275 = .4495
    """
    lut = torch.zeros(2, 2, 2, 3, device=device)
    for (r, g, b), value in CORNERS.items():
        lut[r, g, b] = value
    out = apply_lut(pixel(0.8, 0.5, 0.1, device=device), lut, interpolation="trilinear")
    torch.testing.assert_close(out, torch.full_like(out, 0.4495), atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("size", [2, 5, 17, 33])
def test_trilinear_is_grid_sample(backend, size, device):
    image, lut = natural(1, 37, 41, seed=1).to(device), table(size, size, size, device=device)
    grid = image.permute(0, 2, 3, 1).flip(-1)[:, None] * 2 - 1  # x runs along the last axis, blue
    expected = torch.nn.functional.grid_sample(
        lut.permute(3, 0, 1, 2)[None], grid, align_corners=True
    )[:, :, 0]
    with ops.backend(backend):
        out = apply_lut(image, lut, interpolation="trilinear")
        wrong = apply_lut(image, lut.transpose(0, 2), interpolation="trilinear")
    assert_close(out, expected, atol=1e-5)
    # The classic mistake, axes b g r, is far outside the tolerance.
    assert (wrong - expected).abs().max() > 0.1


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_identity_table_changes_nothing(backend, kind, dtype, device):
    v = natural(2, 31, 47, seed=2)
    top = {torch.uint8: 255, torch.uint16: 65535}.get(dtype)
    image = (v if top is None else (v * top).round().to(torch.int32)).to(dtype).to(device)
    for size in (2, 3, 16, 17):
        lut = identity(size, v).to(device)
        with ops.backend(backend):
            out = apply_lut(image, lut, interpolation=kind)
        if top is None:
            assert (out - image).abs().max() < 3e-7
        else:
            assert torch.equal(out.to(torch.int32), image.to(torch.int32))


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("kind", KINDS)
def test_colours_outside_take_the_nearest_one_inside(backend, kind, device):
    lut = table(5, 5, 5, device=device)
    outside = torch.tensor([[-0.5, 0.3, 2.0], [1.7, -9.0, 0.6], [1e30, -1e30, 0.1]], device=device)
    image = outside.T.reshape(1, 3, 1, 3)
    with ops.backend(backend):
        out = apply_lut(image, lut, interpolation=kind)
        inside = apply_lut(image.clamp(0, 1), lut, interpolation=kind)
    assert torch.equal(out, inside)
    assert out.min() < 0 or out.max() > 1  # float results are not clamped


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("kind", KINDS)
def test_nan_takes_the_whole_pixel(backend, kind, device):
    """Whichever channel has it and however long the row; where the mask is 0 nothing happens."""
    image = natural(1, 4, 40, seed=3)
    for channel in range(3):
        image[0, channel, 1, 5 + channel] = NAN
    image[0, 1, 2, 9] = NAN
    mask = torch.ones(1, 1, 4, 40)
    mask[0, 0, 2, 9] = 0
    with ops.backend(backend):
        out = apply_lut(image.to(device), table(5, 5, 5, device=device), mask.to(device),
                        interpolation=kind).cpu()  # fmt: skip
    assert out.isnan().sum() == 10
    assert out[0, :, 1, 5:8].isnan().all()
    assert torch.equal(out[0, :, 2, 9].isnan(), image[0, :, 2, 9].isnan())


def test_greys_stay_on_the_tables_diagonal(device):
    """Why tetrahedral is the default: a table with a neutral diagonal keeps greys neutral."""
    lut = table(5, 5, 5, device=device)
    for i in range(5):
        lut[i, i, i] = i / 4
    grey = torch.linspace(0, 1, 101, device=device).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    assert (apply_lut(grey, lut) - grey).abs().max() < 1e-6
    assert (apply_lut(grey, lut, interpolation="trilinear") - grey).abs().max() > 0.05


# ---- against the reference ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", backends("apply_lut"))
@settings(max_examples=60)
@given(data=st.data())
def test_forward_agrees_with_reference(backend, device, data):
    layout = data.draw(st.sampled_from(("NCHW", "NHWC")))
    image = data.draw(images(layout)).to(device)
    mask = data.draw(masks(image, layout))
    size = data.draw(st.sampled_from((2, 3, 4, 9, 33)))
    batch = (image.shape[0],) if data.draw(st.booleans()) else ()
    lut = table(*batch, size, size, size, seed=data.draw(st.integers(0, 99)), device=device)
    if data.draw(st.booleans()):
        lut = lut.transpose(-2, -3)
    options = {
        "interpolation": data.draw(st.sampled_from(KINDS)), "layout": layout,
        "strength": data.draw(st.sampled_from((1.0, 0.5, 0.0))),
    }  # fmt: skip
    with ops.backend("reference"):
        expected = apply_lut(image, lut, mask, **options)
    with ops.backend(backend):
        out = apply_lut(image, lut, mask, **options)
    assert out.dtype == image.dtype
    assert out.shape == image.shape
    assert_close(out, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("backend", backends("apply_lut"))
@pytest.mark.parametrize("size", [2, 17, 33])
@pytest.mark.parametrize("reach", [0.0, 1.0, 1e3])
def test_bytes_are_within_one_level_nearly_everywhere_exact(backend, size, reach, device):
    """Tables are packed into 16 bits for 8-bit pictures; `reach` is how far they leave identity.

    A picture this large is what triggers the packing; the widest table is too wild for it.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 200, 301, 3), dtype=torch.uint8, generator=generator)
    image = image.to(device)
    lut = identity(size, torch.zeros(1))
    lut = (lut + reach * (torch.rand(lut.shape, generator=generator) - 0.5)).to(device)
    with ops.backend("reference"):
        expected = apply_lut(image, lut, layout="NHWC")
    with ops.backend(backend):
        out = apply_lut(image, lut, layout="NHWC")
    error = (out.int() - expected.int()).abs()
    assert error.max() <= 1
    assert (error > 0).double().mean() < (0.005 if reach else 1e-9)


@pytest.mark.parametrize("backend", backends("apply_lut"))
@pytest.mark.parametrize("broken", [NAN, INF, -INF, 3.4e38])
def test_a_broken_node_does_not_reach_others(backend, broken, device):
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=generator)
    lut = identity(5, torch.zeros(1))
    lut[4, 4, 4, 1] = broken
    far = (image < 128).any(1, keepdim=True).expand_as(image)
    with ops.backend(backend):
        out = apply_lut(image.to(device), lut.to(device)).cpu()
    assert torch.equal(out[far], image[far])


@pytest.mark.parametrize("backend", backends("apply_lut"))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_gradients_agree_with_autograd_through_the_reference(backend, kind, shared, layout, device):
    image = natural(2, 19, 37, seed=4) * 1.2 - 0.1  # some pixels outside; a grey band that ties
    weight = torch.rand(image.shape, generator=torch.Generator().manual_seed(5)).to(device)
    mask = torch.rand(2, 1, 19, 37, generator=torch.Generator().manual_seed(6)) * 1.6 - 0.3
    mask = mask.clamp(0, 1)
    if layout == "NHWC":
        image, mask, weight = (t.permute(0, 2, 3, 1) for t in (image, mask, weight))
    lut = table(*((5, 5, 5) if shared else (2, 5, 5, 5)))
    gradients = []
    for name in ("reference", backend):
        leaves = [t.clone().to(device).requires_grad_() for t in (image, lut, mask)]
        with ops.backend(name):
            out = apply_lut(*leaves, interpolation=kind, layout=layout, strength=0.8)
            gradients.append(torch.autograd.grad((out * weight).sum(), leaves))
    for what, expected, found in zip(("image", "lut", "mask"), *gradients, strict=True):
        assert expected.norm() > 0
        assert_gradient_close(found, expected, what, relative=1e-5, share=0.0)


def test_gradient_stops_outside_and_passes_at_the_ends(device):
    image = torch.tensor([-0.2, 0.0, 1.0, 1.3], device=device).view(1, 1, 1, 4).repeat(1, 3, 1, 1)
    image.requires_grad_()
    (grad,) = torch.autograd.grad(
        apply_lut(image, 2 * identity(3, torch.zeros(1)).to(device)).sum(), image
    )
    assert grad[0, 0, 0].tolist() == pytest.approx([0, 2, 2, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_reference_passes_gradcheck(kind):
    generator = torch.Generator().manual_seed(7)
    image = torch.rand(2, 3, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.rand(2, 1, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    lut = torch.rand(2, 3, 3, 3, 3, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda i, t, m: apply_lut(i, t, m, interpolation=kind, strength=0.9), (image, lut, mask)
    )


# ---- fit_lut ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", backends("fit_lut"))
@settings(max_examples=40)
@given(data=st.data())
def test_fit_agrees_with_reference(backend, device, data):
    layout = data.draw(st.sampled_from(("NCHW", "NHWC")))
    source = data.draw(images(layout)).to(device)
    mask = data.draw(masks(source, layout))
    target = source.flip(0)
    size = data.draw(st.sampled_from((2, 3, 9)))
    offset = data.draw(st.booleans())
    results = []
    for name in ("reference", backend):
        with ops.backend(name):
            results.append(fit_lut(source, target, mask, size, layout=layout, offset=offset))
    (expected, weight), (lut, found) = results
    assert lut.dtype == torch.float32
    assert_close(found, weight, atol=1e-5, rtol=1e-4)
    assert torch.equal(found > 0, weight > 0)
    assert_close(lut, expected, atol=1e-4, rtol=0, share=0.01)
    assert lut.isfinite().all()


@pytest.mark.parametrize("backend", ALL)
def test_fit_by_hand(backend, device):
    """Two pixels in 3 nodes: red halfway to node 1, weight 1, and red at node 1, weight .5."""
    source = torch.tensor([[0.25, 0, 0], [0.5, 0, 0]], device=device).T.reshape(1, 3, 1, 2)
    target = torch.tensor([[0.2, 0.4, 0.6], [0.8, 0.4, 0]], device=device).T.reshape(1, 3, 1, 2)
    mask = torch.tensor([1.0, 0.5], device=device).view(1, 1, 1, 2)
    with ops.backend(backend):
        lut, weight = fit_lut(source, target, mask, 3)
    assert weight.sum().item() == pytest.approx(1.5)
    assert weight[0, 0, 0, 0].item() == pytest.approx(0.5)
    assert weight[0, 1, 0, 0].item() == pytest.approx(1.0)
    assert lut[0, 0, 0, 0].tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert lut[0, 1, 0, 0].tolist() == pytest.approx([0.5, 0.4, 0.3])  # half of each


@pytest.mark.parametrize("backend", ALL)
def test_fit_without_data_is_the_identity(backend, device):
    image = natural(2, 5, 6, seed=0).to(device)
    for mask in (torch.zeros(2, 1, 5, 6, device=device), torch.full((2, 1, 5, 6), 0.0).to(device)):
        with ops.backend(backend):
            lut, weight = fit_lut(image, image.flip(0), mask, 9)
        assert (weight == 0).all()
        assert torch.equal(lut[0], identity(9, lut))
    nothing = image[:, :, :0]
    with ops.backend(backend):
        lut, weight = fit_lut(nothing, nothing, None, 4)
    assert lut.shape == (2, 4, 4, 4, 3)
    assert torch.equal(lut[1], identity(4, lut))


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("size", [2, 7, 33])
def test_constant_change_reaches_every_node(backend, size, device):
    """With offsets a constant change is met exactly, at nodes far from all data too."""
    source = 0.3 + 0.3 * natural(1, 24, 24, seed=1).to(device)
    change = torch.tensor([0.1, -0.05, 0.2], device=device)
    with ops.backend(backend):
        lut, weight = fit_lut(source, source + change.view(1, 3, 1, 1), None, size, offset=True)
    assert size == 2 or (weight == 0).any()
    expected = identity(size, lut) + change
    assert (lut[0] - expected).abs().max() < 1e-5


def test_filled_nodes_are_smooth_and_known_ones_kept(device):
    """Across the border of the data the change moves no faster than the data themselves do."""
    source = 0.25 + 0.5 * torch.rand(1, 3, 200, 200, generator=torch.Generator().manual_seed(2))
    source = source.to(device)
    target = source + 0.2 * (source - 0.5)
    lut, weight = fit_lut(source, target, None, 17, offset=True)
    change = lut[0] - identity(17, lut)
    steps = torch.cat([change.diff(dim=d).abs().flatten() for d in range(3)])
    assert change.abs().max() < 0.06  # the data's own largest change is 0.05
    assert steps.max() < 0.05
    known = weight[0] > 1
    inside = identity(17, lut)[known]
    assert (change[known] - 0.2 * (inside - 0.5)).abs().max() < 0.015


@pytest.mark.parametrize("backend", ALL)
def test_fit_then_apply_gives_the_target(backend, device):
    source = natural(1, 60, 80, seed=5).to(device)
    grade = identity(9, torch.zeros(1)) ** 1.3 * 0.9 + 0.05
    with ops.backend(backend):
        target = apply_lut(source, grade.to(device))
        lut, _ = fit_lut(source, target, None, 33, offset=True)
        again = apply_lut(source, lut[0])
        plain, _ = fit_lut(source, target, None, 33)
        by_plain = apply_lut(source, plain)
    error = (again - target).abs().mean()
    assert error < 2e-3
    assert error < 0.5 * (by_plain - target).abs().mean()  # what offsets are for


@pytest.mark.parametrize("backend", ALL)
def test_what_is_not_finite_is_left_out(backend, device):
    source, target = natural(1, 6, 7, seed=1), natural(1, 6, 7, seed=2)
    mask = torch.ones(1, 1, 6, 7)
    sound = mask.clone()
    sound[0, 0, 1, 2] = sound[0, 0, 3, 4] = 0
    with ops.backend(backend):
        expected = fit_lut(source.to(device), target.to(device), sound.to(device), 4)
        source[0, 1, 1, 2], target[0, 2, 3, 4] = NAN, INF
        found = fit_lut(source.to(device), target.to(device), mask.to(device), 4)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e)


# ---- properties ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
def test_pixels_without_mask_are_untouched_bit_for_bit(backend, kind, dtype, device):
    generator = torch.Generator().manual_seed(0)
    if dtype in (torch.uint8, torch.uint16):
        top = 256 if dtype == torch.uint8 else 65536
        image = torch.randint(0, top, (2, 3, 13, 31), generator=generator, dtype=torch.int32)
        image = image.to(dtype).to(device)
    else:
        image = (torch.randn(2, 3, 13, 31, generator=generator) * 3).to(dtype).to(device)
        image[0, 0, 0, 0], image[0, 1, 0, 1] = NAN, INF
    mask = torch.zeros(2, 1, 13, 31, device=device)
    mask[:, :, 4:9, 7:20] = 1
    mask[:, :, 9, 3] = 0.01
    with ops.backend(backend):
        out = apply_lut(image, table(4, 4, 4, device=device), mask, interpolation=kind)
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[image.element_size()]
    same = (out.view(bits) == image.view(bits)).all(1, keepdim=True)
    assert same[mask == 0].all()
    assert not same[mask == 1].all()


@pytest.mark.parametrize("backend", backends("apply_lut"))
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_threads_or_batching(backend, kind, device):
    image = natural(3, 64, 700, seed=8).to(device)
    lut, before, results = table(9, 9, 9, device=device), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaves = [image.clone().requires_grad_(), lut.clone().requires_grad_()]
            with ops.backend(backend):
                out = apply_lut(*leaves, interpolation=kind)
                grads = torch.autograd.grad((out * image).sum(), leaves)
                fitted = fit_lut(image, image.flip(0), None, 9)
            results.append((out.detach(), *grads, *fitted))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))
    with ops.backend(backend):
        alone = [apply_lut(image[i : i + 1], lut, interpolation=kind) for i in range(3)]
    assert torch.equal(torch.cat(alone), results[0][0])


# ---- torch.library ------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", library_samples())
def test_opcheck(sample):
    if "cpp" not in backends("apply_lut"):
        pytest.skip("vharm._C is not built")
    image = library_samples()[sample].detach().requires_grad_()
    n, _, h, w = image.shape
    mask = torch.full((n, 1, h, w), 0.7, requires_grad=True)
    vharm = torch.ops.vharm
    for batch, kind in ((1, 0), (n, 1)):
        lut = table(batch, 3, 3, 3).requires_grad_()
        torch.library.opcheck(vharm.apply_lut.default, (image, lut, mask, kind, 0.9, False, "cpp"))
    still = image.detach()
    torch.library.opcheck(
        vharm.lut_splat.default, (still, still, mask.detach(), 4, True, False, "cpp")
    )


def test_compiles_without_graph_break(device):
    image, lut = natural(1, 8, 9, seed=0).to(device), table(4, 4, 4, device=device)

    def step(image: Tensor, lut: Tensor) -> Tensor:
        with torch.no_grad():
            fitted, _ = fit_lut(image, image.flip(3), None, 4)
        return (apply_lut(image, lut) * apply_lut(image, fitted)).mean()

    found, expected = (lut.clone().requires_grad_() for _ in range(2))
    torch.compile(step, fullgraph=True, backend="aot_eager")(image, found).backward()
    step(image, expected).backward()
    assert_close(found.grad, expected.grad)


def test_double_backward_is_refused_not_wrong():
    if "cpp" not in backends("apply_lut"):
        pytest.skip("vharm._C is not built")
    lut = table(3, 3, 3).requires_grad_()
    with ops.backend("cpp"):
        out = apply_lut(natural(1, 8, 9, seed=0), lut)
    (grad,) = torch.autograd.grad((out**2).sum(), lut, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        grad.sum().backward()


# ---- errors -------------------------------------------------------------------------------------

IMAGE, LUT, MASK = torch.zeros(2, 3, 4, 5), torch.zeros(3, 3, 3, 3), torch.zeros(2, 1, 4, 5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: apply_lut(IMAGE.int(), LUT), TypeError, "image.*int32"),
        (lambda: apply_lut(IMAGE[0], LUT), ValueError, r"image.*\[N, 3, H, W\]"),
        (lambda: apply_lut(IMAGE, LUT.int()), TypeError, "lut.*int32"),
        (lambda: apply_lut(IMAGE, LUT[:2]), ValueError, r"lut.*\[S, S, S, 3\].*got \[2, 3, 3, 3\]"),
        (lambda: apply_lut(IMAGE, LUT[None]), ValueError, r"lut.*\[2, S, S, S, 3\]"),
        (lambda: apply_lut(IMAGE, LUT[:1, :1, :1]), ValueError, "lut.*2 to 129.*got 1"),
        (lambda: apply_lut(IMAGE, torch.empty(1).expand(130, 130, 130, 3)), ValueError, "got 130"),
        (lambda: apply_lut(IMAGE, LUT.permute(3, 0, 1, 2).flatten()), ValueError, r"got \[81\]"),
        (lambda: apply_lut(IMAGE, LUT, IMAGE), ValueError, r"mask.*\[2, 1, 4, 5\]"),
        (lambda: apply_lut(IMAGE, LUT, interpolation="cubic"), ValueError, "interpolation.*cubic"),
        (lambda: apply_lut(IMAGE, LUT, layout="HWC"), ValueError, "layout"),
        (lambda: apply_lut(IMAGE, LUT, strength=2), ValueError, "strength.*2"),
        (lambda: fit_lut(IMAGE, IMAGE.half(), MASK), TypeError, "target.*float32.*float16"),
        (lambda: fit_lut(IMAGE, IMAGE[:1], MASK), ValueError, r"target.*\[2, 3, 4, 5\]"),
        (lambda: fit_lut(IMAGE[0], IMAGE, MASK), ValueError, "source"),
        (lambda: fit_lut(IMAGE, IMAGE, IMAGE), ValueError, "mask"),
        (lambda: fit_lut(IMAGE, IMAGE, MASK, 1), ValueError, "size.*2 to 129.*got 1"),
        (lambda: fit_lut(IMAGE, IMAGE, MASK, 9.0), TypeError, "size.*int.*float"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("backend", backends("fit_lut"))
def test_fit_refuses_gradients_where_it_has_none(backend):
    image = IMAGE.clone().requires_grad_()
    with ops.backend(backend):
        with pytest.raises(ValueError, match="target must not require a gradient"):
            fit_lut(IMAGE, image, MASK, 3)
        with torch.no_grad():
            fit_lut(IMAGE, image, MASK, 3)
    with ops.backend("reference"):
        fit_lut(IMAGE, image, torch.ones_like(MASK), 3)[0].sum().backward()
    assert image.grad.abs().sum() > 0

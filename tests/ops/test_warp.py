# SPDX-License-Identifier: Apache-2.0
"""flow_warp, temporal_loss and flow_consistency against the reference, grid_sample and slicing."""

from __future__ import annotations

import pytest
import torch
from flows import (
    DTYPES,
    INF,
    MOTIONS,
    NAN,
    SIZES,
    by_grid_sample,
    motion,
    picture,
    relaid,
    seeded,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_close, assert_gradient_close, backends, poison, relayout
from torch import Tensor

from vharm import ops
from vharm.ops import _warp_library, flow_consistency, flow_warp, temporal_loss

ALL = ["reference", *backends("flow_warp")]
FAST = backends("flow_warp")
# ---- against grid_sample and slicing -------------------------------------------------------------


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("kind", ["constant", "smooth", "outward", "noise"])
def test_is_grid_sample(backend, padding, kind):
    image = picture(2, 3, 37, 53, seed=1).double()
    flow = motion(kind, 2, 37, 53) if kind != "noise" else 9 * torch.randn(2, 2, 37, 53)
    expected = by_grid_sample(image, flow.double(), padding).float()
    with ops.backend(backend):
        out = flow_warp(image.float(), flow, padding=padding)
        swapped = flow_warp(image.float(), flow.flip(1), padding=padding)
        other_way = flow_warp(image.float(), -flow, padding=padding)
    assert (out - expected).abs().max() < 5e-6
    # The classic mistakes: dx and dy exchanged, and the flow's direction.
    assert (swapped - expected).abs().max() > 0.1
    assert (other_way - expected).abs().max() > 0.1


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_gradients_are_grid_samples(backend, padding):
    image = picture(2, 3, 19, 41, seed=1).double()
    # No sample on an edge or a whole coordinate, where the slope is a matter of convention.
    flow = (4 * torch.randn(2, 2, 19, 41, generator=seeded(1))).floor() + 0.3
    weight = torch.randn(image.shape, generator=seeded(2))
    leaves = [image.clone().requires_grad_(), flow.double().requires_grad_()]
    expected = torch.autograd.grad(by_grid_sample(*leaves, padding), leaves, weight.double())
    leaves = [image.float().requires_grad_(), flow.clone().requires_grad_()]
    with ops.backend(backend):
        found = torch.autograd.grad(flow_warp(*leaves, padding=padding), leaves, weight)
    for f, e, what in zip(found, expected, ("image", "flow"), strict=True):
        assert_gradient_close(f, e, what, relative=1e-5, share=0)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_flow_is_the_identity_bit_for_bit(backend, layout, dtype):
    image, flow = relaid(layout, picture(2, 3, 13, 37, dtype), motion("zero", 2, 13, 37))
    with ops.backend(backend):
        for padding in ("zeros", "border"):
            out, valid = flow_warp(image, flow, padding=padding, return_valid=True, layout=layout)
            assert torch.equal(out, image)
            assert valid.all()


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("shift", [(2, 0), (-3, 1), (0, -5), (40, 0), (0, 20)])
def test_whole_shifts_are_slicing(backend, shift):
    dx, dy = shift
    h, w = 13, 37
    image = picture(1, 3, h, w)
    flow = torch.tensor([dx, dy]).float().view(1, 2, 1, 1).expand(1, 2, h, w)
    ys, xs = torch.arange(h) + dy, torch.arange(w) + dx
    inside = ((ys >= 0) & (ys < h))[:, None] & ((xs >= 0) & (xs < w))[None]
    near = image[:, :, ys.clamp(0, h - 1)][..., xs.clamp(0, w - 1)]
    with ops.backend(backend):
        border, valid = flow_warp(image, flow, padding="border", return_valid=True)
        zeros = flow_warp(image, flow)
    assert torch.equal(border, near)
    assert torch.equal(zeros, torch.where(inside, near, 0))
    assert torch.equal(valid[0, 0], inside)


@pytest.mark.parametrize("backend", ALL)
def test_two_shifts_in_a_row_are_one(backend):
    """Bilinear weights on a plane that is linear in x and y: exact whatever the displacement."""
    y, x = torch.meshgrid(torch.arange(23.0), torch.arange(41.0), indexing="ij")
    image = (0.02 * x + 0.01 * y)[None, None]
    first, second = torch.tensor([1.25, -0.5]), torch.tensor([0.5, 1.75])

    def warp(image: Tensor, by: Tensor) -> Tensor:
        with ops.backend(backend):
            return flow_warp(image, by.view(1, 2, 1, 1).repeat(1, 1, 23, 41))

    twice, once = warp(warp(image, first), second), warp(image, first + second)
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    torch.testing.assert_close(twice[inner], once[inner], atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_what_is_not_a_number_lies_outside(backend, layout):
    """A NaN counts as minus infinity: zero and invalid, or the edge pixel on the left or above."""
    image = picture(1, 3, 5, 40) + 1
    flow = torch.zeros(1, 2, 5, 40)
    flow[0, 0, 2, 7], flow[0, 1, 3, 20], flow[0, 0, 1, 30] = NAN, -INF, INF
    places = ((2, 7, 2, 0), (3, 20, 0, 20), (1, 30, 1, 39))
    frame, field = relaid(layout, image, flow)
    with ops.backend(backend):
        zeros, valid = flow_warp(frame, field, return_valid=True, layout=layout)
        border = flow_warp(frame, field, padding="border", layout=layout)
    if layout == "NHWC":
        zeros, valid, border = (t.permute(0, 3, 1, 2) for t in (zeros, valid, border))
    assert (~valid).sum() == 3
    assert (zeros == 0).sum() == 9
    for y, x, from_y, from_x in places:
        assert not valid[0, 0, y, x]
        assert (zeros[0, :, y, x] == 0).all()
        assert torch.equal(border[0, :, y, x], image[0, :, from_y, from_x])


@pytest.mark.parametrize("backend", ALL)
def test_valid_holds_the_edges_and_nothing_beyond(backend):
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0] = torch.tensor([0.0, -1.0, 1.0, 0.001])
    with ops.backend(backend):
        _, valid = flow_warp(torch.ones(1, 1, 1, 4), flow, return_valid=True)
        flow[0, 0, 0] = torch.tensor([-0.001, 2.0, 1.5, 0.0])
        _, other = flow_warp(torch.ones(1, 1, 1, 4), flow, return_valid=True)
    assert valid[0, 0, 0].tolist() == [True, True, True, False]
    assert other[0, 0, 0].tolist() == [False, True, False, True]


# ---- against the reference ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=80)
@given(data=st.data())
def test_forward_agrees_with_reference(backend, data):
    n, c = data.draw(st.integers(1, 2)), data.draw(st.sampled_from((1, 2, 3, 4, 32, 37, 70)))
    h, w = data.draw(st.sampled_from(SIZES)), data.draw(st.sampled_from((*SIZES, 530)))
    layout = data.draw(st.sampled_from(("NCHW", "NHWC")))
    dtype = data.draw(st.sampled_from(DTYPES))
    flow = motion(data.draw(st.sampled_from(MOTIONS)), n, h, w, seed=data.draw(st.integers(0, 9)))
    image, flow = relaid(layout, picture(n, c, h, w), flow)
    strides = data.draw(st.sampled_from(("contiguous", "transposed", "strided", "offset")))
    image = relayout(image, strides)
    if not dtype.is_floating_point:
        image = (image * (255 if dtype == torch.uint8 else 65535)).round().to(torch.int32)
    image = image.to(dtype)
    flow = relayout(flow, data.draw(st.sampled_from(("contiguous", "transposed", "strided"))))
    options = {"padding": data.draw(st.sampled_from(("zeros", "border"))), "layout": layout}
    with ops.backend("reference"):
        expected, where = flow_warp(image, flow, return_valid=True, **options)
    with ops.backend(backend):
        out, valid = flow_warp(image, flow, return_valid=True, **options)
        alone = flow_warp(image, flow, **options)
    assert out.dtype == dtype
    assert torch.equal(valid, where)
    assert_close(out, expected, atol=2e-6, rtol=1e-6)
    assert torch.equal(alone, out)


def gradients(backend, image, flow, weight, **options):
    leaves = [image.clone().requires_grad_(), flow.clone().requires_grad_()]
    with ops.backend(backend):
        return torch.autograd.grad(flow_warp(*leaves, **options), leaves, weight)


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=60)
@given(data=st.data())
def test_gradients_agree_with_reference(backend, data):
    n, c = data.draw(st.integers(1, 2)), data.draw(st.sampled_from((1, 2, 3, 4, 5, 37, 70)))
    h, w = data.draw(st.sampled_from(SIZES)), data.draw(st.sampled_from((*SIZES, 530)))
    layout = data.draw(st.sampled_from(("NCHW", "NHWC")))
    dtype = data.draw(st.sampled_from((torch.float32, torch.float32, torch.float16)))
    flow = motion(data.draw(st.sampled_from(MOTIONS)), n, h, w, seed=data.draw(st.integers(0, 9)))
    image, weight = picture(n, c, h, w), torch.randn(n, c, h, w, generator=seeded(3))
    image, weight, flow = relaid(layout, image.to(dtype), weight.to(dtype), flow)
    weight = relayout(weight, data.draw(st.sampled_from(("contiguous", "transposed"))))
    options = {"padding": data.draw(st.sampled_from(("zeros", "border"))), "layout": layout}
    expected = gradients("reference", image, flow, weight, **options)
    found = gradients(backend, image, flow, weight, **options)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype
        scale = max(float(e.abs().max()), 1.0)
        assert_close(f.float(), e.float(), atol=(2e-6 if dtype == torch.float32 else 2e-3) * scale)


@pytest.mark.parametrize("backend", FAST)
def test_adding_up_the_images_gradient(backend):
    """Inside the frame every pixel's gradient is only shared out: sums are kept."""
    image, weight = picture(1, 3, 40, 90), torch.rand(1, 3, 40, 90, generator=seeded(1))
    flow = motion("smooth", 1, 40, 90)
    with ops.backend(backend):
        for padding in ("zeros", "border"):
            leaf = image.clone().requires_grad_()
            out, valid = flow_warp(leaf, flow, padding=padding, return_valid=True)
            kept = weight * valid if padding == "zeros" else weight
            (grad,) = torch.autograd.grad(out, leaf, kept)
            torch.testing.assert_close(grad.sum((2, 3)), kept.sum((2, 3)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("kind", ["smooth", "wild", "outward"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_results_do_not_depend_on_threads_or_batching(backend, kind, layout):
    image, weight = picture(2, 3, 70, 130), torch.randn(2, 3, 70, 130, generator=seeded(3))
    image, weight, flow = relaid(layout, image, weight, motion(kind, 2, 70, 130))
    mask = relaid(layout, torch.rand(2, 1, 70, 130, generator=seeded(4)))[0]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            leaves = [image.clone().requires_grad_(), flow.clone().requires_grad_()]
            with ops.backend(backend):
                loss = temporal_loss(weight, *leaves, mask, layout=layout)
                results.append(
                    (
                        *gradients(backend, image, flow, weight, layout=layout),
                        loss.detach(),
                        *torch.autograd.grad(loss.sum(), leaves),
                    )
                )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))
    alone = gradients(backend, image[:1], flow[:1], weight[:1], layout=layout)
    assert torch.equal(alone[0][0], results[0][0][0])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_place_of_every_output_is_written(backend, layout, monkeypatch):
    plain = torch.Tensor.new_empty

    def poisoned(self: Tensor, *size, **options) -> Tensor:
        out = plain(self, *size, **options)
        return out.fill_(True) if out.dtype == torch.bool else poison(out)

    image, flow, weight = relaid(
        layout, picture(1, 3, 17, 35), motion("wild", 1, 17, 35), picture(1, 3, 17, 35, seed=3)
    )
    mask = relaid(layout, torch.zeros(1, 1, 17, 35))[0]
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    leaves = [t.clone().requires_grad_() for t in (weight, image, flow)]
    with ops.backend(backend):
        out, valid = flow_warp(leaves[1], leaves[2], return_valid=True, layout=layout)
        grads = torch.autograd.grad(out, leaves[1:], weight)
        loss = temporal_loss(*leaves, mask, layout=layout)
        grads += torch.autograd.grad(loss.sum(), leaves)
        agree = flow_consistency(flow, flow, layout=layout)
    assert not valid.all()
    assert not agree.all()
    assert all(t.isfinite().all() for t in (out, loss, *grads))


# ---- reference, torch.library -------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_reference_passes_gradcheck(padding):
    image = torch.rand(1, 2, 4, 5, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    flow = torch.randint(-2, 3, (1, 2, 4, 5), generator=seeded(2)).double() + 0.37
    flow.requires_grad_()
    mask = torch.rand(1, 1, 4, 5, dtype=torch.float64, generator=seeded(3)).requires_grad_()
    current = torch.rand(1, 2, 4, 5, dtype=torch.float64, generator=seeded(4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, f: flow_warp(i, f, padding=padding), (image, flow))
    assert torch.autograd.gradcheck(temporal_loss, (current, image, flow, mask))


def library_samples() -> dict[str, Tensor]:
    v = picture(2, 3, 8, 9)
    return {
        "contiguous": v,
        "transposed": v.transpose(2, 3).contiguous().transpose(2, 3),
        "channels_last": v.contiguous(memory_format=torch.channels_last),
        "sliced": picture(2, 3, 16, 20)[:, :, ::2, 1:19:2],
        "expanded": picture(1, 3, 8, 9).expand(2, 3, 8, 9),
        "empty": v[:, :, :0],
    }


@pytest.mark.parametrize("sample", library_samples())
def test_opcheck(sample):
    if "cpp" not in FAST:
        pytest.skip("vharm._C is not built")
    image = library_samples()[sample].detach().requires_grad_()
    n, _, h, w = image.shape
    flow, mask = motion("smooth", n, h, w).requires_grad_(), torch.ones(n, 1, h, w)
    current = picture(n, 3, h, w, seed=3).requires_grad_()
    vharm = torch.ops.vharm
    for need_valid in (True, False):
        torch.library.opcheck(
            vharm.flow_warp.default, (image, flow, True, need_valid, False, "cpp")
        )
    torch.library.opcheck(
        vharm.temporal_loss.default, (current, image, flow, mask, None, False, "cpp")
    )
    still = flow.detach()
    torch.library.opcheck(vharm.flow_consistency.default, (still, still, 0.01, 0.5, False, "cpp"))


def test_compiles_without_graph_break():
    image, flow, mask = picture(1, 3, 8, 9), motion("smooth", 1, 8, 9), torch.ones(1, 1, 8, 9)

    def step(image: Tensor, flow: Tensor) -> Tensor:
        valid = flow_consistency(flow, -flow)
        return (
            flow_warp(image, flow).mean()
            + temporal_loss(image, image * 0.9, flow, mask, valid=valid).sum()
        )

    found, expected = (image.clone().requires_grad_() for _ in range(2))
    torch.compile(step, fullgraph=True, backend="aot_eager")(found, flow).backward()
    step(expected, flow).backward()
    assert_close(found.grad, expected.grad)


def test_double_backward_is_refused_not_wrong():
    if "cpp" not in FAST:
        pytest.skip("vharm._C is not built")
    image = picture(1, 3, 8, 9).requires_grad_()
    with ops.backend("cpp"):
        out = flow_warp(image, motion("smooth", 1, 8, 9))
    (grad,) = torch.autograd.grad((out**2).sum(), image, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        grad.sum().backward()


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty(backend, shape):
    n, _, h, w = shape
    image = torch.zeros(shape, requires_grad=True)
    flow = torch.zeros(n, 2, h, w, requires_grad=True)
    with ops.backend(backend):
        out, valid = flow_warp(image, flow, return_valid=True)
        out.sum().backward()
        loss = temporal_loss(image, image, flow, torch.ones(n, 1, h, w))
        assert flow_consistency(flow, flow).shape == (n, 1, h, w)
    assert out.shape == shape
    assert valid.shape == (n, 1, h, w)
    assert valid.all()
    assert image.grad.shape == shape
    assert loss.tolist() == [0.0] * n


def test_layouts_are_kept():
    image = picture(1, 3, 8, 9).contiguous(memory_format=torch.channels_last)
    out = flow_warp(image, motion("smooth", 1, 8, 9))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert _warp_library._ready(image, False).data_ptr() == image.data_ptr()


# ---- errors -------------------------------------------------------------------------------------

IMAGE, FLOW, MASK = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5), torch.zeros(2, 1, 4, 5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: flow_warp(IMAGE.int(), FLOW), TypeError, "image.*int32"),
        (lambda: flow_warp(IMAGE[0], FLOW), ValueError, r"image.*\[N, C, H, W\]"),
        (lambda: flow_warp(IMAGE, FLOW.int()), TypeError, "flow.*int32"),
        (lambda: flow_warp(IMAGE, FLOW[:1]), ValueError, r"flow.*\[2, 2, 4, 5\].*\[1, 2, 4, 5\]"),
        (lambda: flow_warp(IMAGE, FLOW, layout="NHWC"), ValueError, r"flow.*\[2, 3, 4, 2\]"),
        (lambda: flow_warp(IMAGE, FLOW, padding="wrap"), ValueError, "padding.*wrap"),
        (lambda: flow_warp(IMAGE, FLOW, layout="HWC"), ValueError, "layout"),
        (lambda: temporal_loss(IMAGE.byte(), IMAGE, FLOW, MASK), TypeError, "current.*uint8"),
        (lambda: temporal_loss(IMAGE, IMAGE.half(), FLOW, MASK), TypeError, "previous.*float16"),
        (lambda: temporal_loss(IMAGE, IMAGE[:1], FLOW, MASK), ValueError, "previous"),
        (lambda: temporal_loss(IMAGE, IMAGE, FLOW, IMAGE), ValueError, r"mask.*\[2, 1, 4, 5\]"),
        (
            lambda: temporal_loss(IMAGE, IMAGE, FLOW, MASK, valid=FLOW), ValueError,
            r"valid.*\[2, 1, 4, 5\]",
        ),
        (lambda: flow_consistency(IMAGE, FLOW), ValueError, r"forward.*\[N, 2, H, W\]"),
        (lambda: flow_consistency(FLOW, FLOW[:1]), ValueError, "backward"),
        (lambda: flow_consistency(FLOW, FLOW, alpha=-1), ValueError, "alpha.*-1"),
        (lambda: flow_consistency(FLOW, FLOW, beta="x"), TypeError, "beta.*str"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()

# SPDX-License-Identifier: Apache-2.0
"""Triton's `filter_chain` against the reference, through the public op."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton_samples import (
    CHAINS,
    ONE_FILTER,
    TOLERANCE,
    assert_gradients_near,
    assert_near,
    both,
    leaves,
    random_arguments,
    random_image,
    random_mask,
    seeded,
    wide,
)

from vharm import ops
from vharm.ops.filters import FILTERS

NAN = float("nan")


@pytest.mark.parametrize(
    ("chain", "quantized"),
    [(name, False) for name in CHAINS]
    + [(name, True) for name, filters in CHAINS.items() if "contrast" in filters],
)
def test_chain_and_gradients(chain: str, quantized: bool, device: torch.device) -> None:
    filters = CHAINS[chain]
    factors = torch.randn(2, 3, 5, 7, generator=seeded(5)).to(device)

    def run() -> tuple[Tensor, list[Tensor]]:
        image, mask, arguments = leaves(
            random_image((2, 3, 5, 7)), random_mask((2, 1, 5, 7)),
            random_arguments(2, filters), device=device,
        )  # fmt: skip
        out = ops.filter_chain(
            image, mask, arguments, filters=filters, strength=0.75, quantized_contrast=quantized
        )
        (out * factors).sum().backward()
        return out, [image.grad, mask.grad, arguments.grad]

    (expected, expected_gradients), (got, gradients) = both(run)
    assert_near(got, expected, ONE_FILTER if len(filters) == 1 else None)
    if quantized and filters == ("contrast",):  # a floored gain has no slope for x > 0
        positive = random_arguments(2, filters) > 0
        assert positive.any()
        assert (gradients[2].cpu()[positive] == 0).all()
    assert_gradients_near(gradients, expected_gradients, device)


@pytest.mark.parametrize("chain", ["temperature", "contrast", "default"])
def test_gradient_of_given_statistics(chain: str, device: torch.device) -> None:
    filters = CHAINS[chain]

    def run() -> tuple[Tensor, list[Tensor]]:
        means = 0.2 + 0.6 * torch.rand(2, len(filters), 3, generator=seeded(6))
        arguments, statistics = leaves(random_arguments(2, filters), means, device=device)
        out = ops.filter_chain(
            random_image((2, 3, 5, 7)).to(device), None, arguments, filters=filters,
            statistics=statistics,
        )  # fmt: skip
        (out**2).sum().backward()
        return out, [arguments.grad, statistics.grad]

    (expected, expected_gradients), (got, gradients) = both(run)
    assert_near(got, expected)
    assert_gradients_near(gradients, expected_gradients, device)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_dtypes_and_layouts(dtype: torch.dtype, layout: str, device: torch.device) -> None:
    nhwc = layout == "NHWC"
    image = random_image((2, 5, 7, 3) if nhwc else (2, 3, 5, 7), dtype).to(device)
    mask = random_mask((2, 5, 7, 1) if nhwc else (2, 1, 5, 7)).to(device)
    arguments = random_arguments(2).to(device)
    expected, got = both(lambda: ops.filter_chain(image, mask, arguments, layout=layout))
    assert_near(got, expected)
    assert not torch.equal(wide(got), wide(image))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_gradients(dtype: torch.dtype, device: torch.device) -> None:
    """Arithmetic is float32: only the stored gradient is rounded."""

    def run(kind: torch.dtype) -> list[Tensor]:
        values = random_image((2, 3, 4, 5)).to(dtype).to(kind)
        image, mask, arguments = leaves(
            values, random_mask((2, 1, 4, 5)).to(dtype).to(kind), random_arguments(2),
            device=device,
        )  # fmt: skip
        out = ops.filter_chain(image, mask, arguments)
        out.backward(torch.ones_like(out))
        return [image.grad, mask.grad, arguments.grad]

    with ops.backend("triton"):
        exact, rounded = run(torch.float32), run(dtype)
    assert [t.dtype for t in rounded] == [dtype, dtype, torch.float32]
    for got, expected in zip(rounded, exact, strict=True):
        assert (wide(got) - wide(expected)).norm() < TOLERANCE[dtype] * wide(expected).norm()


VIEWS = {
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "channels last": lambda t: t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "sliced": lambda t: torch.cat([t, t], 3)[:, :, :, ::2][:, :, :, : t.shape[3]],
    "flipped batch": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "expanded": lambda t: t[:, :, :1, :1].expand(t.shape),
}


@pytest.mark.parametrize("view", VIEWS)
def test_strides(view: str, device: torch.device) -> None:
    """Image, mask, gradient and targets in memory orders of all kinds, also mixed."""
    reorder = VIEWS[view]
    image, mask = random_image((2, 3, 5, 7)), random_mask((2, 1, 5, 7))
    targets = torch.rand(2, 6, 3, 5, 7, generator=seeded(8))
    backwards = targets.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)

    def run() -> tuple[Tensor, list[Tensor]]:
        frame, m, arguments = leaves(
            reorder(image.to(device)), reorder(mask.to(device)), random_arguments(2), device=device
        )
        out = ops.filter_chain(frame, m, arguments)
        out.backward(reorder(targets[:, 0].to(device)))
        plain_mask = mask.to(device)
        losses = ops.filter_chain_loss(frame, plain_mask, arguments, backwards.to(device))
        losses.sum().backward()
        return out, [losses, frame.grad, m.grad, arguments.grad]

    (expected, expected_rest), (got, rest) = both(run)
    assert_near(got, expected)
    assert_gradients_near(rest, expected_rest, device)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.uint16, torch.float16, torch.float64, None], ids=str
)
def test_masks(dtype: torch.dtype | None, device: torch.device) -> None:
    image = random_image((2, 3, 5, 7), torch.uint16).to(device)
    mask = None if dtype is None else random_mask((2, 1, 5, 7), dtype).to(device)
    arguments = random_arguments(2).to(device)
    expected, got = both(lambda: ops.filter_chain(image, mask, arguments, strength=0.6))
    assert_near(got, expected)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_outside_the_mask_bits_are_kept(dtype: torch.dtype, device: torch.device) -> None:
    """Also those of values no arithmetic would leave: -0, NaN, infinities, what is past [0,1]."""
    image = random_image((1, 3, 4, 40), dtype)
    if dtype.is_floating_point:
        values = [NAN, float("inf"), -float("inf"), 7.0, -7.0, -0.0]
        image[0, :, 0, :6] = torch.tensor(values)
    mask = torch.zeros(1, 1, 4, 40)
    mask[0, 0, 1:3, 3:30] = random_mask((2, 27))
    with ops.backend("triton"):
        got = ops.filter_chain(
            image.to(device), mask.to(device), random_arguments(1).to(device),
            statistics=torch.full((1, 6, 3), 0.5, device=device),
        ).cpu()  # fmt: skip
    same = (got.contiguous().view(torch.uint8) == image.view(torch.uint8)).view(1, 3, 4, 40, -1)
    outside = (mask == 0).expand(1, 3, 4, 40)
    assert same.all(-1)[outside].all()
    assert not same.all(-1)[~outside].all()


def test_poison_outside_the_mask_reaches_no_gradient(device: torch.device) -> None:
    image = random_image((1, 3, 4, 5))
    image[0, :, 0, 0] = NAN
    mask = torch.ones(1, 1, 4, 5)
    mask[0, 0, 0, 0] = 0
    image, mask, arguments = leaves(image, mask, random_arguments(1), device=device)
    with ops.backend("triton"):
        out = ops.filter_chain(
            image, mask, arguments, statistics=torch.full((1, 6, 3), 0.5, device=device)
        )
        out.backward(torch.ones_like(out))
    assert (image.grad[0, :, 0, 0] == 1).all()
    assert mask.grad[0, 0, 0, 0] == 0
    for gradient in (image.grad, mask.grad, arguments.grad):
        assert gradient.isfinite().all()


def test_nan_inside_the_mask_stays_nan(device: torch.device) -> None:
    image = random_image((1, 3, 2, 3))
    image[0, :, 0, 0] = NAN
    statistics = torch.full((1, 6, 3), 0.5, device=device)
    arguments = random_arguments(1).to(device)
    expected, got = both(
        lambda: ops.filter_chain(image.to(device), None, arguments, statistics=statistics)
    )
    assert torch.equal(got.isnan(), expected.isnan())
    assert got.isnan().sum() == 3


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_strength(strength: float, device: torch.device) -> None:
    image, mask = random_image((1, 3, 3, 5)).to(device), random_mask((1, 1, 3, 5)).to(device)
    arguments = random_arguments(1).to(device)
    expected, got = both(lambda: ops.filter_chain(image, mask, arguments, strength=strength))
    assert_near(got, expected)
    assert torch.equal(got, image) == (strength == 0.0)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_arguments_at_their_limits(value: float, device: torch.device) -> None:
    """At x = 1 brightness and saturation multiply by 10^6, so images stay dark and coloured."""
    image = random_image((1, 3, 3, 5)).to(device)
    for name in FILTERS:
        arguments = torch.full((1, 1), value, device=device)
        expected, got = both(
            lambda arguments=arguments, name=name: ops.filter_chain(
                image, None, arguments, filters=(name,)
            )
        )
        assert_near(got, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
def test_integers_round_half_to_even(dtype: torch.dtype, device: torch.device) -> None:
    top = 255 if dtype == torch.uint8 else 65535
    samples = torch.cat([torch.arange(60), torch.arange(top - 59, top + 1)]).to(torch.int32)
    image = samples.to(dtype).view(1, 1, 1, 120).expand(1, 3, 1, 120).to(device)
    arguments = torch.tensor([[-0.5]], device=device)
    expected, got = both(lambda: ops.filter_chain(image, None, arguments, filters=("brightness",)))
    if device.type == "cpu":  # where both divide as IEEE says; on a GPU Triton's is approximate
        assert torch.equal(wide(got), wide(expected))
    assert_near(got, expected)
    halves = wide(got)[0, 0, 0, 1:60:4]  # 1, 5, 9, ... halve to 0.5, 2.5, 4.5, ...
    assert (halves % 2 == 0).float().mean() > 0.6


def test_ties_and_clamp_edges_share_the_gradient_as_autograd_does(device: torch.device) -> None:
    """Grey pixels, two equal channels, and samples exactly at 0 and 1."""
    colours = torch.tensor(
        [[0.5, 0.5, 0.5], [0.25, 0.25, 0.75], [0.75, 0.75, 0.25], [0, 0, 0], [1, 1, 1],
         [1, 0, 0.5], [0, 0.25, 1], [0.5, 0, 0]],
    ).T.reshape(1, 3, 2, 4)  # fmt: skip
    factors = torch.randn(1, 3, 2, 4, generator=seeded(7)).to(device)
    for filters, x in ((("saturation",), 0.5), (("saturation",), -0.5), ((), 0.0),
                       (("brightness", "saturation"), 0.0)):  # fmt: skip

        def run(filters: tuple[str, ...] = filters, x: float = x) -> tuple[Tensor, list[Tensor]]:
            image, arguments = leaves(colours, torch.full((1, len(filters)), x), device=device)
            out = ops.filter_chain(image, None, arguments, filters=filters)
            (out * factors).sum().backward()
            return out, [image.grad, *([arguments.grad] if filters else [])]

        (expected, expected_gradients), (got, gradients) = both(run)
        assert_near(got, expected)
        assert_gradients_near(gradients, expected_gradients, device)


def test_more_than_two_to_the_31_samples_apart(device: torch.device) -> None:
    """Two frames far apart in memory that is never touched between them."""
    small = random_image((2, 3, 3, 5), torch.uint8).to(device)
    step = 2**31 + 8
    image = torch.empty(step + 64, dtype=torch.uint8, device=device).as_strided(
        small.shape, (step, 15, 5, 1)
    )
    image.copy_(small)
    arguments = random_arguments(2).to(device)
    with ops.backend("triton"):
        assert torch.equal(ops.filter_chain(image, None, arguments),
                           ops.filter_chain(small, None, arguments))  # fmt: skip


def test_many_blocks_and_a_repeatable_backward(device: torch.device) -> None:
    """1200 pixels are several programs, whose sums are added in a fixed order."""

    def run() -> tuple[Tensor, list[Tensor]]:
        image, mask, arguments = leaves(
            random_image((1, 3, 3, 400)), random_mask((1, 1, 3, 400)), random_arguments(1),
            device=device,
        )  # fmt: skip
        out = ops.filter_chain(image, mask, arguments)
        out.backward(torch.ones_like(out))
        return out, [image.grad, mask.grad, arguments.grad]

    (expected, expected_gradients), (got, gradients) = both(run)
    assert_near(got, expected)
    assert_gradients_near(gradients, expected_gradients, device)
    with ops.backend("triton"):
        _, again = run()
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


def test_sixteen_filters(device: torch.device) -> None:
    filters = (FILTERS * 2)[:16]
    image, arguments = random_image((1, 3, 3, 5)).to(device), random_arguments(1, filters) / 4

    def run() -> tuple[Tensor, list[Tensor]]:
        (leaf,) = leaves(arguments, device=device)
        out = ops.filter_chain(image, None, leaf, filters=filters)
        out.square().sum().backward()
        return out, [leaf.grad]

    (expected, expected_gradients), (got, gradients) = both(run)
    assert (wide(got) - wide(expected)).abs().max() < 1e-5
    assert_gradients_near(gradients, expected_gradients, device)


@settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    size=st.tuples(st.integers(1, 2), st.sampled_from([1, 2, 5]), st.sampled_from([1, 3, 31, 33])),
    filters=st.lists(st.sampled_from(FILTERS), max_size=4),
    dtype=st.sampled_from(list(TOLERANCE)),
    mask_dtype=st.sampled_from([None, torch.bool, torch.uint8, torch.uint16, torch.float32]),
    nhwc=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_chain(
    device: torch.device, size: tuple[int, int, int], filters: list[str], dtype: torch.dtype,
    mask_dtype: torch.dtype | None, nhwc: bool, seed: int,
) -> None:  # fmt: skip
    n, h, w = size
    image = random_image((n, h, w, 3) if nhwc else (n, 3, h, w), dtype, seed).to(device)
    mask = None
    if mask_dtype is not None:
        mask = random_mask((n, h, w, 1) if nhwc else (n, 1, h, w), mask_dtype).to(device)
    arguments = random_arguments(n, filters).to(device)
    layout = "NHWC" if nhwc else "NCHW"
    expected, got = both(
        lambda: ops.filter_chain(image, mask, arguments, filters=filters, layout=layout)
    )
    assert_near(got, expected)

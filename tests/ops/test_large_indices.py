# SPDX-License-Identifier: Apache-2.0
"""Addresses beyond 2^31 elements, for every family of the CPU kernels, without the memory.

A small tensor is laid out with one huge stride in address space that is only reserved; pages that
nobody touches cost nothing. Its first element lies 2^31 elements into the reservation: arithmetic
in 32 bits, signed or not, would stay inside it and read zeros, or the wrong elements.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable

import pytest
import torch
from strategies import backends
from torch import Tensor

from vharm import ops
from vharm.ops import _statistics_library

pytestmark = [
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="reserves address space the Linux way"
    ),
    pytest.mark.skipif("cpp" not in backends("flow_warp"), reason="vharm._C is not built"),
]

FAR = 1 << 31
NHWC_HIGH = 1  # the axis of rows in [N,H,W,C]


def reserve(elements: int, dtype: torch.dtype) -> Tensor:
    size = elements * dtype.itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    try:
        memory = mmap.mmap(-1, size, flags=flags)
    except OSError as error:
        pytest.skip(f"{size >> 30} GiB of address space cannot be reserved here: {error}")
    return torch.frombuffer(memory, dtype=torch.uint8).view(dtype)


def step_of(tensor: Tensor, axis: int) -> int:
    """A multiple of 64 that takes the axis's last element beyond 2^31."""
    return -(-FAR // (tensor.shape[axis] - 1) // 64) * 64 + 64


def stepped(tensor: Tensor, axis: int, step: int) -> Tensor:
    """The same values in reserved memory, `step` elements apart along `axis`."""
    dense = tensor.select(axis, 0).contiguous()
    strides = list(dense.stride())
    strides.insert(axis, step)
    room = reserve(2 * FAR + step_of(tensor, axis) + 64 + dense.numel(), tensor.dtype)
    view = room.as_strided(tensor.shape, strides, FAR)
    view.copy_(tensor)
    return view


def spread(tensor: Tensor, axis: int) -> Tensor:
    """The same values, the last along `axis` more than 2^31 elements behind the first."""
    view = stepped(tensor, axis, step_of(tensor, axis))
    assert (tensor.shape[axis] - 1) * view.stride(axis) > FAR
    return view


def close_by(tensor: Tensor, axis: int) -> Tensor:
    """Laid out as by `spread`, but for the step: kernels take the same ways, sums their order."""
    return stepped(tensor, axis, -(-tensor.select(axis, 0).numel() // 64) * 64 + 64)


def narrow(view: Tensor, axis: int) -> Tensor:
    """What a kernel would see that computes offsets along `axis` in 32 bits."""
    parts = []
    for i in range(view.shape[axis]):
        wrapped = (i * view.stride(axis) + FAR) % (2 * FAR) - FAR
        strides = list(view.stride())
        del strides[axis]
        shape = view.select(axis, 0).shape
        parts.append(view.as_strided(shape, strides, view.storage_offset() + wrapped))
    return torch.stack(parts, axis)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """From 1/4 to 3/4: nothing is zero."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) / 2 + 0.25


def flat(result: object) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [t for part in result for t in flat(part)]


def same(run: Callable[..., object], tensors: tuple[Tensor, ...], axes: tuple[int, ...]) -> None:
    """The op gives the same wherever each of its tensors lies, the others where they were."""
    with ops.backend("cpp"):
        for i, tensor in enumerate(tensors):
            for axis in axes:
                if tensor.shape[axis] < 2:
                    continue
                found, expected = (
                    flat(run(*tensors[:i], place(tensor, axis), *tensors[i + 1 :]))
                    for place in (spread, close_by)
                )
                for f, e in zip(found, expected, strict=True):
                    assert torch.equal(f, e), f"tensor {i}, axis {axis}"


def with_gradients(run: Callable[..., Tensor], count: int) -> Callable[..., object]:
    """The result and the gradients of the first `count` tensors."""

    def both(*tensors: Tensor) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in tensors[:count]]
        out = run(*leaves, *tensors[count:])
        weight = uniform(*out.shape, seed=9)
        return [out.detach(), *torch.autograd.grad(out, leaves, weight)]

    return both


IMAGE, MASK = (3, 3, 5, 40), (3, 1, 5, 40)
ALL_AXES = (0, 1, 2)


def arguments(n: int = 3) -> Tensor:
    return 0.5 - uniform(n, 6, seed=4)


def test_the_offsets_do_pass_31_bits():
    image = uniform(*IMAGE)
    for axis in ALL_AXES:
        far = spread(image, axis)
        assert torch.equal(far, image)
        wrapped = narrow(far, axis)
        assert not torch.equal(wrapped, image)
        with ops.backend("cpp"):
            right, wrong = (ops.patch_balance(v) for v in (far, wrapped))
        assert not torch.equal(right, wrong)


# filters, lut, statistics ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_filters(dtype):
    image, mask = (uniform(*IMAGE) * 255).to(dtype), uniform(*MASK, seed=1)
    image = image / 255 if dtype == torch.float32 else image
    same(lambda v, m: ops.filter_chain(v, m, arguments()), (image, mask), ALL_AXES)
    same(lambda v: ops.filter_statistics(v, arguments()), (image,), ALL_AXES)
    packed = image.permute(0, 2, 3, 1).contiguous()
    same(lambda v: ops.filter_chain(v, None, arguments(), layout="NHWC"), (packed,), (0, 1))


def test_filter_gradients():
    run = with_gradients(lambda v, m: ops.filter_chain(v, m, arguments()), 2)
    same(run, (uniform(*IMAGE), uniform(*MASK, seed=1)), ALL_AXES)
    targets = uniform(3, 6, 3, 5, 40, seed=3)
    loss = lambda v, m, t: ops.filter_chain_loss(v, m, arguments(), t)  # noqa: E731
    same(loss, (uniform(*IMAGE), uniform(*MASK, seed=1), targets), ALL_AXES)


def test_lut():
    lut = uniform(5, 5, 5, 3, seed=2)
    image, mask = uniform(*IMAGE), uniform(*MASK, seed=1)
    same(with_gradients(lambda v, m: ops.apply_lut(v, lut, m), 2), (image, mask), ALL_AXES)
    bytes_ = (image * 255).to(torch.uint8)
    same(lambda v, m: ops.apply_lut(v, lut, m), (bytes_, mask), ALL_AXES)
    same(lambda a, b, m: ops.fit_lut(a, b, m, 5), (image, uniform(*IMAGE, seed=5), mask), ALL_AXES)


def test_statistics():
    image, mask = uniform(*IMAGE), uniform(*MASK, seed=1)
    same(with_gradients(lambda v, m: ops.masked_moments(v, m)[1], 2), (image, mask), ALL_AXES)
    same(ops.masked_histogram, (image, mask), ALL_AXES)
    same(with_gradients(ops.patch_balance, 1), (image,), ALL_AXES)


def test_gram_of_tokens_far_behind():
    channels, count = 16, 5
    first = FAR // channels + 3
    tokens = reserve((first + count) * channels, torch.float32).view(-1, channels)
    values = uniform(count, channels)
    tokens[first:] = values
    bounds = torch.tensor([first, first + count], dtype=torch.int32)
    found = _statistics_library.gram(tokens, bounds, "cpp")
    expected = _statistics_library.gram(values, bounds - first, "cpp")
    assert torch.equal(found, expected)
    assert found.abs().min() > 0


# warp --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("motion", [0.3, 4.0], ids=["near", "anywhere"])
def test_warp(motion):
    image, mask = uniform(*IMAGE), uniform(*MASK, seed=1)
    flow = motion * 4 * (uniform(3, 2, 5, 40, seed=6) - 0.5)
    for padding in ("zeros", "border"):
        run = with_gradients(lambda v, f, p=padding: ops.flow_warp(v, f, padding=p), 2)
        same(run, (image, flow), ALL_AXES)
    run = with_gradients(lambda a, b, f, m: ops.temporal_loss(a, b, f, m), 3)
    same(run, (image, uniform(*IMAGE, seed=7), flow, mask), ALL_AXES)
    same(ops.flow_consistency, (flow, -flow), ALL_AXES)


def test_warp_of_interleaved_pixels():
    image, flow = uniform(3, 5, 40, 3), 8 * (uniform(3, 5, 40, 2, seed=6) - 0.5)
    run = with_gradients(lambda v, f: ops.flow_warp(v, f, layout="NHWC"), 2)
    same(run, (image, flow), (0, NHWC_HIGH))


# attention ---------------------------------------------------------------------------------------


def test_attention():
    q, k, v = (uniform(2, 8, 5, 9, seed=s) for s in range(3))
    mask = uniform(2, 1, 5, 9, seed=3)
    mask[..., ::3] = 0
    near = lambda a, b, c, m: ops.neighborhood_attention(a, b, c, m)  # noqa: E731
    same(with_gradients(near, 3), (q, k, v, mask), ALL_AXES)
    everywhere = lambda a, b, c, m: ops.nonlocal_attention(a, b, c, m, m)  # noqa: E731
    same(with_gradients(everywhere, 3), (q, k, v, mask), ALL_AXES)
    same(with_gradients(ops.similarity_gate, 3), (q, k, v, mask), ALL_AXES)
    stack = uniform(2, 4, 3, 5, 9, seed=4)
    mean = lambda a, b, m: ops.gated_mean(a, b, m, lists=2)  # noqa: E731
    same(with_gradients(mean, 2), (stack, q[:, :3].contiguous(), mask), (0, 1, 2, 3))


# tokens ------------------------------------------------------------------------------------------


def test_tokens_of_a_spread_image():
    image, mask = uniform(3, 3, 16, 48), uniform(3, 1, 16, 48, seed=1)
    mask[:, :, :, :16] = 0
    keep = ops.foreground_patches(mask, 8)
    tokens, index, _ = ops.pack_patches(image, keep, 8)
    same(lambda m: ops.foreground_patches(m, 8), (mask,), ALL_AXES)
    same(with_gradients(lambda v: ops.pack_patches(v, keep, 8)[0], 1), (image,), ALL_AXES)
    run = with_gradients(lambda v, m: ops.unpack_patches(1 - tokens, index, v, 8, mask=m), 2)
    same(run, (image, mask), ALL_AXES)


def test_the_last_patches_of_a_large_batch():
    frames = reserve(3 * 3 * 16384 * 16384, torch.uint8).view(3, 3, 16384, 16384)
    assert frames.numel() > FAR
    patches = (16384 // 16) ** 2
    keep = torch.zeros(3, patches, dtype=torch.bool)
    keep[2, -2:] = keep[0, 0] = True
    values = torch.arange(1, 3 * 768 + 1, dtype=torch.int64).remainder(251).add(1)
    values = values.to(torch.uint8).view(3, 768)
    index = keep.flatten().nonzero()[:, 0]
    with ops.backend("cpp"):
        ops.unpack_patches(values, index, frames, out=frames)
        tokens, found, _ = ops.pack_patches(frames, keep)
    assert torch.equal(found, index)
    assert torch.equal(tokens, values)
    corner = frames[2, :, -16:, -16:].permute(1, 2, 0).flatten()
    assert torch.equal(corner, values[2])


# yuv ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 10])
def test_yuv(depth):
    form = ops.YuvFormat(depth=depth)
    sizes = [(10, 40), (5, 20), (5, 20)]
    y, u, v, *below = (
        (uniform(*size, seed=s) * form.maximum).round().to(torch.int32).to(form.dtype)
        for s, size in enumerate(sizes * 2)
    )
    mask = uniform(10, 40, seed=7)
    planes = (y, u, v)
    same(lambda *p: ops.yuv_to_rgb(p, format=form), planes, (0,))
    same(lambda *p: ops.yuv_thumbnail(p, (5, 20), format=form), planes, (0,))
    same(lambda *p: ops.shrink_planes(p, (5, 20)), planes, (0,))
    same(lambda y, m: torch.tensor(ops.plane_means([y], m, 2)), (y, mask), (0,))
    lut, chain, statistics = uniform(5, 5, 5, 3), arguments(1)[0], uniform(6, 3, seed=5)
    of = ops.PlaneMask.of
    with_mask = (mask, *planes)
    same(lambda m, *p: ops.apply_lut_yuv(p, of(m), lut, format=form), with_mask, (0,))
    same(
        lambda m, *p: ops.filter_chain_yuv(p, of(m), chain, format=form, statistics=statistics),
        with_mask, (0,),
    )  # fmt: skip
    same(lambda m, *p: ops.composite_yuv(p, below, of(m), format=form), with_mask, (0,))
    same(lambda m, *p: ops.composite_yuv(below, p, of(m), format=form), with_mask, (0,))
    rgb = (uniform(10, 40, 3) * 255).to(torch.uint8)
    same(lambda r: ops.rgb_to_yuv(r, format=form), (rgb,), (0,))

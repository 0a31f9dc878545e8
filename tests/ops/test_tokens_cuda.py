# SPDX-License-Identifier: Apache-2.0
"""The CUDA and Triton tokens on a GPU against the reference."""

from __future__ import annotations

import pytest
import torch
from strategies import assert_close
from torch import Tensor

from vharm import ops

pytestmark = pytest.mark.gpu
DTYPES = (torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    values = torch.rand(shape, generator=seeded(seed))
    if not dtype.is_floating_point:
        values = (values * (255 if dtype == torch.uint8 else 65535)).to(torch.int32)
    return values.to(dtype).cuda()


def soft(shape: tuple[int, ...]) -> Tensor:
    return (torch.rand(shape, generator=seeded(3)) * 1.6 - 0.4).clamp(0, 1).cuda()


@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "patch"), [(3, 16), (5, 7)])
def test_agrees_with_reference(backend, layout, dtype, channels, patch):
    shape = (2, channels, 2 * patch, 3 * patch)
    image, under, mask = picture(shape, dtype), picture(shape, dtype, 1), soft((2, 1, *shape[2:]))
    if layout == "NHWC":
        image, under, mask = (t.permute(0, 2, 3, 1) for t in (image, under, mask))
    keep = torch.rand(2, 6, generator=seeded(2)).cuda() < 0.5
    found = []
    for name in ("reference", backend):
        with ops.backend(name):
            tokens, index, bounds = ops.pack_patches(image, keep, patch, layout=layout)
            wide, _, _ = ops.pack_patches(image, keep, patch, layout=layout, dtype=torch.float32)
            found.append((
                tokens, index, bounds, wide,
                ops.unpack_patches(tokens, index, under, patch, layout=layout),
                ops.unpack_patches(wide, index, under, patch, mask=mask, layout=layout),
                ops.foreground_patches(mask, patch, layout=layout),
            ))  # fmt: skip
    for expected, got in zip(*found, strict=True):
        assert got.dtype == expected.dtype
        assert_close(got, expected)


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_gradients(backend):
    keep, found = torch.rand(2, 6, generator=seeded(2)).cuda() < 0.5, []
    weight = torch.randn(2, 3, 32, 48, generator=seeded(4)).cuda()
    for name in ("reference", backend):
        image = picture((2, 3, 32, 48), torch.float32).requires_grad_()
        mask = soft((2, 1, 32, 48)).requires_grad_()
        with ops.backend(name):
            tokens, index, _ = ops.pack_patches(image, keep)
            out = ops.unpack_patches(tokens.sin(), index, image, mask=mask)
            found.append(torch.autograd.grad((out * weight).sum(), (image, tokens, mask)))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_a_count_too_large_pads_and_one_too_small_cuts(backend):
    image = picture((1, 3, 16, 48), torch.float32)
    keep = torch.tensor([[True, False, True]]).cuda()
    with ops.backend(backend):
        exact, _index, _ = ops.pack_patches(image, keep)
        more, padded, bounds = ops.pack_patches(image, keep, count=4)
        assert (padded.tolist(), bounds.tolist()) == ([0, 2, -1, -1], [0, 2])
        assert torch.equal(more[:2], exact)
        assert (more[2:] == 0).all()
        assert torch.equal(ops.unpack_patches(more, padded, image), image)
        fewer, cut, bounds = ops.pack_patches(image, keep, count=1)
        assert (cut.tolist(), bounds.tolist()) == ([0], [0, 1])
        assert torch.equal(fewer, exact[:1])

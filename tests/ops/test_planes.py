# SPDX-License-Identifier: Apache-2.0
"""Operations on single planes, against the reference and by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import backends

from vharm import ops

CPP = [pytest.param("cpp", marks=pytest.mark.skipif("cpp" not in backends("plane_means"),
                                                    reason="vharm._C is not built"))]  # fmt: skip
BOTH = ["reference", *CPP]
DTYPES = (torch.uint8, torch.uint16, torch.float32)


def plane(height: int, width: int, dtype: torch.dtype, seed: int, pad: int = 0) -> torch.Tensor:
    """Random samples; with `pad`, of a wider plane."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.rand(height, width + pad, generator=generator)
    if not dtype.is_floating_point:
        samples = (samples * (255 if dtype == torch.uint8 else 1023)).round().to(torch.int32)
    return samples.to(dtype)[:, :width]


def on(backend: str, call):
    with ops.backend(backend):
        return call()


@pytest.mark.parametrize("backend", CPP)
@given(data=st.data())
def test_shrinking_agrees_with_reference(backend, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    height, width = data.draw(st.sampled_from(((1, 1), (5, 7), (40, 33), (70, 1031))))
    every = data.draw(st.integers(1, 3))
    size = (
        data.draw(st.integers(1, -(-height // every))),
        data.draw(st.integers(1, min(width, 64))),
    )
    planes = [plane(height, width, dtype, 0, pad=3), plane(-(-height // 2), width, dtype, 1)]
    found, expected = (
        on(name, lambda: ops.shrink_planes(planes, size, every=every))
        for name in (backend, "reference")
    )
    assert found.shape == (2, *size)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("backend", BOTH)
def test_shrinking_by_hand(backend):
    rows = torch.arange(6, dtype=torch.uint8)[:, None].expand(6, 4)
    assert on(backend, lambda: ops.shrink_planes([rows], (3, 1)))[0, :, 0].tolist() == [
        0.5,
        2.5,
        4.5,
    ]
    every = on(backend, lambda: ops.shrink_planes([rows], (1, 2), every=2))
    assert every.tolist() == [[[2.0, 2.0]]]


@pytest.mark.parametrize("backend", CPP)
@given(data=st.data())
def test_means_agree_with_reference(backend, data):
    subsampling = data.draw(st.sampled_from(((0, 0), (1, 0), (1, 1), (2, 0))))
    step = data.draw(st.integers(1, 5)) << max(subsampling)
    height, width = data.draw(st.sampled_from(((1, 1), (6, 9), (37, 50), (8, 2500))))
    dtype, mask_dtype = (data.draw(st.sampled_from(DTYPES)) for _ in range(2))
    chroma = (-(-height >> subsampling[1]), -(-width >> subsampling[0]))
    pad = data.draw(st.integers(0, 2))
    planes = [
        plane(*size, dtype, n, pad) for n, size in enumerate(((height, width), chroma, chroma))
    ]
    mask = plane(height, width, mask_dtype, 20, pad)
    black = data.draw(st.sampled_from((0.0, 0.4 if mask_dtype.is_floating_point else 128.0)))

    def means():
        return ops.plane_means(planes, mask, step, black=black, subsampling=subsampling)

    found, expected = on(backend, means), on("reference", means)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backend", BOTH)
def test_means_by_hand(backend):
    """Points at 0 and 2 of either side; two have weight, 3 and 1."""
    mask = torch.zeros(3, 4, dtype=torch.uint8)
    mask[0, 0], mask[2, 2], mask[1, 1] = 19, 17, 255
    wide = torch.zeros(3, 4, dtype=torch.uint8)
    wide[0, 0], wide[2, 2], wide[1, 1] = 8, 4, 200
    planes = [wide, torch.tensor([[1.0, 9.0], [9.0, -1.0]])]
    found = on(backend, lambda: ops.plane_means(planes, mask, 2, black=16.0, subsampling=(1, 1)))
    assert found == [7.0, 0.5]
    assert on(backend, lambda: ops.plane_means([wide], mask, 3, black=19.0)) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_means_of_channels(dtype):
    """Channels of interleaved pictures are planes too; float64 has no kernel."""
    image = torch.rand(5, 6, 3).to(dtype)
    means = ops.plane_means(image.unbind(-1), torch.ones(5, 6))
    assert means == pytest.approx(image.double().mean((0, 1)).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: ops.shrink_planes([p], (9, 1)), ValueError, r"size.*\(4, 6\)"),
        (lambda p: ops.shrink_planes([p], (3, 1), every=2), ValueError, r"size.*\(2, 6\)"),
        (lambda p: ops.shrink_planes([p], (1, 1), every=0), ValueError, "every.*0"),
        (lambda p: ops.shrink_planes([p.long()], (1, 1)), TypeError, "planes.*int64"),
        (lambda p: ops.plane_means([p, p[1:]], p), ValueError, r"planes.*\[4, 6\]"),
        (lambda p: ops.plane_means([p], p[:, 1:]), ValueError, r"planes.*\[4, 5\]"),
        (lambda p: ops.plane_means([p], p, subsampling=(1, 1)), ValueError, "step.*1"),
        (lambda p: ops.plane_means([p], p.long()), TypeError, "mask.*int64"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call(torch.zeros(4, 6, dtype=torch.uint8))

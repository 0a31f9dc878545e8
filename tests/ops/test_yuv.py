# SPDX-License-Identifier: Apache-2.0
"""Colour operations on planes: against the reference, and what the mask does not touch."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import backends, natural

from vharm import ops
from vharm.ops import DEFAULT_FILTERS, PlaneMask, YuvFormat

CPP = [pytest.param("cpp", marks=pytest.mark.skipif("cpp" not in backends("yuv_to_rgb"),
                                                    reason="vharm._C is not built"))]  # fmt: skip
SIZES = ((1, 1), (2, 2), (5, 7), (17, 33), (34, 65), (3, 1031))
ARGUMENTS = torch.tensor([0.2, -0.3, 0.1, 0.4, -0.2, 0.3])
STATISTICS = torch.full((6, 3), 0.45)


@st.composite
def formats(draw: st.DrawFn) -> YuvFormat:
    return YuvFormat(
        draw(st.sampled_from(("bt601", "bt709", "bt2020"))),
        draw(st.booleans()),
        draw(st.sampled_from((8, 10, 12, 16))),
        draw(st.sampled_from(((0, 0), (1, 0), (1, 1), (2, 0)))),
    )


@st.composite
def frames(draw: st.DrawFn, format: YuvFormat, *, strided: bool = True):
    height, width = draw(st.sampled_from(SIZES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    chroma = format.chroma_size(height, width)
    planes = []
    for size in ((height, width), chroma, chroma):
        # A decoder's planes are wider than the picture.
        pad = draw(st.integers(0, 3)) if strided else 0
        wide = torch.randint(
            0, format.maximum + 1, (size[0], size[1] + pad), generator=generator, dtype=torch.int32
        )
        planes.append(wide.to(format.dtype)[:, : size[1]])
    return tuple(planes)


def plane_mask(height: int, width: int, seed: int) -> PlaneMask:
    """A limited-range mask as a decoder gives it, with a soft edge and empty parts."""
    generator = torch.Generator().manual_seed(seed)
    values = (torch.rand(height, width, generator=generator) * 2 - 0.8).clamp(0, 1)
    values[:, : width // 3] = 0
    return PlaneMask((values * 219 + 16).round().to(torch.uint8), 16, 235)


def assert_planes_close(found, expected, share: float = 0.02) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        error = (a.to(torch.int64) - b.to(torch.int64)).abs()
        assert int(error.max()) <= 1
        # One level where the exact value lies half-way; tiny planes may hold just such a sample.
        assert (error > 0).double().sum() <= max(1, share * error.numel())


@pytest.mark.parametrize("backend", CPP)
@given(data=st.data())
def test_filter_chain_yuv_agrees_with_reference(backend, data):
    format = data.draw(formats())
    planes = data.draw(frames(format))
    mask = plane_mask(*planes[0].shape, seed=data.draw(st.integers(0, 99)))
    options = {"format": format, "statistics": STATISTICS, "strength": 0.8}
    with ops.backend("reference"):
        expected = ops.filter_chain_yuv(planes, mask, ARGUMENTS, **options)
    with ops.backend(backend):
        out = ops.filter_chain_yuv(planes, mask, ARGUMENTS, **options)
    # 16-bit samples: float32 itself resolves only about one level.
    if format.depth == 16:
        for a, b in zip(out, expected, strict=True):
            assert (a.to(torch.int64) - b.to(torch.int64)).abs().max() <= 16
    else:
        assert_planes_close(out, expected)


@pytest.mark.parametrize("backend", CPP)
@given(data=st.data())
def test_apply_lut_yuv_agrees_with_reference(backend, data):
    format = data.draw(formats())
    planes = data.draw(frames(format))
    mask = plane_mask(*planes[0].shape, seed=data.draw(st.integers(0, 99)))
    size = data.draw(st.sampled_from((2, 9, 33)))
    axis = torch.linspace(0, 1, size)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    lut = 0.1 + 0.7 * grid.flip(-1) ** 1.3 + 0.1 * grid
    options = {
        "format": format, "strength": 0.9,
        "interpolation": data.draw(st.sampled_from(("tetrahedral", "trilinear"))),
    }  # fmt: skip
    with ops.backend("reference"):
        expected = ops.apply_lut_yuv(planes, mask, lut, **options)
    with ops.backend(backend):
        out = ops.apply_lut_yuv(planes, mask, lut, **options)
    if format.depth == 16:
        for a, b in zip(out, expected, strict=True):
            assert (a.to(torch.int64) - b.to(torch.int64)).abs().max() <= 16
    else:
        assert_planes_close(out, expected)
    touched = mask.unit() > 0
    assert torch.equal(out[0].to(torch.int32)[~touched], planes[0].to(torch.int32)[~touched])


@pytest.mark.parametrize("backend", ["reference", *CPP])
@given(data=st.data())
def test_untouched_samples_keep_their_value(backend, data):
    format = data.draw(formats())
    planes = data.draw(frames(format))
    height, width = planes[0].shape
    mask = plane_mask(height, width, seed=1)
    with ops.backend(backend):
        out = ops.filter_chain_yuv(planes, mask, ARGUMENTS, format=format, statistics=STATISTICS)
    touched = mask.unit() > 0
    same = [a.to(torch.int32) == b.to(torch.int32) for a, b in zip(out, planes, strict=True)]
    assert same[0][~touched].all()
    sx, sy = format.subsampling
    for row in range(same[1].shape[0]):
        for column in range(min(same[1].shape[1], 40)):
            sites = touched[row << sy : (row + 1) << sy, column << sx : (column + 1) << sx]
            if not sites.any():
                assert same[1][row, column]
                assert same[2][row, column]


@pytest.mark.parametrize("backend", ["reference", *CPP])
def test_empty_mask_and_zero_strength_are_identities(backend):
    format = YuvFormat()
    planes = tuple(
        torch.randint(0, 256, s, dtype=torch.uint8) for s in ((33, 50), (17, 25), (17, 25))
    )
    with ops.backend(backend):
        for mask, strength in (
            (PlaneMask(torch.zeros(33, 50)), 1.0),
            (None, 0.0),
        ):
            out = ops.filter_chain_yuv(
                planes, mask, ARGUMENTS, format=format, statistics=STATISTICS, strength=strength
            )
            assert all(torch.equal(a, b) for a, b in zip(out, planes, strict=True))


@pytest.mark.parametrize("backend", ["reference", *CPP])
@pytest.mark.parametrize("depth", [8, 10])
def test_rgb_round_trip_of_444_is_exact_to_a_level(backend, depth):
    format = YuvFormat("bt709", False, depth, (0, 0))
    rgb = natural(1, 31, 45, seed=0)[0].permute(1, 2, 0)
    with ops.backend(backend):
        planes = ops.rgb_to_yuv(rgb, format=format)
        back = ops.yuv_to_rgb(planes, format=format, dtype=torch.float32)
        again = ops.rgb_to_yuv(back, format=format)
    assert (back - rgb).abs().max() < 2.2 / 219 / (1 << (depth - 8))
    assert all(torch.equal(a, b) for a, b in zip(planes, again, strict=True))


def test_known_colours():
    """White, black and the primaries of BT.709 and BT.601, 8-bit limited range."""
    rgb = torch.tensor([[[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    expected = {
        "bt709": [(235, 128, 128), (16, 128, 128), (63, 102, 240), (173, 42, 26), (32, 240, 118)],
        "bt601": [(235, 128, 128), (16, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110)],
    }
    for matrix, samples in expected.items():
        planes = ops.rgb_to_yuv(rgb, format=YuvFormat(matrix, False, 8, (0, 0)))
        found = list(zip(*(p.flatten().tolist() for p in planes), strict=True))
        assert found == samples


def test_wrong_matrix_is_noticed():
    """A negative control: reading BT.601 samples as BT.709 is far outside every tolerance."""
    rgb = natural(1, 16, 16, seed=1)[0].permute(1, 2, 0)
    planes = ops.rgb_to_yuv(rgb, format=YuvFormat("bt601", False, 8, (0, 0)))
    wrong = ops.yuv_to_rgb(planes, format=YuvFormat("bt709", False, 8, (0, 0)), dtype=torch.float32)
    assert (wrong - rgb).abs().max() > 0.05


@pytest.mark.parametrize("backend", ["reference", *CPP])
def test_thumbnail_keeps_the_mean(backend):
    format = YuvFormat("bt709", True, 8, (1, 1))
    rgb = natural(1, 54, 96, seed=3)[0].permute(1, 2, 0) * 0.6 + 0.2
    planes = ops.rgb_to_yuv(rgb, format=format)
    with ops.backend(backend):
        small = ops.yuv_thumbnail(planes, (13, 29), format=format)
        whole = ops.yuv_to_rgb(planes, format=format, dtype=torch.float32)
    assert (small.mean((1, 2)) - whole.mean((0, 1))).abs().max() < 2e-3
    assert small.shape == (3, 13, 29)


@pytest.mark.parametrize("backend", CPP)
@given(data=st.data())
def test_thumbnail_and_conversion_agree_with_reference(backend, data):
    format = data.draw(formats())
    planes = data.draw(frames(format))
    height, width = planes[0].shape
    size = (data.draw(st.integers(1, height)), data.draw(st.integers(1, min(width, 40))))
    results = []
    for name in ("reference", backend):
        with ops.backend(name):
            results.append(
                (
                    ops.yuv_thumbnail(planes, size, format=format),
                    ops.yuv_to_rgb(planes, format=format, dtype=torch.float32),
                    ops.yuv_to_rgb(planes, format=format).float() / 255,
                )
            )
    bounds = (2e-5, 2e-5, 1.01 / 255)
    for found, expected, bound in zip(results[1], results[0], bounds, strict=True):
        assert (found - expected).abs().max() <= bound


@pytest.mark.parametrize("backend", ["reference"])
def test_residual_is_added_inside_the_mask(backend):
    format = YuvFormat("bt709", False, 8, (0, 0))
    rgb = torch.full((8, 8, 3), 0.5)
    planes = ops.rgb_to_yuv(rgb, format=format)
    mask = torch.zeros(8, 8)
    mask[:, 4:] = 1
    residual = torch.tensor([0.2, 0.0, -0.1]).view(3, 1, 1)
    out = ops.residual_yuv(planes, PlaneMask(mask, 0, 1), residual, format=format)
    changed = ops.yuv_to_rgb(out, format=format, dtype=torch.float32)
    assert (changed[:, :4] - 0.5).abs().max() < 0.01
    assert (changed[:, 4:] - torch.tensor([0.7, 0.5, 0.4])).abs().max() < 0.02
    assert DEFAULT_FILTERS[0] == "temperature"


PLANES = (torch.zeros(4, 6, dtype=torch.uint8), *(torch.zeros(2, 3, dtype=torch.uint8),) * 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: YuvFormat("rec709"), ValueError, "matrix.*bt709.*rec709"),
        (lambda: YuvFormat(depth=7), ValueError, "depth"),
        (lambda: YuvFormat(subsampling=(3, 0)), ValueError, "subsampling"),
        (lambda: PlaneMask(torch.zeros(1, 4, 6)), ValueError, r"data must be \[H, W\]"),
        (lambda: PlaneMask(torch.zeros(4, 6), 1, 1), ValueError, "white"),
        (
            lambda: ops.yuv_to_rgb(PLANES, format=YuvFormat(depth=10)),
            TypeError,
            "planes.*uint16",
        ),
        (
            lambda: ops.yuv_to_rgb((*PLANES[:2], PLANES[2][:1]), format=YuvFormat()),
            ValueError,
            r"planes \(Cr\).*\[2, 3\]",
        ),
        (
            lambda: ops.filter_chain_yuv(
                PLANES, PlaneMask(torch.zeros(4, 4)), ARGUMENTS, format=YuvFormat(),
                statistics=STATISTICS,
            ),
            ValueError,
            r"mask.*\[4, 6\]",
        ),
        (lambda: ops.yuv_thumbnail(PLANES, (9, 9), format=YuvFormat()), ValueError, "size"),
        (lambda: ops.rgb_to_yuv(PLANES[0], format=YuvFormat()), ValueError, "rgb"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("backend", ["reference", *CPP])
def test_out_is_filled_and_checked(backend):
    format = YuvFormat()
    planes = tuple(
        torch.randint(0, 256, s, dtype=torch.uint8) for s in ((18, 30), (9, 15), (9, 15))
    )
    options = {"format": format, "statistics": STATISTICS}
    out = tuple(torch.full_like(p, 77) for p in planes)
    with ops.backend(backend):
        expected = ops.filter_chain_yuv(planes, None, ARGUMENTS, **options)
        result = ops.filter_chain_yuv(planes, None, ARGUMENTS, **options, out=out)
        assert result is out
        assert all(torch.equal(a, b) for a, b in zip(out, expected, strict=True))
        mixed = (planes[0], *out[1:])
        with pytest.raises(ValueError, match=r"out must share no memory.*or all of it"):
            ops.filter_chain_yuv(planes, None, ARGUMENTS, **options, out=mixed)
        with pytest.raises(ValueError, match=r"out must share no memory"):
            ops.composite_yuv(planes, out, None, format=format, out=planes)
        small = (planes[0][:9].clone(), planes[1][:5].clone(), planes[2][:5].clone())
        with pytest.raises(ValueError, match=r"out must be \[18, 30\]"):
            ops.filter_chain_yuv(planes, None, ARGUMENTS, **options, out=small)


@pytest.mark.parametrize("backend", ["reference", *CPP])
@given(data=st.data())
def test_planes_may_be_written_over(backend, data):
    format = data.draw(formats())
    planes = data.draw(frames(format))
    height, width = planes[0].shape
    kind = data.draw(st.sampled_from(("mixed", "empty", "none")))
    mask = None
    if kind != "none":
        samples = torch.zeros(height, width, dtype=torch.uint8)
        samples[height // 3 : height // 2 + 1, width // 4 :] = 200 * (kind == "mixed")
        mask = PlaneMask.of(samples)
    lut = torch.rand(4, 4, 4, 3)
    calls = (
        lambda out: ops.filter_chain_yuv(
            planes, mask, ARGUMENTS, format=format, statistics=STATISTICS, out=out
        ),
        lambda out: ops.apply_lut_yuv(planes, mask, lut, format=format, out=out),
        lambda out: ops.residual_yuv(planes, mask, lut[0].permute(2, 0, 1), format=format, out=out),
    )
    before = [plane.clone() for plane in planes]
    with ops.backend(backend) if backend == "reference" else contextlib.nullcontext():
        for call in calls:
            expected = call(None)
            result = call(planes)
            assert result is planes
            assert all(torch.equal(a, b) for a, b in zip(planes, expected, strict=True))
            for plane, old in zip(planes, before, strict=True):
                plane.copy_(old)


@pytest.mark.parametrize("backend", CPP)
@given(data=st.data())
def test_composite_yuv_agrees_with_reference(backend, data):
    format = data.draw(formats())
    front = data.draw(frames(format))
    height, width = front[0].shape
    # uint16 has no flip in torch
    back = tuple(p.to(torch.int32).flip(0).to(p.dtype) for p in front)
    mask = plane_mask(height, width, seed=data.draw(st.integers(0, 99)))
    premultiplied = data.draw(st.booleans())
    results = []
    for name in ("reference", backend):
        with ops.backend(name):
            results.append(
                ops.composite_yuv(front, back, mask, format=format, premultiplied=premultiplied)
            )
    for a, b in zip(*results, strict=True):
        assert (a.to(torch.int64) - b.to(torch.int64)).abs().max() <= 1
    outside = mask.unit() == 0
    assert torch.equal(results[1][0].to(torch.int32)[outside], back[0].to(torch.int32)[outside])
    with ops.backend(backend):
        whole = ops.composite_yuv(front, back, None, format=format)
    assert all(torch.equal(a, b) for a, b in zip(whole, front, strict=True))


def test_matrices_are_made_once_and_take_part_in_autograd():
    format = ops.YuvFormat("bt601", True, 10)
    with torch.inference_mode():
        first = format.matrices()
    assert ops.YuvFormat("bt601", True, 10).matrices() is first
    assert not any(matrix.is_inference() for matrix in first)
    assert format.matrices(torch.float32)[0].dtype == torch.float32
    torch.testing.assert_close(first[0] @ first[1], torch.eye(3, dtype=torch.float64))

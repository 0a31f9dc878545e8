# SPDX-License-Identifier: Apache-2.0
"""What the op tests share: pictures, masks, awkward layouts, and comparisons with reasons."""

from __future__ import annotations

import os

import torch
from hypothesis import strategies as st
from torch import Tensor

from vharm.ops import explain

# One table of tolerances per dtype (absolute, for values in [0,1]). The integer types may land on
# the neighbouring level where the exact value lies between two.
TOLERANCES = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
    torch.uint8: 1.0,
    torch.uint16: 2.0,
}
AWKWARD = (1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 65)
IMAGE_DTYPES = (torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32)


def backends(op: str) -> list[str]:
    """The compiled backends of this op that can run on the tests' device.

    On the CPU without Triton, whose interpreter has tests of its own. Called while tests are
    collected, before fixtures exist: the root conftest.py leaves --device in the environment.
    """
    device = os.environ.get("VHARM_TEST_DEVICE", "cpu")
    rows = {row.op: row for row in explain(device)}
    left_out = ("reference", "triton") if device == "cpu" else ("reference",)
    return [name for name in rows[op].able if name not in left_out]


def natural(n: int, height: int, width: int, *, seed: int) -> Tensor:
    """Smooth pictures [N,3,H,W] in [0,1] with texture, black and white: nearer to photographs than
    noise, and with ties of channels.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 5, generator=generator)
    v = torch.nn.functional.interpolate(
        coarse, size=(height, width), mode="bilinear", align_corners=False
    )
    v = v + 0.08 * torch.randn(n, 3, height, width, generator=generator)
    v = (1.3 * v - 0.15).clamp(0, 1)
    v[:, :, : height // 8] = v[:, :1, : height // 8]  # a grey band
    return v


def relayout(tensor: Tensor, kind: str) -> Tensor:
    """The same values with other strides."""
    if kind == "contiguous":
        return tensor.contiguous()
    if kind == "transposed":
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if kind == "strided":
        wide = tensor.repeat_interleave(2, -1)
        return wide[..., ::2]
    if kind == "offset":
        flat = torch.cat([tensor.flatten()[:1], tensor.flatten()])
        return flat[1:].view(tensor.shape)
    raise AssertionError(kind)


@st.composite
def images(draw: st.DrawFn, layout: str, dtypes: tuple[torch.dtype, ...] = IMAGE_DTYPES) -> Tensor:
    """Image batches of awkward sizes, any dtype, any strides."""
    n = draw(st.integers(1, 3))
    height, width = draw(st.sampled_from(AWKWARD)), draw(st.sampled_from(AWKWARD))
    if draw(st.integers(0, 9)) == 0:
        height, width = 2, 1030  # more than one span
    v = natural(n, height, width, seed=draw(st.integers(0, 1000)))
    dtype = draw(st.sampled_from(dtypes))
    if dtype in (torch.uint8, torch.uint16):
        top = 255 if dtype == torch.uint8 else 65535
        v = (v * top).round().to(torch.int32)
    if layout == "NHWC":
        v = v.permute(0, 2, 3, 1)
    return relayout(v, draw(st.sampled_from(("contiguous", "transposed", "strided")))).to(dtype)


@st.composite
def masks(draw: st.DrawFn, image: Tensor, layout: str) -> Tensor | None:
    """Masks for an image: none, empty, full, one pixel, soft, binary; every dtype."""
    kind = draw(st.sampled_from(("none", "empty", "full", "one", "soft", "box")))
    if kind == "none":
        return None
    n = image.shape[0]
    height, width = image.shape[2:] if layout == "NCHW" else image.shape[1:3]
    values = torch.zeros(n, height, width)
    if kind == "full":
        values += 1
    elif kind == "one":
        values[:, draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = 1
    elif kind == "soft":
        generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
        values = (torch.rand(values.shape, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    elif kind == "box":
        values[:, height // 3 :, width // 4 : width // 2 + 1] = 1
    values = values[:, None] if layout == "NCHW" else values[..., None]
    dtype = draw(st.sampled_from((torch.bool, torch.uint8, torch.uint16, torch.float32)))
    if dtype == torch.bool:
        values = values > 0.5
    elif dtype != torch.float32:
        values = (values * (255 if dtype == torch.uint8 else 65535)).round().to(torch.int32)
    return values.to(dtype).to(image.device)


def assert_close(
    found: Tensor, expected: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5, share: float = 0.0
) -> None:
    """Elementwise; integers may differ by the table's levels.

    `share` of the elements may miss `atol` (a decision that falls the other way by a rounding),
    but none by more than ten times the bound.
    """
    assert found.shape == expected.shape, f"shape {tuple(found.shape)} != {tuple(expected.shape)}"
    if found.numel() == 0:
        return
    allowed = TOLERANCES.get(found.dtype, 1e-5)
    if not found.is_floating_point():
        scale = 255 if found.dtype == torch.uint8 else 65535
        allowed += atol * scale
        bound = torch.full(found.shape, allowed, dtype=torch.float64, device=found.device)
    else:
        bound = max(atol, allowed) + rtol * expected.double().abs()
    f, e = found.to(torch.float64), expected.to(torch.float64)
    error = (f - e).abs()
    error[f.isnan() & e.isnan()] = 0
    error[error.isnan()] = float("inf")
    off = error > bound
    worst = int((error - bound).argmax())
    message = (
        f"{int(off.sum())} of {off.numel()} off; worst at {worst}: {f.flatten()[worst]:.8g}, "
        f"expected {e.flatten()[worst]:.8g}, bound {bound.flatten()[worst]:.2g}"
    )
    assert off.double().mean() <= share, message
    assert (error <= 10 * bound).all(), message


def assert_gradient_close(
    found: Tensor, expected: Tensor, what: str, *, exact: Tensor | None = None,
    relative: float = 5e-4, share: float = 0.005,
) -> None:  # fmt: skip
    """Gradients as vectors (relative L2, cosine) and as values.

    `exact` is the same gradient in float64: where the float32 reference itself misses it, the
    value hangs on a rounding (a clamp or a tie that falls the other way, a power near 0), and is
    left out. A small `share` of the others may still fall the other way in one of the two.
    """
    assert found is not None, f"{what}: no gradient"
    assert found.shape == expected.shape
    if found.numel() == 0:
        return
    f, e = found.double().flatten(), expected.double().flatten()
    assert f.isfinite().all(), f"{what}: not finite"
    if exact is not None:
        sound = (e - exact.flatten()).abs() <= 1e-3 * exact.flatten().abs() + 1e-9
        assert sound.double().mean() > 0.9, f"{what}: the sample is ill-conditioned"
        f, e = f[sound], e[sound]
    scale = e.norm() / e.numel() ** 0.5
    off = (f - e).abs() > 1e-3 * (scale + e.abs())
    assert off.double().mean() <= share, f"{what}: {int(off.sum())} of {off.numel()} values differ"
    keep = ~off
    error = (f - e)[keep].norm() / (e[keep].norm() + 1e-12)
    assert error <= relative or (f - e).abs().max() < 1e-7, f"{what}: relative error {error:.2e}"
    if e.norm() > 1e-9:
        cosine = torch.dot(f, e) / (f.norm() * e.norm() + 1e-30)
        assert cosine > 0.999, f"{what}: cosine {cosine:.6f}"


def poison(tensor: Tensor) -> Tensor:
    """Fills an output buffer with values no kernel would write."""
    if tensor.is_floating_point():
        return tensor.fill_(float("nan"))
    return tensor.fill_(113)


def library_samples() -> dict[str, Tensor]:
    """Images [2,3,h,w] of every kind of memory, for `torch.library.opcheck`."""
    v = natural(2, 8, 9, seed=0)
    return {
        "contiguous": v,
        "transposed": v.transpose(2, 3).contiguous().transpose(2, 3),
        "channels_last": v.contiguous(memory_format=torch.channels_last),
        "sliced": natural(2, 16, 20, seed=0)[:, :, ::2, 1:19:2],
        "expanded": natural(1, 8, 9, seed=0).expand(2, 3, 8, 9),
        "empty": v[:, :, :0],
    }

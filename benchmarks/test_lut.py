# SPDX-License-Identifier: Apache-2.0
"""3-D look-up tables beside ffmpeg's lut3d, 5-D grid_sample and a plain copy.

pytest benchmarks/test_lut.py -s            the full measurement, results kept
pytest benchmarks/test_lut.py -s --quick    that it works
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from common import THREADS, Subject, compare, publish
from torch import Tensor

from vharm import ops
from vharm.ops import apply_lut, fit_lut, masked_moments
from vharm.ops.reference.lut import identity

SIZE = 33


pytestmark = pytest.mark.usefixtures("two_threads")


def grade(device: torch.device) -> Tensor:
    """A curve and some cross-talk, inside [0,1]."""
    v = identity(SIZE, torch.zeros(1, device=device))
    mix = torch.tensor([[0.9, 0.05, 0.0], [0.1, 0.95, 0.2], [0.0, 0.0, 0.8]], device=device)
    return (v @ mix) ** 0.8


def noise(height: int, width: int) -> Tensor:
    """Every pixel another cell: no cache line is used twice in a row."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, height, width, 3), generator=generator, dtype=torch.uint8)


def scene(height: int, width: int) -> Tensor:
    """Smooth shading, edges and grain, with the locality of a photograph."""
    y, x = torch.linspace(0, 6, height)[:, None], torch.linspace(0, 9, width)[None]
    red = 0.5 + 0.4 * torch.sin(x + y)
    green = 0.45 + 0.3 * torch.cos(x * y / 4)
    blue = 0.5 + 0.35 * torch.sin(y - x / 5)
    patches = (torch.sin(9 * x) * torch.sin(7 * y) > 0.4).float() * 0.2
    grain = torch.randn(3, height, width, generator=torch.Generator().manual_seed(1)) * 0.012
    frame = (torch.stack([red, green, blue]) - patches + grain).clamp(0, 1) * 255
    return frame.round().to(torch.uint8).permute(1, 2, 0)[None].contiguous()


PICTURES = {"noise": noise, "scene": scene}


class Ffmpeg:
    """`lut3d`, tetrahedral, in a filter graph of two threads, over one rgb24 frame."""

    def __init__(self, image: Tensor, lut: Tensor, folder: Path) -> None:
        av = pytest.importorskip("av")
        cube = folder / "table.cube"
        # A .cube file runs through red first.
        rows = lut.permute(2, 1, 0, 3).reshape(-1, 3).tolist()
        lines = [f"LUT_3D_SIZE {SIZE}", *(f"{r:.7f} {g:.7f} {b:.7f}" for r, g, b in rows)]
        cube.write_text("\n".join(lines) + "\n")
        self.frame = av.VideoFrame.from_ndarray(image[0].cpu().numpy(), format="rgb24")
        self.graph = av.filter.Graph()
        self.graph.threads = THREADS
        source = self.graph.add_buffer(
            width=image.shape[2], height=image.shape[1], format="rgb24", time_base="1/25"
        )
        lut3d = self.graph.add("lut3d", f"file={cube}:interp=tetrahedral")
        sink = self.graph.add("buffersink")
        source.link_to(lut3d)
        lut3d.link_to(sink)
        self.graph.configure()
        self.count = 0

    def run(self) -> object:
        self.frame.pts = self.count
        self.count += 1
        self.graph.push(self.frame)
        return self.graph.pull()

    @staticmethod
    def pixels(result: object) -> Tensor:
        return torch.from_numpy(result.to_ndarray(format="rgb24").astype(np.int32))[None]


def by_grid_sample(image: Tensor, lut: Tensor) -> Tensor:
    """What a PyTorch user writes: x is blue's axis; float32 in and out."""
    grid = image.permute(0, 2, 3, 1).flip(-1)[:, None] * 2 - 1
    return F.grid_sample(lut.permute(3, 0, 1, 2)[None], grid, align_corners=True)[:, :, 0]


def near(expected: Tensor, atol: float) -> Callable[[Tensor], None]:
    return lambda found: torch.testing.assert_close(found, expected, atol=atol, rtol=0)


@pytest.mark.benchmark
@pytest.mark.parametrize("picture", PICTURES)
def test_apply_lut(picture: str, device, quick: bool, tmp_path: Path) -> None:
    height, width = (270, 480) if quick else (1080, 1920)
    lut, image = grade(device), PICTURES[picture](height, width).to(device)
    planar = (image.permute(0, 3, 1, 2) / 255).contiguous()
    some = torch.zeros(1, height, width, 1, dtype=torch.uint8, device=device)
    some[:, height // 4 : 3 * height // 4, width // 4 : width // 2] = 255
    with ops.backend("reference"):
        exact = apply_lut(image, lut, layout="NHWC").int()
        exact_float = apply_lut(planar, lut)
        exact_trilinear = apply_lut(planar, lut, interpolation="trilinear")

    def levels_off(found: Tensor) -> Tensor:
        error = (found.cpu().int() - exact.cpu()).abs()
        assert error.max() <= 1
        return (error > 0).double().mean()

    share = levels_off(apply_lut(image, lut, layout="NHWC")).item()
    assert share < 0.005
    subjects = [
        Subject("apply_lut, uint8", lambda: apply_lut(image, lut, layout="NHWC"), levels_off),
        Subject("apply_lut, uint8, mask on 1/8",
                lambda: apply_lut(image, lut, some, layout="NHWC")),
        Subject("apply_lut, float32", lambda: apply_lut(planar, lut), near(exact_float, 1e-5)),
        Subject(
            "apply_lut, float32, trilinear",
            lambda: apply_lut(planar, lut, interpolation="trilinear"), near(exact_trilinear, 1e-5),
        ),
        Subject("grid_sample 5-D, float32", lambda: by_grid_sample(planar, lut),
                near(exact_trilinear, 1e-5), rounds=7),
    ]  # fmt: skip
    if device.type == "cpu":
        ffmpeg = Ffmpeg(image, lut, tmp_path)
        subjects.append(
            Subject("ffmpeg lut3d, rgb24", ffmpeg.run, lambda f: levels_off(ffmpeg.pixels(f)))
        )
    table = compare(
        f"apply_lut, {picture}, {SIZE}^3 tetrahedral, {width}x{height}", subjects,
        rounds=2 if quick else 15, device=device, copy_bytes=image.numel(),
        **{"8-bit samples off by one level": f"{100 * share:.3f} %"},
    )  # fmt: skip
    publish(f"lut-{picture}", [table], device, keep=not quick)
    if quick or device.type != "cpu":
        return
    assert table.ratio("ffmpeg lut3d, rgb24") >= 2
    assert table.ratio("grid_sample 5-D, float32") >= 6


@pytest.mark.benchmark
def test_backward(device, quick: bool) -> None:
    height, width = (270, 480) if quick else (1080, 1920)
    lut = grade(device).requires_grad_()
    image = (scene(height, width).to(device).permute(0, 3, 1, 2) / 255).contiguous()
    image.requires_grad_()
    weight = torch.rand(image.shape, generator=torch.Generator().manual_seed(2)).to(device)

    def gradients(run: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad((run(image, lut) * weight).sum(), (image, lut))

    def trilinear(image: Tensor, lut: Tensor) -> Tensor:
        return apply_lut(image, lut, interpolation="trilinear")

    expected = gradients(by_grid_sample)

    def close(found: tuple[Tensor, ...]) -> None:
        for f, e in zip(found, expected, strict=True):
            assert (f - e).norm() < 1e-3 * e.norm()

    table = compare(
        f"apply_lut, forward + backward to image and table, float32 {width}x{height}",
        [
            Subject("trilinear", lambda: gradients(trilinear), close),
            Subject("tetrahedral", lambda: gradients(apply_lut)),
            Subject("grid_sample 5-D", lambda: gradients(by_grid_sample), close),
        ],
        rounds=1 if quick else 7, device=device, copy_bytes=image.numel() * 4,
    )  # fmt: skip
    publish("lut-backward", [table], device, keep=not quick)


@pytest.mark.benchmark
def test_fit_and_moments(device, quick: bool) -> None:
    height, width = (270, 480) if quick else (1080, 1920)
    source = scene(height, width).to(device)
    target = apply_lut(source, grade(device), layout="NHWC")
    mask = torch.ones(1, height, width, 1, device=device)
    flat, weight = source.reshape(-1, 3) / 255, mask.reshape(-1, 1)
    with ops.backend("reference"):
        exact = masked_moments(source, mask, layout="NHWC")[1]
        fitted = fit_lut(source, target, mask, layout="NHWC")[0]

    def in_pytorch() -> Tensor:
        centred = flat - (weight * flat).sum(0) / weight.sum()
        return ((weight * centred).T @ centred / weight.sum())[None]

    def moments() -> Tensor:
        return masked_moments(source, mask, layout="NHWC")[1]

    table = compare(
        f"masked_moments and fit_lut ({SIZE}^3), uint8 {width}x{height}",
        [
            Subject("masked_moments", moments, near(exact, 1e-5)),
            Subject("the same in PyTorch, float32", in_pytorch, near(exact, 1e-4)),
            Subject("fit_lut", lambda: fit_lut(source, target, mask, layout="NHWC")[0],
                    near(fitted, 1e-3)),
        ],
        rounds=1 if quick else 9, device=device, copy_bytes=source.numel(),
    )  # fmt: skip
    publish("statistics", [table], device, keep=not quick)

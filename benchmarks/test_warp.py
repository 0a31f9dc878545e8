# SPDX-License-Identifier: Apache-2.0
"""Warps beside grid_sample and OpenCV's remap, smooth flows and the worst case.

pytest benchmarks/test_warp.py -s            the full measurement, results kept
pytest benchmarks/test_warp.py -s --quick    that it works

grid_sample gets its grid, and remap its maps, ready made: building them from a flow is not in their
times. grid_sample shares out the images of a batch among threads, not the rows of one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from common import THREADS, Subject, compare, peak_extra, publish
from torch import Tensor

from vharm import ops
from vharm.ops import flow_consistency, flow_warp, temporal_loss

FLOWS = ("smooth", "random")


pytestmark = pytest.mark.usefixtures("two_threads")


def size(quick: bool) -> tuple[int, int]:
    return (270, 480) if quick else (1080, 1920)


def coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return x.float(), y.float()


def make_flow(kind: str, height: int, width: int) -> Tensor:
    """Up to six pixels, turning over a few hundred; or every pixel anywhere."""
    if kind == "random":
        generator = torch.Generator().manual_seed(1)
        return torch.randn(1, 2, height, width, generator=generator) * height / 3
    x, y = coordinates(height, width)
    dx = 4 * torch.sin(x / 200) + 2 * torch.cos(y / 150)
    dy = 3 * torch.cos(x / 180 + 1) + 2 * torch.sin(y / 170)
    return torch.stack([dx, dy])[None]


def picture(height: int, width: int, seed: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def make_grid(flow: Tensor) -> Tensor:
    height, width = flow.shape[2:]
    x, y = coordinates(height, width)
    u, v = x + flow[:, 0].cpu(), y + flow[:, 1].cpu()
    grid = torch.stack([u * 2 / (width - 1) - 1, v * 2 / (height - 1) - 1], -1)
    return grid.to(flow.device)


def by_grid_sample(image: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image, grid, align_corners=True)


def near(expected: Tensor, atol: float) -> Callable[[Tensor], None]:
    def check(found: Tensor) -> None:
        # A grid in [-1,1] places samples a few thousandths of a pixel off.
        assert (found.cpu() - expected.cpu()).abs().mean() < atol

    return check


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", FLOWS)
def test_forward(kind: str, device, quick: bool) -> None:
    height, width = size(quick)
    image, flow = picture(height, width, 0).to(device), make_flow(kind, height, width).to(device)
    grid = make_grid(flow)
    packed, field = (t.permute(0, 2, 3, 1).contiguous() for t in (image, flow))
    bytes_ = (packed * 255).round().to(torch.uint8)
    with ops.backend("reference"):
        exact = flow_warp(image, flow)
    exact_packed = exact.permute(0, 2, 3, 1)
    subjects = [
        Subject("flow_warp, NCHW", lambda: flow_warp(image, flow), near(exact, 1e-6)),
        Subject("flow_warp, NHWC", lambda: flow_warp(packed, field, layout="NHWC"),
                near(exact_packed, 1e-6)),
        Subject("flow_warp, NHWC, uint8", lambda: flow_warp(bytes_, field, layout="NHWC")),
        Subject("grid_sample", lambda: by_grid_sample(image, grid), near(exact, 1e-3)),
    ]  # fmt: skip
    if device.type == "cpu":
        cv2 = pytest.importorskip("cv2")
        cv2.setNumThreads(THREADS)
        x, y = coordinates(height, width)
        maps = (x + flow[0, 0]).numpy(), (y + flow[0, 1]).numpy()
        for name, source in (("float32", packed), ("uint8", bytes_)):
            array = source[0].numpy()
            subjects.append(
                Subject(f"OpenCV remap, NHWC, {name}",
                        lambda array=array: cv2.remap(array, *maps, cv2.INTER_LINEAR))
            )  # fmt: skip
    table = compare(
        f"flow_warp, {kind} flow, float32 {width}x{height}, 3 channels", subjects,
        rounds=2 if quick else 15, device=device, copy_bytes=image.numel() * 4,
    )  # fmt: skip
    publish(f"warp-{kind}", [table], device, keep=not quick)
    if quick or device.type != "cpu" or kind == "random":
        return
    assert table.ratio("grid_sample") >= 2.5
    remap = table.ratio("OpenCV remap, NHWC, float32")
    assert table.ratio("flow_warp, NHWC") <= remap


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", FLOWS)
def test_backward(kind: str, device, quick: bool) -> None:
    height, width = size(quick)
    image = picture(height, width, 0).to(device).requires_grad_()
    flow = make_flow(kind, height, width).to(device).requires_grad_()
    weight = picture(height, width, 2).to(device)
    grid = make_grid(flow.detach()).requires_grad_()
    packed, field, packed_weight = (
        t.detach().permute(0, 2, 3, 1).contiguous() for t in (image, flow, weight)
    )
    packed.requires_grad_()
    field.requires_grad_()
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1)], device=device)
    peer = torch.autograd.grad(by_grid_sample(image, grid), (image, grid), weight)
    expected = peer[0], (peer[1] * scale).permute(0, 3, 1, 2)

    def close(found: tuple[Tensor, ...]) -> None:
        for f, e in zip(found, expected, strict=True):
            assert (f - e).norm() < 2e-2 * e.norm()  # the grid's rounding, and cells it crosses

    def packed_close(found: tuple[Tensor, ...]) -> None:
        close(tuple(f.permute(0, 3, 1, 2) for f in found))

    def gradients(run: Callable[..., Tensor], leaves: tuple[Tensor, ...], by: Tensor):
        return torch.autograd.grad(run(*leaves), leaves, by)

    table = compare(
        f"flow_warp, forward + backward to image and flow, {kind} flow, {width}x{height}",
        [
            Subject("flow_warp, NCHW", lambda: gradients(flow_warp, (image, flow), weight), close),
            Subject(
                "flow_warp, NHWC",
                lambda: gradients(
                    lambda i, f: flow_warp(i, f, layout="NHWC"), (packed, field), packed_weight
                ),
                packed_close,
            ),
            Subject("grid_sample", lambda: gradients(by_grid_sample, (image, grid), weight)),
        ],
        rounds=1 if quick else 11, device=device, copy_bytes=image.numel() * 4,
    )  # fmt: skip
    publish(f"warp-backward-{kind}", [table], device, keep=not quick)
    if not quick and device.type == "cpu" and kind == "smooth":
        assert table.ratio("grid_sample") >= 3


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", FLOWS)
def test_temporal_loss(kind: str, device, quick: bool) -> None:
    height, width = size(quick)
    current, previous = (picture(height, width, s).to(device).requires_grad_() for s in (0, 1))
    flow = make_flow(kind, height, width).to(device)
    grid = make_grid(flow)
    some = torch.zeros(1, 1, height, width, device=device)
    some[:, :, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1

    def eager(mask: Tensor) -> tuple[Tensor, ...]:
        inside = (grid.abs() <= 1).all(-1)[:, None]
        weight = mask * inside
        difference = weight * (current - by_grid_sample(previous, grid))
        loss = difference.square().mean(1).sum((1, 2)) / weight.sum((1, 2, 3))
        return torch.autograd.grad(loss.sum(), (current, previous))

    def fused(mask: Tensor) -> tuple[Tensor, ...]:
        loss = temporal_loss(current, previous, flow, mask)
        return torch.autograd.grad(loss.sum(), (current, previous))

    expected = eager(some)

    def close(found: tuple[Tensor, ...]) -> None:
        for f, e in zip(found, expected, strict=True):
            assert (f - e).norm() < 2e-2 * e.norm()

    whole = torch.ones_like(some)
    notes = {}
    if device.type == "cpu":
        returned = 2 * current.numel() * 4
        mine, peers = (max(peak_extra(lambda r=r: r(some)) - returned, 1) for r in (fused, eager))
        notes["peak memory beyond the gradients"] = (
            f"{mine / 2**20:.2f} MiB, eager {peers / 2**20:.1f} MiB"
        )
        assert mine < peers / 4
    table = compare(
        f"temporal_loss, forward + backward to both frames, {kind} flow, {width}x{height}",
        [
            Subject("temporal_loss, mask on 1/4", lambda: fused(some), close),
            Subject("temporal_loss, whole frame", lambda: fused(whole)),
            Subject("warp and loss in PyTorch, mask on 1/4", lambda: eager(some)),
            Subject("warp and loss in PyTorch, whole frame", lambda: eager(whole)),
        ],
        rounds=1 if quick else 11, device=device, copy_bytes=current.numel() * 4, **notes,
    )  # fmt: skip
    publish(f"temporal-loss-{kind}", [table], device, keep=not quick)
    if not quick and device.type == "cpu" and kind == "smooth":
        whole_frame = table.ratio("temporal_loss, whole frame")
        assert table.ratio("warp and loss in PyTorch, whole frame") >= 4 * whole_frame
        assert table.ratio("warp and loss in PyTorch, mask on 1/4") >= 4


@pytest.mark.benchmark
def test_consistency(device, quick: bool) -> None:
    height, width = size(quick)
    forward = make_flow("smooth", height, width).to(device)
    backward = -forward.roll(3, 3)

    def eager() -> Tensor:
        grid = make_grid(forward)
        back = F.grid_sample(backward, grid, align_corners=True, padding_mode="border")
        gap = (forward + back).square().sum(1, keepdim=True)
        both = (forward.square() + back.square()).sum(1, keepdim=True)
        return (gap < 0.01 * both + 0.5) & (grid.abs() <= 1).all(-1)[:, None]

    expected = eager()

    def close(found: Tensor) -> None:
        assert (found != expected).float().mean() < 1e-3

    table = compare(
        f"flow_consistency, smooth flows, {width}x{height}",
        [Subject("flow_consistency", lambda: flow_consistency(forward, backward), close),
         Subject("the same in PyTorch", eager)],
        rounds=2 if quick else 11, device=device, copy_bytes=forward.numel() * 4,
    )  # fmt: skip
    publish("flow-consistency", [table], device, keep=not quick)

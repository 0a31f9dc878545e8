# SPDX-License-Identifier: Apache-2.0
"""Windows of 3, 5 and 7 frames in the video network of Chen et al.: what each frame costs.

pytest benchmarks/test_windows.py -s            the full measurement, results kept
pytest benchmarks/test_windows.py -s --quick    that it works

Subjects: a shot as the method streams it (each frame passes the base once, each flow is estimated
once), and every window by itself, as in the paper: with vharm's kernels and on the reference
backend. Flow estimation is part of all.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from common import Subject, compare, publish
from torch import Tensor

from vharm import ops
from vharm.methods.chen import ChenMethod
from vharm.models.chen import Chen
from vharm.models.weights import save_weights

LENGTHS = (5, 3, 7)
STREAMED, ALONE, REFERENCE = "streamed", "window by window", "window by window, reference backend"


pytestmark = pytest.mark.usefixtures("two_threads")


def moving_clip(count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A smooth picture that moves by two pixels a frame, and a foreground of a fifth of it."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 12, generator=source)
    wide = torch.nn.functional.interpolate(coarse, (size, size + 2 * count), mode="bicubic")
    frames = torch.cat([wide[..., 2 * i : 2 * i + size] for i in range(count)]).clamp(0, 1)
    masks = torch.zeros(count, 1, size, size)
    side = round(size * 0.2**0.5)
    first = (size - side) // 2
    masks[..., first : first + side, first : first + side] = 1
    return frames.to(device).contiguous(), masks.to(device)


def method_of(length: int, size: int, folder: Path, device: torch.device) -> ChenMethod:
    """Weights do not matter for time; they must for the check: the output does not start at 0."""
    torch.manual_seed(0)
    network = Chen({"input_size": size}, frames=length)
    torch.nn.init.normal_(network.output.weight, std=0.01)
    path = folder / f"chen-{length}.safetensors"
    save_weights(path, network, architecture=Chen.architecture, config=network.settings())
    return ChenMethod(path, device=device)


@torch.no_grad()
def window_by_window(method: ChenMethod, frames: Tensor, masks: Tensor) -> Tensor:
    network, last = method.network, len(frames) - 1
    offsets = sorted((*network.offsets, 0))
    made = []
    for at in range(len(frames)):
        own = [min(max(at + offset, 0), last) for offset in offsets]
        others = [i for i, offset in zip(own, offsets, strict=True) if offset]
        flows = method.flow(frames[at].expand(len(others), -1, -1, -1), frames[others])
        made.append(network(frames[own][None], masks[own][None], flows[None]))
    return torch.cat(made).clamp(0, 1)


@pytest.mark.benchmark
def test_window_lengths(device, quick: bool, tmp_path: Path) -> None:
    size, count = (32, 9) if quick else (256, 6)
    frames, masks = moving_clip(count, size, device)
    tables = []
    for length in LENGTHS[:1] if quick else LENGTHS:
        method = method_of(length, size, tmp_path, device)
        expected = window_by_window(method, frames, masks)
        change = (expected - frames).square().mean().sqrt()
        assert change > 0.01, "nothing was painted: agreement would mean nothing"

        def near(found: Tensor, expected: Tensor = expected, change: Tensor = change) -> None:
            assert (found - expected).square().mean().sqrt() < 1e-3 * change

        def streamed(method: ChenMethod = method) -> Tensor:
            return method.render(frames, masks)

        def alone(method: ChenMethod = method) -> Tensor:
            return window_by_window(method, frames, masks)

        def on_reference(method: ChenMethod = method) -> Tensor:
            with ops.backend("reference"):
                return window_by_window(method, frames, masks)

        subjects = [
            Subject(STREAMED, streamed, near),
            Subject(ALONE, alone, near, 1 if quick else 2),
        ]
        if length == LENGTHS[0]:  # many seconds a shot
            subjects.append(Subject(REFERENCE, on_reference, near, 1))
        title = f"{length} frames, {size}x{size}, a shot of {count} frames"
        table = compare(title, subjects, rounds=1 if quick else 3, device=device)
        each = ", ".join(f"{row.name} {row.median_ms / count:.0f}" for row in table.rows)
        table.notes["ms per frame"] = each
        tables.append(table)
    publish("windows", tables, device, keep=not quick)
    if not quick and device.type == "cpu":
        for table in tables:
            assert table.ratio(ALONE) > 1.5, table.title

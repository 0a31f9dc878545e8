# SPDX-License-Identifier: Apache-2.0
"""Small composites with true answers."""

from __future__ import annotations

import pytest
import torch

from vharm.data.types import Sample


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_sample(name: str, frames: int = 1, size=(40, 48), *, seed=0, box=(8, 30, 10, 34),
                subset="", target=True, flow=False, shift=1) -> Sample:  # fmt: skip
    """A textured picture, panned by `shift` pixels a frame, its box too dark and too blue."""
    height, width = size
    generator = torch.Generator().manual_seed(seed)
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, 8, 8, generator=generator),
        (height, width + shift * frames), mode="bilinear", align_corners=True,
    )[0]  # fmt: skip
    texture = 0.08 * torch.rand(3, height, width + shift * frames, generator=generator)
    wide = (60 + 150 * wide + 255 * texture).clamp(0, 255).round()
    truth = torch.stack([wide[:, :, shift * t : shift * t + width] for t in range(frames)])
    masks = torch.zeros(frames, 1, height, width, dtype=torch.uint8)
    masks[:, :, box[0] : box[1], box[2] : box[3]] = 255
    gains = torch.tensor([0.6, 0.7, 1.1])[:, None, None]
    pasted = torch.where(masks > 0, (truth * gains).clamp(0, 255).round(), truth)
    moved = None
    if flow:
        moved = torch.zeros(frames - 1, 2, height, width)
        moved[:, 0] = shift
    return Sample(name, pasted.byte(), masks, truth.byte() if target else None, subset, moved)


@pytest.fixture
def sample_maker():
    return make_sample

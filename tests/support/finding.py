# SPDX-License-Identifier: Apache-2.0
"""A method that finds orange things, so that clips without masks can be tested without weights."""

from __future__ import annotations

import torch

from vharm.looks import LutLook
from vharm.methods import Method


class FindsOrange(Method):
    """Its map follows red minus blue; what it finds is darkened.

    Args:
        sure: the map's highest value.
        size: (h, w) it works at.
    """

    name, summary, when_to_use, source = "finds-orange", "a test", "in tests.", "none"
    predicts_masks = True

    def __init__(self, *, sure=1.0, size=(24, 32), batch=4):
        self.sure, self.size, self.batch = sure, size, batch
        self.asked = []

    def working_size(self, height, width):
        return self.size

    def predict_masks(self, frames):
        self.asked.append(len(frames))
        return self.sure * (2 * (frames[:, :1] - frames[:, 2:])).clamp(0, 1)

    def estimate(self, frames, masks, *, background=None, background_weight=None):
        self.request(frames, masks, background, background_weight)
        self.masks = masks
        return [LutLook(LutLook.identity(2).grid * 0.5) for _ in frames]


def orange_clip(count=4, height=48, width=64, first=0):
    """uint8 [T,H,W,3] and masks bool [T,H,W]: an orange square over blue, from frame `first`."""
    frames = torch.zeros(count, height, width, 3, dtype=torch.uint8)
    frames[...] = torch.tensor([40, 60, 150], dtype=torch.uint8)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for number in range(first, count):
        left = 8 + 4 * number
        masks[number, 12:36, left : left + 24] = True
    frames[masks] = torch.tensor([220, 130, 30], dtype=torch.uint8)
    return frames.numpy(), masks.numpy()

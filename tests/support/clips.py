# SPDX-License-Identifier: Apache-2.0
"""Small clips, masks, a method and a writer for tests of what a clip goes through."""

from __future__ import annotations

import signal

import numpy as np
import torch

from vharm.looks import LutLook
from vharm.media import ColorSpec, Frame, Mask
from vharm.methods import Method


class ListWriter:
    """Keeps the frames it is given."""

    def __init__(self, fail_at=None, error=None):
        self.frames, self.state, self.warnings = [], "open", []
        self._fail_at, self._error = fail_at, error

    def write(self, frame):
        if len(self.frames) == self._fail_at:
            raise self._error
        self.frames.append(frame)

    def close(self):
        self.state = "closed"

    def abort(self):
        self.state = "aborted"


class Shift(Method):
    """Adds amounts to all colours: the n-th frame it ever sees gets the n-th amount."""

    name = "shift"
    summary = when_to_use = source = "a test"

    def __init__(self, *amounts, look_ahead=0, batch=4):
        self.amounts, self.batch = amounts, batch
        type(self).look_ahead = look_ahead
        self.calls, self.seen = [], 0

    def estimate(self, frames, masks, *, background=None, background_weight=None):
        self.calls.append((frames, masks, background, background_weight))
        looks = []
        for i in range(len(frames)):
            amount = self.amounts[(self.seen + i) % len(self.amounts)]
            grid = LutLook.identity(2).grid + amount
            looks.append(LutLook(grid))
        self.seen += max(len(frames) - self.look_ahead, 1)
        return looks


def texture(height, width, seed=0, low=60, high=180):
    """Smooth noise, so that thumbnails look like pictures."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 5, 6), dtype=np.float32))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (low + (high - low) * fine[0].clamp(0, 1)).numpy().transpose(1, 2, 0)


def yuv_frame(index, height=48, width=64, *, seed=0, depth=8, subsampling=(1, 1), rate=25, gain=1):
    """A frame of three textured planes in the limited range."""
    picture = texture(height, width, seed) * gain
    # Little colour, so that no sample leaves RGB's range and is clamped.
    picture[..., 1:] = 128 + 0.15 * (picture[..., 1:] - 120)
    picture *= 1 << (depth - 8)
    color = ColorSpec("yuv", depth, subsampling, "bt709", full_range=False)
    planes = []
    for number, shape in enumerate(color.plane_shapes(width, height)):
        steps = (picture.shape[0] // shape[0] or 1, picture.shape[1] // shape[1] or 1)
        plane = picture[:: steps[0], :: steps[1], number][: shape[0], : shape[1]]
        rows, columns = shape[0] - plane.shape[0], shape[1] - plane.shape[1]
        planes.append(np.pad(plane, ((0, rows), (0, columns)), "edge").astype(color.dtype))
    return Frame(tuple(planes), color, index=index, time=index / rate)


def box_mask(height=48, width=64, top=10, left=12, size=20, soft=True):
    data = np.zeros((height, width), np.uint8)
    data[top : top + size, left : left + size] = 255
    if soft:
        data[top, left : left + size] = 100
    return Mask(data)


def clip(count, **options):
    return [yuv_frame(i, **options) for i in range(count)]


def outside(mask, shape):
    """Where no luma site under a sample of a plane of that shape is touched."""
    touched = np.asarray(mask.data) > mask.black
    steps = [-(-full // part) for full, part in zip(touched.shape, shape, strict=True)]
    rows, columns = (part * step for part, step in zip(shape, steps, strict=True))
    wide = np.zeros((rows, columns), bool)
    wide[: touched.shape[0], : touched.shape[1]] = touched
    return ~wide.reshape(shape[0], steps[0], shape[1], steps[1]).any((1, 3))


def can_be_interrupted() -> None:
    """For `preexec_fn`: a program started in the background inherits an ignored Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

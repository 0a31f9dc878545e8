# SPDX-License-Identifier: Apache-2.0
"""Tiny clips, and the command run inside the test."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

# Read when typer is imported; CI services make it colour its output otherwise.
os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"

pytest.importorskip("av")
pytest.importorskip("typer")

from typer.testing import CliRunner

from vharm.cli.app import app
from vharm.media import ColorSpec, Frame, open_writer

WIDTH, HEIGHT, FRAMES = 64, 48, 6


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def vharm():
    """Runs the command with these arguments and gives typer's Result."""

    def run(*arguments: object):
        runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"})
        return runner.invoke(app, [str(a) for a in arguments])

    return run


def write_clip(path: Path, pictures: list[np.ndarray], rate: int = 25) -> Path:
    """A video of uint8 RGB [H,W,3] or grey [H,W] pictures, coded almost without loss."""
    with open_writer(path, frame_rate=rate, crf=6) as writer:
        for index, picture in enumerate(pictures):
            color = ColorSpec("rgb" if picture.ndim == 3 else "gray", 8)
            writer.write(Frame((picture,), color, index, index, Fraction(1, rate), 1, index / rate))
    return path


def composite_pictures(count: int = FRAMES) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A blue ramp with an orange square moving over it, and the square's masks."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    behind = np.stack([60 + rows, 80 + columns, 150 + rows], -1).astype(np.uint8)
    pictures, masks = [], []
    for index in range(count):
        picture, mask = behind.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        where = np.s_[12:36, 10 + 2 * index : 34 + 2 * index]
        picture[where] = np.stack([230 - rows, 120 + columns // 2, 40 + 0 * rows], -1)[where]
        mask[where] = 255
        pictures.append(picture)
        masks.append(mask)
    return pictures, masks


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Path, Path]:
    """composite.mp4 and mask.mp4, 64x48, 6 frames."""
    pictures, masks = composite_pictures()
    return write_clip(tmp_path / "composite.mp4", pictures), write_clip(
        tmp_path / "mask.mp4", masks
    )

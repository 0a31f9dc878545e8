# SPDX-License-Identifier: Apache-2.0
"""The grid figure on pictures with and without a grid."""

from __future__ import annotations

import pytest
import torch

from vharm.evaluation.grid import GridEnergy, grid_energy

PATCH = 16


def noise(count=3, size=(64, 96)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def with_grid(image, step=0.1):
    """A checkerboard of patches, lighter and darker."""
    rows = torch.arange(image.shape[2]) // PATCH
    columns = torch.arange(image.shape[3]) // PATCH
    return 0.5 * image + step * ((rows[:, None] + columns) % 2)


def test_a_picture_without_a_grid_gives_one():
    ratio = grid_energy(noise(), patch=PATCH).ratio()
    assert ratio.shape == (3,)
    assert ((ratio - 1).abs() < 0.15).all()
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    torch.testing.assert_close(
        grid_energy(ramp, patch=PATCH).ratio(), torch.ones(1, dtype=torch.float64),
        atol=1e-3, rtol=0,
    )  # fmt: skip


def test_a_grid_shows_at_its_place_and_grows_with_its_step():
    plain, faint, strong = (
        grid_energy(with_grid(noise(), step), patch=PATCH).ratio() for step in (0, 0.1, 0.3)
    )
    assert (faint > plain + 0.1).all()
    assert (strong > faint + 0.5).all()
    beside = grid_energy(with_grid(noise(), 0.3), patch=PATCH, offset=(8, 8)).ratio()
    assert (beside < 1).all()
    moved = with_grid(noise(), 0.3)[:, :, 3:, 5:]  # a grid, but not where patches meet
    assert (grid_energy(moved, patch=PATCH).ratio() < 1).all()
    found = grid_energy(moved, patch=PATCH, offset=(13, 11)).ratio()
    assert (found > strong - 0.5).all()


def test_its_value_by_hand():
    steps = (torch.arange(32) // PATCH * 0.5).expand(1, 1, 32, 32) + 0.0
    steps[..., 0] = 0.2  # one pair inside differs by 0.2 in each row
    energy = grid_energy(steps, patch=PATCH)
    assert energy.borders.item() == 64
    assert energy.insides.item() == 2 * 31 * 32 - 64
    assert energy.border.item() == pytest.approx(32 * 0.25)
    assert energy.inside.item() == pytest.approx(32 * 0.04)


def test_only_pairs_inside_the_mask_count():
    image = with_grid(noise(), 0.3)
    mask = torch.zeros(3, 1, 64, 96)
    mask[:, :, 17:31, 17:31] = 1  # within one patch
    energy = grid_energy(image, mask, patch=PATCH)
    assert (energy.borders == 0).all()
    assert energy.ratio().isnan().all()
    mask[0, :, 8:40, 8:40] = 1
    pooled = grid_energy(image, mask, patch=PATCH).ratio(pooled=True)
    assert pooled > 1.5


def test_bytes_and_floats_agree():
    levels = (with_grid(noise()) * 255).round().byte()
    torch.testing.assert_close(
        grid_energy(levels).ratio(), grid_energy(levels.float() / 255).ratio(), atol=1e-6, rtol=1e-6
    )
    assert isinstance(grid_energy(levels), GridEnergy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid_energy(torch.rand(3, 8, 8)), r"image: expected \[N,C,H,W\]"),
        (lambda: grid_energy(torch.rand(1, 3, 8, 8), patch=1), "patch: expected 2 or more"),
        (lambda: grid_energy(torch.rand(1, 3, 8, 8), torch.ones(1, 1, 4, 8)), "mask: expected"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

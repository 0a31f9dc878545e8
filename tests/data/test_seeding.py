# SPDX-License-Identifier: Apache-2.0
"""Numbers that depend on what they are for alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vharm
from vharm.data import seeding


def draw(*key: int) -> list[float]:
    return torch.rand(3, generator=seeding.generator(*key)).tolist()


def test_same_key_same_numbers() -> None:
    torch.manual_seed(0)
    first = draw(3, 1, 4)
    torch.manual_seed(99)
    torch.rand(5)
    assert draw(3, 1, 4) == first


@pytest.mark.parametrize("other", [(4, 1, 4), (3, 2, 4), (3, 4, 1), (3, 1), (3, 1, 4, 1)])
def test_other_key_other_numbers(other: tuple[int, ...]) -> None:
    assert draw(*other) != draw(3, 1, 4)


def test_the_same_in_another_process() -> None:
    code = (
        "import torch; from vharm.data import seeding\n"
        "print(torch.rand(3, generator=seeding.generator(3, 1, 4)).tolist())"
    )
    root = Path(vharm.__file__).parent.parent
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(draw(3, 1, 4))


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(2).tolist()
    torch.manual_seed(7)
    source = seeding.generator(1, 2)
    seeding.uniform(source, 0, 1)
    seeding.chance(source, 0.5)
    seeding.integer(source, 9)
    assert torch.rand(2).tolist() == expected


def test_ranges() -> None:
    source = seeding.generator(0)
    values = [seeding.uniform(source, -2, 3) for _ in range(500)]
    assert -2 <= min(values) < -1.9
    assert 2.9 < max(values) < 3
    assert {seeding.integer(source, 3) for _ in range(60)} == {0, 1, 2}
    share = sum(seeding.chance(source, 0.3) for _ in range(1000)) / 1000
    assert share == pytest.approx(0.3, abs=0.05)
    assert not any(seeding.chance(source, 0) for _ in range(100))
    assert all(seeding.chance(source, 1) for _ in range(100))


def test_chance_draws_one_number_whatever_the_odds() -> None:
    rest = []
    for probability in (0.0, 0.5, 1.0):
        source = seeding.generator(5)
        seeding.chance(source, probability)
        rest.append(torch.rand((), generator=source).item())
    assert len(set(rest)) == 1


def test_negative_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        seeding.generator(0, -1)

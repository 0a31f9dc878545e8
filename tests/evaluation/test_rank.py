# SPDX-License-Identifier: Apache-2.0
"""Scores from choices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vharm.evaluation.rank import Choices, rank, read_choices

pytest.importorskip("choix")

STRENGTHS = {"best": 1.2, "good": 0.4, "poor": -0.4, "worst": -1.2}


def drawn(rng, names):
    """A ranking by the Plackett-Luce model."""
    noisy = {name: STRENGTHS[name] + rng.gumbel() for name in names}
    return sorted(names, key=lambda name: -noisy[name])


def test_pairs_recover_a_known_order(tmp_path):
    rng = np.random.default_rng(0)
    lines = [drawn(rng, rng.choice(list(STRENGTHS), 2, replace=False)) for _ in range(800)]
    path = tmp_path / "choices.csv"
    path.write_text("winner,loser\n" + "".join(f"{a},{b}\n" for a, b in lines))
    found = rank(read_choices(path), bootstrap=50)
    assert found.model == "Bradley-Terry"
    assert [item.name for item in found.items] == list(STRENGTHS)
    assert sum(item.score for item in found.items) == pytest.approx(0, abs=1e-9)
    for item in found.items:
        assert item.score == pytest.approx(STRENGTHS[item.name], abs=0.3)
        assert item.low < item.score < item.high
    assert sum(item.pairs for item in found.items) == 1600


def test_rankings_recover_a_known_order(tmp_path):
    rng = np.random.default_rng(1)
    lines = [drawn(rng, list(STRENGTHS))[: rng.integers(3, 5)] for _ in range(300)]
    path = tmp_path / "choices.csv"
    rows = "".join(",".join(line) + "\n" for line in lines)
    path.write_text("rank1,rank2,rank3,rank4\n" + rows)
    found = rank(read_choices(path), bootstrap=0)
    assert found.model == "Plackett-Luce"
    assert [item.name for item in found.items] == list(STRENGTHS)
    assert found.items[0].low is None


def test_two_methods_have_the_odds_of_their_wins():
    rankings = ((0, 1),) * 30 + ((1, 0),) * 10
    found = rank(Choices(("a", "b"), rankings, ("",) * 40), alpha=1e-6, bootstrap=0)
    gap = found.items[0].score - found.items[1].score
    assert gap == pytest.approx(math.log(3), abs=1e-3)
    assert found.items[0].first == pytest.approx(0.75, abs=1e-3)
    assert found.items[0].won == 0.75


def test_one_that_always_wins_has_a_finite_score():
    found = rank(Choices(("a", "b", "c"), ((0, 1), (0, 2), (1, 2)) * 5, ("",) * 15), bootstrap=20)
    assert [item.name for item in found.items] == ["a", "b", "c"]
    assert all(math.isfinite(item.score) for item in found.items)


def test_people_are_drawn_where_they_are_known(tmp_path):
    path = tmp_path / "choices.jsonl"
    lines = [f'{{"winner": "a", "loser": "b", "participant": "p{i % 3}"}}' for i in range(9)]
    lines += ['{"ranking": ["b", "a"], "participant": "p9"}'] * 6
    path.write_text("\n".join(lines) + "\n\n")
    choices = read_choices(path)
    assert choices.participants[0] == "p0"
    found = rank(choices, bootstrap=100)
    assert found.participants == 4
    alone = rank(Choices(choices.items, choices.rankings, ("",) * 15), bootstrap=100)
    # One person made all the other choices: four people say less than fifteen independent choices.
    width = found.items[0].high - found.items[0].low
    assert width > alone.items[0].high - alone.items[0].low


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected CSV"),
        ("left,right\na,b\n", "line 1: expected CSV"),
        ("winner,loser\n", "holds no choices"),
        ("winner,loser\na,a\n", "line 2: a name stands twice"),
        ("winner,loser\na\n", "line 2: expected two names"),
        ("winner,loser\na,b,c\n", "line 2: expected 2 columns, got 3"),
        ("rank1,rank2,rank3\na,,c\n", "line 2: a name is missing"),
        ('{"winner": "a"}\n', "line 1: expected CSV"),
        ('{"winner": \n', "line 1: is not JSON"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "choices"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_choices(path)


def test_bad_arguments():
    choices = Choices(("a", "b"), ((0, 1),), ("",))
    with pytest.raises(ValueError, match="alpha"):
        rank(choices, alpha=0)
    with pytest.raises(ValueError, match="bootstrap"):
        rank(choices, bootstrap=-1)

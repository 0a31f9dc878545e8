# SPDX-License-Identifier: Apache-2.0
"""Scores of methods from people's choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .choices import Choices, read_choices

__all__ = ["Choices", "RankedItem", "Ranking", "rank", "read_choices"]


@dataclass(frozen=True)
class RankedItem:
    """One method.

    Attributes:
        name: as in the choices.
        score: logarithm of its strength; all scores sum to 0. A is preferred to B with
            probability `1 / (1 + exp(score_B - score_A))`.
        low: lower end of the 95 % interval of `score`; None without resampling.
        high: its upper end.
        first: the chance to be preferred to all the others at once.
        won: share of the pairs in which it stood before the other.
        pairs: how many pairs it was in; a ranking of n holds n (n - 1) / 2.
    """

    name: str
    score: float
    low: float | None
    high: float | None
    first: float
    won: float
    pairs: int


@dataclass(frozen=True)
class Ranking:
    """Methods, best first.

    Attributes:
        model: "Bradley-Terry" where all choices are between two, else "Plackett-Luce".
        items: best first.
        choices: how many rankings there were.
        participants: how many people, 0 where it is not said.
        settings: alpha, bootstrap, seed, and what was resampled.
    """

    model: str
    items: tuple[RankedItem, ...]
    choices: int
    participants: int
    settings: dict[str, Any]


def rank(
    choices: Choices, *, alpha: float = 0.01, bootstrap: int = 200, seed: int = 0
) -> Ranking:  # fmt: skip
    """Fits Bradley-Terry (choices between two) or Plackett-Luce (rankings) by maximum likelihood.

    Args:
        choices: of `read_choices`.
        alpha: regularization: as if every item had been preferred this little to every other.
            Without any, a method that always wins has an infinite score.
        bootstrap: how often the choices are drawn anew for the intervals; 0 gives none. Where
            participants are known, people are drawn and not their single choices.
        seed: of the draws.

    Raises:
        ValueError: an argument out of range. ImportError: choix is missing.
        RuntimeError: the fit does not converge.

    Source: Maystre and Grossglauser, Fast and Accurate Inference of Plackett-Luce Models, NeurIPS
    2015 (the library choix); Bradley and Terry, Biometrika 39, 1952; Plackett, Applied Statistics
    24, 1975.
    """
    if not 0 < alpha <= 10:
        raise ValueError(f"alpha: expected above 0 and at most 10, got {alpha}")
    if isinstance(bootstrap, bool) or not isinstance(bootstrap, int) or bootstrap < 0:
        raise ValueError(f"bootstrap: expected 0 or more, got {bootstrap!r}")
    count, pairs_only = len(choices.items), all(len(r) == 2 for r in choices.rankings)
    scores = _fit(count, choices.rankings, alpha, pairs_only, None)
    known = all(choices.participants)
    draws = _resampled(choices, known, bootstrap, seed)
    again = [_fit(count, drawn, alpha, pairs_only, scores) for drawn in draws]
    ends = np.percentile(again, [2.5, 97.5], axis=0) if again else None
    won = np.zeros((count, count))
    for ranking in choices.rankings:
        for place, better in enumerate(ranking):
            won[better, list(ranking[place + 1 :])] += 1
    strength = np.exp(scores - scores.max())
    items = [
        RankedItem(
            choices.items[i], float(scores[i]),
            *((None, None) if ends is None else (float(ends[0, i]), float(ends[1, i]))),
            float(strength[i] / strength.sum()),
            float(won[i].sum() / (won[i].sum() + won[:, i].sum())),
            int(won[i].sum() + won[:, i].sum()),
        )
        for i in np.argsort(-scores, kind="stable")
    ]  # fmt: skip
    people = len(set(choices.participants)) if known else 0
    settings = {"alpha": alpha, "bootstrap": bootstrap, "seed": seed,
                "resampled": "participants" if known else "choices"}  # fmt: skip
    return Ranking(
        "Bradley-Terry" if pairs_only else "Plackett-Luce", tuple(items), len(choices.rankings),
        people, settings,
    )  # fmt: skip


def _resampled(choices: Choices, by_person: bool, times: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    groups: dict[Any, list[tuple[int, ...]]] = {}
    for number, (ranking, who) in enumerate(
        zip(choices.rankings, choices.participants, strict=True)
    ):
        groups.setdefault(who if by_person else number, []).append(ranking)
    parts = list(groups.values())
    for _ in range(times):
        drawn = rng.integers(0, len(parts), len(parts))
        yield [ranking for i in drawn for ranking in parts[i]]


def _fit(
    count: int, rankings: Any, alpha: float, pairs_only: bool, start: np.ndarray | None
) -> np.ndarray:
    """Scores that sum to 0."""
    try:
        import choix
    except ImportError as error:
        raise ImportError('rankings need choix: pip install "vharm[eval]"') from error
    if pairs_only:
        wins = np.zeros((count, count))
        np.add.at(wins, tuple(np.array(rankings).T), 1)
        found = choix.ilsr_pairwise_dense(wins, alpha=alpha, initial_params=start, max_iter=1000)
    else:
        found = choix.ilsr_rankings(
            count, rankings, alpha=alpha, initial_params=start, max_iter=1000
        )
    return found - found.mean()

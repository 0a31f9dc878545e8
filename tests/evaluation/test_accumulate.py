# SPDX-License-Identifier: Apache-2.0
"""Means that are taken while clips stream by."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vharm.evaluation.accumulate import BIN_NAMES, Mean, Totals, bin_of


def test_streaming_equals_all_at_once():
    rng = np.random.default_rng(0)
    clips = [rng.normal(1e6, 1, rng.integers(1, 9)).tolist() for _ in range(40)]
    mean = Mean()
    for clip in clips:
        mean.add(clip)
    values = np.concatenate(clips)
    sizes, means = np.array([len(c) for c in clips]), np.array([np.mean(c) for c in clips])
    spread = (sizes**2 * (means - values.mean()) ** 2).sum() * 40 / 39
    figure = mean.figure()
    assert figure.mean == pytest.approx(values.mean(), rel=1e-14)
    assert figure.error == pytest.approx(math.sqrt(spread) / len(values), rel=1e-6)
    assert (figure.count, figure.clips) == (len(values), 40)


def test_clips_of_equal_length_have_the_plain_standard_error():
    mean = Mean()
    for value in (1.0, 2.0, 6.0):
        mean.add([value - 0.5, value + 0.5])
    assert mean.figure().error == pytest.approx(np.std([1, 2, 6], ddof=1) / math.sqrt(3))
    assert mean.figure().interval[0] == pytest.approx(3 - 1.96 * mean.figure().error)


def test_one_clip_has_no_error_and_none_no_figure():
    mean = Mean()
    mean.add([])
    assert mean.figure() is None
    mean.add([1.0, 3.0])
    assert mean.figure().mean == 2
    assert mean.figure().error is None


def test_bins_hold_their_lower_edge():
    assert [bin_of(r) for r in (0, 0.049, 0.05, 0.15, 0.3, 0.5, 0.7, 1)] == [0, 0, 1, 2, 3, 4, 5, 5]
    assert BIN_NAMES[0] == "0-5 %"
    assert BIN_NAMES[-1] == "70-100 %"
    with pytest.raises(ValueError, match="ratio"):
        bin_of(1.2)


def test_frames_of_one_clip_may_fall_in_different_bins():
    totals = Totals()
    totals.add("m", "s", {"fMSE": [1.0, 3.0, 8.0], "TL": [5.0, 6.0]}, [0.1, 0.12, 0.4])
    everything, subsets, bins = totals.figures()
    assert everything["m"]["fMSE"].mean == 4
    assert everything["m"]["TL"].count == 2
    assert subsets["s"]["m"]["fMSE"].mean == 4
    assert list(bins) == ["5-15 %", "30-50 %"]
    assert bins["5-15 %"]["m"]["fMSE"].mean == 2
    assert "TL" not in bins["5-15 %"]["m"]

# SPDX-License-Identifier: Apache-2.0
"""Sets made of sets."""

from __future__ import annotations

import pytest
import torch

from vharm.data import Chosen, Joined, Windows, open_data


def test_joined(folders, clips):
    first, second = open_data(folders, split="val"), open_data(clips)
    both = Joined([first, second])
    assert both.names == ("val/p0", "val/p1", "a", "b")
    assert [scene.name for scene in both] == list(both.names)
    assert both[-1].name == "b"
    assert torch.equal(both.masks(2), second[0].masks)
    assert both.description == f"{first.description}; {second.description}"
    with pytest.raises(IndexError):
        both[4]
    with pytest.raises(ValueError, match="the name a is in more than one place"):
        Joined([second, second])
    with pytest.raises(ValueError, match="sets: expected at least one"):
        Joined([])


def test_chosen(folders):
    data = open_data(folders)
    some = Chosen(data, [4, 1])
    assert some.names == ("val/p0", "train/p1")
    assert some[1].name == "train/p1"
    assert torch.equal(some.masks(0), data.masks(4))
    assert len(list(some)) == 2
    with pytest.raises(ValueError, match="positions: expected 0 to 5, got 6"):
        Chosen(data, [6])


def test_windows(clips):
    data = open_data(clips)
    windows = Windows(data, 2)
    assert windows.names == ("a@0", "b@0", "b@2")
    assert windows[2].name == "b@2"
    assert torch.equal(windows[2].frames, data[1].frames[2:4])
    assert Windows(data, 4, stride=1).names == ("b@0", "b@1")
    assert "1 shorter clips left out" in Windows(data, 4).description
    with pytest.raises(ValueError, match="no clip has 9 frames, the longest 5"):
        Windows(data, 9)
    with pytest.raises(TypeError, match="expected a set that reads parts"):
        Windows([1], 2)

# SPDX-License-Identifier: Apache-2.0
"""Tracks: which Look at which time, and their files."""

from __future__ import annotations

import json

import pytest
import torch

from vharm.looks import (
    FilterLook,
    LookTrack,
    LutLook,
    ResidualLook,
    TrackWriter,
    load_look,
    save_look,
    storage,
)
from vharm.looks.lut_look import identity_grid

torch.manual_seed(0)


def look(value: float) -> FilterLook:
    return FilterLook(torch.full((6,), value), torch.full((6, 3), 0.5))


def value(given) -> float:
    return float(given.arguments[0])


def test_linear_hold_and_cuts():
    looks = [look(0.0), look(0.4), look(0.8)]
    track = LookTrack(looks, [0.0, 1.0, 2.0], cuts=[2])
    assert value(track.at(-5)) == 0
    assert value(track.at(0.25)) == pytest.approx(0.1)
    assert value(track.at(1.9)) == pytest.approx(0.4)  # the next one is another shot
    assert value(track.at(2.0)) == pytest.approx(0.8)
    assert value(track.at(99)) == pytest.approx(0.8)
    held = LookTrack(looks, [0.0, 1.0, 2.0], interpolation="hold")
    assert value(held.at(0.99)) == 0
    assert held.at(1.0) is looks[1]


def test_rounded_time_stamps_find_their_look():
    looks = [look(0.0), look(0.5)]
    track = LookTrack(looks, [0.0, 1 / 30], cuts=[1])
    assert track.at(0.033) is looks[1]
    assert track.at(0.0334) is looks[1]


def test_single_look_holds_for_all_times():
    given = look(0.2)
    assert LookTrack.of(given).at(123.0) is given
    track = LookTrack([given])
    assert LookTrack.of(track) is track
    with pytest.raises(TypeError, match="Look or a LookTrack"):
        LookTrack.of(3)


def test_lock_of_a_track():
    assert value(LookTrack([look(0.0), look(0.5)], [0, 1]).lock()) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([],), {}, "at least one"),
        (([look(0), look(1)],), {}, "times must be given"),
        (([look(0), look(1)], [0.0]), {}, "one number a look"),
        (([look(0), look(1)], [1.0, 1.0]), {}, "times must increase"),
        (([look(0)], [float("nan")]), {}, "times must increase"),
        (([look(0)], [0.0]), {"cuts": [3]}, "cuts"),
        (([look(0)], [0.0]), {"interpolation": "liner"}, "mean 'linear'"),
    ],
)
def test_bad_tracks_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        LookTrack(*arguments, **options)


def test_single_look_files(tmp_path):
    for name, given in [
        ("a.json", look(0.25)),
        ("b.json", LutLook(torch.rand(4, 4, 4, 3))),
        ("c.json", ResidualLook(torch.rand(3, 2, 2))),
    ]:
        save_look(tmp_path / name, given)
        back = load_look(tmp_path / name)
        assert type(back) is type(given)
        assert back.to_dict() == given.to_dict()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json", "c.json"]


def test_track_file_round_trip_and_hand_editing(tmp_path):
    path = tmp_path / "track.json"
    save_look(path, LookTrack([look(0.1), look(0.2)], [0.0, 1 / 3], cuts=[1]))
    back = load_look(path)
    assert back.times == (0.0, 1 / 3)
    assert back.cuts == {1}
    data = json.loads(path.read_text())
    data["looks"][1]["filters"]["brightness"] = -0.5
    path.write_text(json.dumps(data, indent=4))
    assert float(load_look(path)[1].arguments[1]) == -0.5


def test_cube_files(tmp_path):
    given = look(0.2).with_strength(0.5)
    save_look(tmp_path / "look.cube", given)
    back = load_look(tmp_path / "look.cube")
    torch.testing.assert_close(back.grid, given.to_lut().grid, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"one look, got 2; lock"):
        save_look(tmp_path / "no.cube", LookTrack([given, given], [0, 1]))


def test_large_files_are_read_look_by_look(tmp_path, monkeypatch):
    path = tmp_path / "track.json"
    grids = [torch.rand(5, 5, 5, 3) for _ in range(9)]
    with TrackWriter(path, interpolation="hold") as writer:
        for i, grid in enumerate(grids):
            writer.append(LutLook(grid), i / 25, cut=i == 4)
        assert not path.exists()
    whole = load_look(path)
    monkeypatch.setattr(storage, "LAZY_BYTES", 100)
    lazy = load_look(path)
    assert isinstance(lazy._looks, storage._LazyLooks)
    assert not isinstance(whole._looks, storage._LazyLooks)
    assert (lazy.times, lazy.cuts, lazy.interpolation) == (whole.times, {4}, "hold")
    for i in (8, 0, 4, 5, 3):
        assert torch.equal(lazy.at(i / 25).grid, whole[i].grid)
        torch.testing.assert_close(lazy[i].grid, grids[i], atol=2.0**-11, rtol=0)
    torch.testing.assert_close(lazy.lock().grid, torch.stack(grids).mean(0), atol=1e-3, rtol=0)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
    assert not isinstance(load_look(path)._looks, storage._LazyLooks)


def test_a_failed_writer_leaves_nothing(tmp_path):
    path = tmp_path / "track.json"
    path.write_text("old")
    writer = TrackWriter(path)
    writer.append(look(0.1), 0.0)
    with pytest.raises(ValueError, match="increase"), writer:
        writer.append(look(0.1), -1.0)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="closed"):
        writer.append(look(0.1), 1.0)
    with pytest.raises(ValueError, match="no looks"), TrackWriter(path):
        pass
    assert len(list(tmp_path.iterdir())) == 1


def test_writer_refuses_times_that_do_not_increase(tmp_path):
    with TrackWriter(tmp_path / "t.json") as writer:
        writer.append(look(0.1), 1.0)
        with pytest.raises(ValueError, match="must increase"):
            writer.append(look(0.1), 1.0)
    assert len(load_look(tmp_path / "t.json")) == 1


ENTRY = '{"time": 0, "kind": "filter", "filters": {"brightness": %s}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON.*line 1"),
        ("[]", "expected an object"),
        ('{"looks": 3}', "looks must be a list"),
        ('{"looks": []}', "at least one"),
        ('{"looks": [{"kind": "filter"}]}', "number 0.*'time' is missing"),
        ('{"looks": [' + ENTRY % "7" + "]}", r"number 0.*brightness must be in \[-1, 1\]"),
        ('{"looks": [' + ENTRY % "NaN" + "]}", "brightness.*nan"),
        ('{"looks": [], "version": 9}', "version must be 1"),
        ('{"loks": []}', "'kind' is missing"),
        ('{"kind": "filter", "filters": {"hue": 0.1, "hue": 0.2}}', "'hue' is given twice"),
    ],
)
def test_bad_files_name_the_file_and_the_place(tmp_path, text, message):
    path = tmp_path / "edited.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_look(path)
    assert "edited.json" in str(caught.value)


def test_identity_lut_track_interpolates_grids():
    track = LookTrack([LutLook.identity(5), LutLook(identity_grid(5) * 0)], [0, 1])
    torch.testing.assert_close(track.at(0.25).grid, identity_grid(5) * 0.75)

# SPDX-License-Identifier: Apache-2.0
"""Session over time: cuts, flicker, smoothing, locking, saved Looks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from clips import ListWriter, Shift, box_mask, clip, texture, yuv_frame

from vharm.looks import LookTrack, LutLook, load_look
from vharm.media import Mask
from vharm.session import CutDetector, Session
from vharm.session.cuts import CUT_THRESHOLD, cut_score

torch.set_num_threads(1)


def test_flicker_is_the_deviation_of_the_change():
    amounts = (0.0, 0.1)
    masks = [box_mask(soft=False)] * 8
    frames = clip(8)
    jumpy = Session(Shift(*amounts), temporal="per-frame").run(frames, masks, ListWriter())
    # Welford with n - 1: eight values, half 0 and half 25.5.
    assert jumpy.flicker == pytest.approx(12.75 * math.sqrt(8 / 7), rel=0.05)
    calm = Session(Shift(*amounts), temporal="smooth").run(frames, masks, ListWriter())
    still = Session(Shift(*amounts), temporal="lock").run(frames, masks, ListWriter())
    assert still.flicker < 0.01 < calm.flicker < jumpy.flicker / 3


def test_flicker_ignores_the_input_own_changes():
    frames = [yuv_frame(i, gain=1 - 0.1 * (i % 2)) for i in range(6)]
    report = Session(Shift(0.05), temporal="per-frame").run(
        frames, [box_mask(soft=False)] * 6, ListWriter()
    )
    assert report.flicker < 0.6


def test_hard_cut_is_found_and_resets_smoothing():
    frames = clip(5, seed=1) + [
        yuv_frame(5 + i, seed=2, gain=0.6) for i in range(4)
    ]  # fmt: skip
    masks = [box_mask()] * 9
    smooth, single = ListWriter(), ListWriter()
    report = Session("mkl", temporal="smooth", time_constant=2).run(frames, masks, smooth)
    Session("mkl", temporal="per-frame").run(frames, masks, single)
    assert report.cuts == [5]
    for index in (0, 5):
        for a, b in zip(smooth.frames[index].planes, single.frames[index].planes, strict=True):
            np.testing.assert_array_equal(a, b)
    never = Session("mkl", time_constant=2, cut_threshold=math.inf).run(frames, masks, ListWriter())
    assert never.cuts == []


def test_motion_and_light_are_no_cuts():
    wide = texture(60, 300, seed=3)

    def thumb(picture):
        return torch.from_numpy(picture.transpose(2, 0, 1) / 255).float()

    detector = CutDetector()
    for step in range(0, 120, 10):  # a pan by a tenth of the width a frame
        assert not detector.update(thumb(wide[:, step : step + 100]))
    light = CutDetector()
    for gain in (1, 0.6, 1.3, 0.7, 1):
        assert not light.update(thumb(wide[:, :100] * gain))
    scores = [
        cut_score(thumb(texture(60, 100, seed=10 + i)), thumb(texture(60, 100, 50 + i, 20, 140)))
        for i in range(8)
    ]
    assert min(scores) > CUT_THRESHOLD


def test_smoothing_is_in_seconds():
    """The same clip at twice the rate gives the same Look at the same time."""
    luma = {}
    for rate, count in ((10, 3), (20, 5)):
        method = Shift(0.0, *[0.2] * (count - 1), batch=1)
        frames = [yuv_frame(i, rate=rate) for i in range(count)]
        session = Session(method, time_constant=0.2)
        out = list(session.frames(frames, [box_mask(soft=False)] * count))
        luma[rate] = out[-1].planes[0].astype(int)
    assert abs(luma[10] - luma[20]).max() <= 1


def test_lock_gives_one_look_and_needs_two_passes(tmp_path):
    frames, masks = clip(5), [box_mask()] * 5
    report = Session("mkl", temporal="lock").run(
        frames, masks, ListWriter(), cube_out=tmp_path / "a.cube", look_out=tmp_path / "a.json"
    )
    assert isinstance(report.look, LutLook)
    saved = load_look(tmp_path / "a.json")
    assert torch.equal(saved.grid, report.look.grid)
    again, first = ListWriter(), ListWriter()
    Session("mkl", temporal="lock").run(frames, masks, first)
    given = Session(saved).run(frames, masks, again)
    assert given.method == "look"
    for a, b in zip(first.frames, again.frames, strict=True):
        for old, new in zip(a.planes, b.planes, strict=True):
            np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match=r"frames: .*lock.*reads the clip twice.*give a list"):
        Session("mkl", temporal="lock").run(iter(frames), masks, ListWriter())
    with pytest.raises(ValueError, match=r"masks: .*read only once"):
        Session("mkl", temporal="lock").run(frames, iter(masks), ListWriter())


@pytest.mark.parametrize("known", [True, False])
def test_lock_estimates_on_frames_spread_over_the_clip(known):
    class Again:
        reiterable = True
        frame_count = 300 if known else None

        def __iter__(self):
            return (yuv_frame(i, 16, 16) for i in range(300))

    method = Shift(0.1)
    masks = [box_mask(16, 16, 2, 2, 8)] * 300
    report = Session(method, temporal="lock").run(Again(), masks, ListWriter())
    assert 64 <= method.seen <= (130 if known else 300)
    assert report.frames == 300


def test_per_frame_looks_are_saved_as_a_track(tmp_path):
    path = tmp_path / "looks.json"
    frames, masks = clip(4), [box_mask()] * 4
    masks[2] = Mask(np.zeros((48, 64), np.uint8))
    Session(Shift(0.0, 0.1), temporal="per-frame").run(frames, masks, ListWriter(), look_out=path)
    track = load_look(path)
    assert isinstance(track, LookTrack)
    assert track.times == (0.0, 0.04, 0.12)
    entries = json.loads(path.read_text())["looks"]
    assert len(entries) == 3
    with pytest.raises(ValueError, match=r"cube_out: .*temporal=.lock"):
        Session("mkl").run(frames, masks, ListWriter(), cube_out=tmp_path / "x.cube")


def test_given_track_is_applied_at_each_time():
    dark, bright = LutLook(LutLook.identity(2).grid - 0.2), LutLook(LutLook.identity(2).grid + 0.2)
    track = LookTrack([dark, bright], [0.0, 0.04], interpolation="hold")
    frames, masks = clip(3), [box_mask(soft=False)] * 3
    session = Session(track)
    assert (session.method, session.method_name) == (None, "look track")
    out = list(session.frames(frames, masks))
    inside = masks[0].data > 0
    change = [
        (o.planes[0].astype(int) - f.planes[0])[inside].mean()
        for o, f in zip(out, frames, strict=True)
    ]
    assert change[0] < -20
    assert change[1] > 20
    assert change[2] > 20


def test_look_ahead_is_given_and_stops_at_cuts():
    method = Shift(0.1, look_ahead=2, batch=2)
    try:
        frames = clip(5, seed=1) + [yuv_frame(5 + i, seed=2, gain=0.6) for i in range(3)]
        report = Session(method).run(frames, [box_mask()] * 8, ListWriter())
        sizes = [len(call[0]) for call in method.calls]
        assert report.cuts == [5]
        # Two wanted and two ahead; what is left of a shot is asked for together.
        assert sizes == [4, 3, 3, 1] or sizes == [4, 3, 3]
        for call in method.calls:
            thumbs = call[0]
            assert all(cut_score(thumbs[0], t) < CUT_THRESHOLD for t in thumbs)
    finally:
        Shift.look_ahead = 0

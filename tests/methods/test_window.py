# SPDX-License-Identifier: Apache-2.0
"""Methods that see a window: the same Looks however a clip is cut into batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clips import ListWriter, box_mask, clip, yuv_frame

from vharm.looks import LutLook
from vharm.media import Mask
from vharm.methods import WindowMethod
from vharm.session import Session

torch.set_num_threads(1)

EMPTY = Mask(np.zeros((48, 64), np.uint8))


class Numbers(WindowMethod):
    """Paints the frame darker, and notes which frames it saw, told apart by their first pixel."""

    name = summary = when_to_use = source = "numbers"

    def __init__(self, behind=2, ahead=2):
        super().__init__()
        self.look_behind, self.look_ahead = behind, ahead
        self.prepared, self.windows, self.batch = [], [], 8

    def prepare(self, seen, masks):
        self.prepared += [len(seen)]
        return [round(float(frame[0, 0, 0]), 4) for frame in seen]

    def paint(self, current, before, after, memory):
        known = [entry.known for entry in (*before[::-1], current, *after)]
        self.windows.append((current.known, known))
        return current.seen * (0.5 + 0.4 * sum(known) / len(known))


def frames(count):
    """Frame i has the first pixel i / 100; the rest is noise."""
    generator = torch.Generator().manual_seed(0)
    clip = torch.rand(count, 3, 12, 12, generator=generator)
    clip[:, 0, 0, 0] = torch.arange(count) / 100
    masks = torch.zeros(count, 1, 12, 12)
    masks[..., 3:9, 3:9] = 1
    return clip, masks


def pushed(method, clip, masks, sizes):
    shot, looks, at = method.shot(), [], 0
    for size in sizes:
        looks += shot.push(clip[at : at + size], masks[at : at + size])
        at += size
    return looks + shot.finish()


def same(found, expected):
    assert len(found) == len(expected)
    return all(torch.equal(a.grid, b.grid) for a, b in zip(found, expected, strict=True))


def test_windows_are_whole_and_short_only_at_the_ends():
    method = Numbers(2, 1)
    clip, masks = frames(5)
    method.estimate(clip, masks)
    seen = [[round(100 * n) for n in window] for _, window in method.windows]
    assert seen == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4]]
    assert sum(method.prepared) == 5


@pytest.mark.parametrize("sizes", [[9], [1] * 9, [4, 5], [2, 3, 1, 3]])
def test_batches_do_not_matter(sizes):
    clip, masks = frames(9)
    masks[4] = 0
    expected = Numbers().estimate(clip, masks)
    assert len(expected) == 9
    assert same(pushed(Numbers(), clip, masks, sizes), expected)
    apart = pushed(Numbers(), clip[:4], masks[:4], [4]) + pushed(
        Numbers(), clip[4:], masks[4:], [5]
    )
    assert not same(apart, expected)  # a shot that is cut in two is another matter


def test_looks_come_as_soon_as_they_can_be_known():
    clip, masks = frames(6)
    shot, counts = Numbers(2, 2).shot(), []
    for i in range(6):
        counts.append(len(shot.push(clip[i : i + 1], masks[i : i + 1])))
    assert counts == [0, 0, 1, 1, 1, 1]
    assert len(shot.finish()) == 2
    assert shot.finish() == []


def test_a_long_gap_ends_the_window():
    clip, masks = frames(7)
    for gap, crossed in (([3], True), ([3, 4], False)):
        gone = masks.clone()
        gone[gap] = 0
        method = Numbers(2, 2)
        looks = method.estimate(clip, gone)
        assert len(looks) == 7
        for i in gap:
            assert torch.equal(looks[i].grid, LutLook.identity(33).grid)
        before = [window for at, window in method.windows if at < 0.03]
        assert any(max(window) > 0.03 for window in before) == crossed


def run(method, source, masks, **options):
    writer = ListWriter()
    report = Session(method, temporal="per-frame", **options).run(source, masks, writer)
    assert writer.state == "closed"
    return writer.frames, report


@pytest.mark.parametrize("every", [1, 3])
def test_a_session_gives_the_same_in_any_batches(every):
    source = clip(7) + [yuv_frame(7 + i, seed=2, gain=0.6) for i in range(4)]
    masks = [box_mask(left=10 + i) for i in range(11)]
    masks[3] = EMPTY
    results = []
    for batch in (1, 2, 5, 50):
        method = Numbers()
        out, report = run(method, source, masks, batch=batch, estimate_every=every)
        assert report.cuts == [7]
        assert report.frames == 11
        results.append([frame.planes[0] for frame in out])
        assert out[3] is source[3]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert any((a != f.planes[0]).any() for a, f in zip(results[0], source, strict=True))


def test_a_session_does_not_look_across_cuts():
    source = clip(4, seed=1) + [yuv_frame(4 + i, seed=2, gain=0.6) for i in range(4)]
    method = Numbers()
    _, report = run(method, source, [box_mask()] * 8)
    assert report.cuts == [4]
    sizes = [len(window) for _, window in method.windows]
    assert sizes == [3, 4, 4, 3] * 2
    one_shot = Numbers()
    run(one_shot, source, [box_mask()] * 8, cut_threshold=float("inf"))
    assert [len(window) for _, window in one_shot.windows] == [3, 4, 5, 5, 5, 5, 4, 3]


@pytest.mark.parametrize("every", [1, 3])
def test_a_session_holds_few_frames_however_long_the_mask_is_empty(every):
    alive, most = 0, 0

    class Counted:
        """Frames as they are asked for; how many were handed out and not come back."""

        width, height, frame_count = 64, 48, 60
        color = clip(1)[0].color

        def __iter__(self):
            nonlocal alive, most
            for frame in clip(60):
                alive += 1
                most = max(most, alive)
                yield frame

    masks = [box_mask()] * 3 + [EMPTY] * 50 + [box_mask()] * 7
    session = Session(Numbers(), temporal="per-frame", batch=2, estimate_every=every)
    for _ in session.frames(Counted(), masks):
        alive -= 1
    assert alive == 0
    # A batch, the two ahead, a gap of two, and what waits for the next estimate.
    assert most <= 2 + 2 * every + 2 + every


def test_lock_takes_each_frame_by_itself():
    method = Numbers()
    writer = ListWriter()
    report = Session(method, temporal="lock").run(clip(6), [box_mask()] * 6, writer)
    assert report.frames == 6
    assert [len(window) for _, window in method.windows] == [1] * 6


def test_too_few_looks_are_an_error():
    class Short(Numbers):
        def shot(self):
            shot = super().shot()
            shot.finish = lambda: []
            return shot

    with pytest.raises(RuntimeError, match="no Look for 2 frames"):
        run(Short(), clip(4), [box_mask()] * 4)

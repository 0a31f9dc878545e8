# SPDX-License-Identifier: Apache-2.0
"""Estimating on every n-th frame: which frames, the Looks between them, how many frames wait."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from clips import ListWriter, Shift, texture

from vharm.looks import FilterLook, LutLook, ResidualLook, Smoother, load_look
from vharm.media import ColorSpec, Frame, Mask
from vharm.methods import Method
from vharm.session import Report, Session
from vharm.session.between import Turns, check_waiting, interpolated
from vharm.session.items import Item

torch.set_num_threads(1)

HEIGHT, WIDTH = 24, 32


def squares(number):
    return number * number / 1000


class Known(Method):
    """The Look of frame i has the brightness `value(i)`; the frames carry their numbers."""

    name = summary = when_to_use = source = "known"

    def __init__(self, value=squares, batch=8):
        self.value, self.batch, self.asked, self.sizes = value, batch, [], []

    def working_size(self, height, width):
        return height, width

    def estimate(self, frames, masks, *, background=None, background_weight=None):
        numbers = [round(float(frame[0, 0, 0]) * 100) for frame in frames]
        self.asked += numbers
        self.sizes.append(len(numbers))
        return [brightness(self.value(number)) for number in numbers]


def brightness(value):
    return FilterLook(torch.tensor([value]), torch.zeros(1, 3), ("brightness",))


@functools.lru_cache
def scene(seed):
    gain = 1 if seed == 1 else 0.6
    return (texture(HEIGHT, WIDTH, seed) / 255 * gain).astype(np.float32)


def picture(number, seed=1, time=None):
    """A textured float frame whose first pixel is its number / 100."""
    rgb = scene(seed).copy()
    rgb[0, 0] = number / 100
    color = ColorSpec("rgb", 32)
    return Frame((rgb,), color, index=number, time=number / 25 if time is None else time)


def clip(count, cuts=()):
    return [picture(i, 1 + sum(i >= cut for cut in cuts)) for i in range(count)]


def masks(count, empty=()):
    data = np.zeros((HEIGHT, WIDTH), np.uint8)
    data[6:18, 8:24] = 255
    return [Mask(data * (i not in empty)) for i in range(count)]


def applied(tmp_path, method, source, given, **options):
    """{number: brightness} of the Looks that were applied, and the report."""
    path = tmp_path / "looks.json"
    path.unlink(missing_ok=True)
    run = {"threads": options.pop("threads", False)}
    session = Session(method, **{"temporal": "per-frame", **options})
    report = session.run(source, given, ListWriter(), look_out=path, **run)
    track = load_look(path)
    values = [float(look.arguments[0]) for look in track]
    return {round(t * 25): v for t, v in zip(track.times, values, strict=True)}, report


def between(first, last):
    """What lies on the line from frame `first` to frame `last`, without that."""
    a, b = squares(first), squares(last)
    return {i: a + (b - a) * (i - first) / (last - first) for i in range(first, last)}


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("threads", [False, True])
def test_looks_lie_on_lines_between_estimates(tmp_path, batch, threads):
    method = Known()
    found, report = applied(
        tmp_path, method, clip(11), masks(11), estimate_every=4, batch=batch, threads=threads
    )
    assert method.asked == [0, 4, 8]
    assert report.estimated == 3
    assert "estimated on 3 of them" in str(report)
    expected = {**between(0, 4), **between(4, 8), 8: 0.064, 9: 0.064, 10: 0.064}
    assert found == pytest.approx(expected, abs=2e-6)
    # Not what holding gives, nor what each frame by itself would get.
    assert found[2] == pytest.approx(0.008, abs=2e-6)


@pytest.mark.parametrize("batch", [1, 8])
def test_nothing_is_blended_across_cuts(tmp_path, batch):
    method = Known()
    found, report = applied(
        tmp_path, method, clip(13, cuts=(6,)), masks(13), estimate_every=4, batch=batch
    )
    assert report.cuts == [6]
    assert method.asked == [0, 4, 6, 10]
    expected = {**between(0, 4), 4: 0.016, 5: 0.016, **between(6, 10)}
    expected.update(dict.fromkeys((10, 11, 12), 0.1))
    assert found == pytest.approx(expected, abs=2e-6)


def test_a_cut_between_two_turns_is_found(tmp_path):
    """Cuts are looked for on every frame, not only on those that are estimated."""
    for cut in range(1, 8):
        method = Known()
        _, report = applied(tmp_path, method, clip(9, cuts=(cut,)), masks(9), estimate_every=8)
        assert report.cuts == [cut]
        assert method.asked == [0, cut]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_clip_shorter_than_that_holds_its_only_estimate(tmp_path, count):
    method = Known(lambda number: 0.25)
    found, report = applied(tmp_path, method, clip(count), masks(count), estimate_every=100)
    assert method.asked == [0]
    assert report.estimated == 1
    assert found == dict.fromkeys(range(count), 0.25)


@pytest.mark.parametrize("temporal", ["per-frame", "smooth"])
@pytest.mark.parametrize("every", [2, 5])
def test_where_looks_change_linearly_nothing_is_lost(tmp_path, temporal, every):
    results = []
    for n in (1, every):
        method, writer = Known(lambda number: 0.05 * number - 0.2), ListWriter()
        session = Session(method, temporal=temporal, time_constant=0.1, estimate_every=n)
        report = session.run(clip(11), masks(11), writer)
        assert report.estimated == (11 if n == 1 else len(range(0, 11, every)))
        results.append(np.stack([frame.planes[0] for frame in writer.frames]))
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
    moved = np.abs(results[0] - np.stack([frame.planes[0] for frame in clip(11)]))
    assert moved.max() > 0.05


def test_smoothing_comes_after_interpolation(tmp_path):
    options = {"temporal": "smooth", "time_constant": 0.2, "estimate_every": 4}
    found, _ = applied(tmp_path, Known(), clip(9), masks(9), **options)
    smoother, lines = Smoother(0.2), {**between(0, 4), **between(4, 8), 8: 0.064}
    for number in range(9):
        look = smoother.update(brightness(lines[number]), number / 25)
        assert found[number] == pytest.approx(float(look.arguments[0]), abs=2e-6)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(
    ("empty", "asked", "expected"),
    [
        # A gap inside: the line goes through it.
        ((1, 3), [0, 4, 8], {0: 0, 2: 0.008, **between(4, 8), 8: 0.064, 9: 0.064, 10: 0.064}),
        # Nothing to estimate when its turn comes: held before, estimated when it is back.
        ((4,), [0, 5, 9], {0: 0, 1: 0, 2: 0, 3: 0, **between(5, 9), 9: 0.081, 10: 0.081}),
        # A long gap.
        ((2, 3, 4, 5, 6, 7), [0, 8], {0: 0, 1: 0, 8: 0.064, 9: 0.064, 10: 0.064}),
        # It comes late.
        ((0, 1, 2), [3, 7], {**between(3, 7), **dict.fromkeys((7, 8, 9, 10), 0.049)}),
        # Every other frame.
        ((1, 3, 5, 7, 9), [0, 4, 8], {0: 0, 2: 0.008, 4: 0.016, 6: 0.04, 8: 0.064, 10: 0.064}),
    ],
)
def test_frames_without_foreground(tmp_path, empty, asked, expected, batch):
    method, source = Known(), clip(11)
    options = {"estimate_every": 4, "batch": batch}
    found, report = applied(tmp_path, method, source, masks(11, empty), **options)
    assert method.asked == asked
    assert report.estimated == len(asked)
    assert report.empty_masks == len(empty)
    assert found == pytest.approx(expected, abs=2e-6)
    out = list(Session(Known(), **options).frames(source, masks(11, empty)))
    assert all(out[i] is source[i] for i in empty)


class Counted:
    """Frames as they are asked for, and how many of them the Session has at most."""

    def __init__(self, count):
        self.count, self.inside, self.most = count, 0, 0
        self.width, self.height, self.color = WIDTH, HEIGHT, ColorSpec("rgb", 32)
        self.frame_count = count

    def __iter__(self):
        for i in range(self.count):
            self.inside += 1
            self.most = max(self.most, self.inside)
            yield picture(i)


@pytest.mark.parametrize("empty", [(), (1, 3, 6, 13), range(10, 30)])
@pytest.mark.parametrize(("every", "batch"), [(2, 1), (5, 1), (5, 4), (12, 4), (12, 8), (1, 4)])
def test_few_frames_wait(every, batch, empty):
    reader = Counted(40)
    session = Session(Known(), temporal="per-frame", estimate_every=every, batch=batch)
    for _ in session.frames(reader, masks(40, empty)):
        reader.inside -= 1
    assert reader.inside == 0
    # Those before the next estimate and that one itself.
    assert reader.most <= max(every, batch)
    assert reader.most >= every


def test_a_large_batch_of_estimates_is_counted_in_frames_of_the_clip():
    reader, method = Counted(40), Known()
    session = Session(method, temporal="per-frame", estimate_every=3, batch=8)
    for _ in session.frames(reader, masks(40)):
        reader.inside -= 1
    assert max(method.sizes) == 3
    assert reader.most <= 8 + 2 * 3


@pytest.mark.parametrize("batch", [1, 3])
def test_methods_that_look_ahead_are_bounded_too(batch):
    ahead = 2
    method, reader = Shift(0.1, look_ahead=ahead), Counted(40)
    try:
        session = Session(method, temporal="per-frame", estimate_every=4, batch=batch)
        for _ in session.frames(reader, masks(40)):
            reader.inside -= 1
    finally:
        Shift.look_ahead = 0
    assert {len(call[0]) for call in method.calls[:-ahead]} == {1 + ahead}
    assert reader.most <= 4 * (ahead + 1) + batch


def test_too_many_to_wait_are_refused():
    check_waiting(82, 0, 25 << 20, None)
    check_waiting(1000, 0, 25 << 20, 60)
    check_waiting(1, 9, 4 << 30, None)
    with pytest.raises(ValueError, match=r"estimate_every: with 83, .*expected at most 82 for"):
        check_waiting(83, 0, 25 << 20, None)
    with pytest.raises(ValueError, match=r"with 40, 119 frames of 25 MiB .* at most 27"):
        check_waiting(40, 2, 25 << 20, None)

    reader = Counted(3)
    reader.width, reader.height, reader.frame_count, reader.reiterable = 7680, 4320, None, True
    with pytest.raises(ValueError, match="estimate_every: with 500"):
        Session(Known(), estimate_every=500).frames(reader, masks(3))
    # Nothing waits where there is one Look for the clip.
    Session(Known(), estimate_every=500, temporal="lock").frames(reader, masks(3))


@pytest.mark.parametrize("empty", [(), range(7)])
def test_lock_counts_estimates_only(empty):
    method, report = Known(batch=3), Report()
    source, given = clip(22), masks(22, empty)
    session = Session(method, temporal="lock", estimate_every=5)
    list(session.frames(source, given, report=report))
    # Also where no multiple of 5 comes first: the foreground's own first frame is seen.
    asked = list(range(7 if empty else 0, 22, 5))
    assert method.asked == asked
    assert report.estimated == len(asked)
    mean = sum(map(squares, asked)) / len(asked)
    assert float(report.look.arguments[0]) == pytest.approx(mean, abs=1e-6)


def items(times, looks, cuts=()):
    given = masks(1)[0]
    return [
        Item(picture(i, time=t), given, i, cut=i in cuts, look=looks.get(i))
        for i, t in enumerate(times)
    ]


def values(found):
    return [float(item.look.arguments[0]) for item in found]


def test_time_decides_where_it_runs_unevenly():
    looks = {0: brightness(0.0), 4: brightness(1.0)}
    found = list(interpolated(items([0, 0.1, 0.2, 0.7, 1.0], looks), 4))
    assert values(found) == pytest.approx([0, 0.1, 0.2, 0.7, 1.0])


@pytest.mark.parametrize("times", [[2.0] * 5, [3, 2, 1, 0.5, 0], [float("nan")] * 5])
def test_numbers_decide_where_time_stands_or_goes_back(times):
    looks = {0: brightness(0.0), 4: brightness(1.0)}
    found = list(interpolated(items(times, looks), 4))
    assert values(found) == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])


def test_every_kind_of_look_is_blended():
    times = [0, 1, 2]
    luts = {0: LutLook.identity(3), 2: LutLook(LutLook.identity(3).grid + 0.2)}
    middle = list(interpolated(items(times, luts), 2))[1].look
    torch.testing.assert_close(middle.grid, LutLook.identity(3).grid + 0.1)
    residuals = {0: ResidualLook(torch.zeros(3, 1, 1)), 2: ResidualLook(torch.ones(3, 4, 4))}
    middle = list(interpolated(items(times, residuals), 2))[1].look
    torch.testing.assert_close(middle.image, torch.full((3, 4, 4), 0.5))
    mixed = {0: brightness(0.0), 2: LutLook.identity(5)}
    middle = list(interpolated(items(times, mixed), 2))[1].look
    assert middle.kind == "lut"


def test_turns_begin_anew_at_cuts_only():
    given = items(range(12), {}, cuts=(5,))
    for number in (2, 3, 9):
        given[number].empty = True
    turns = Turns(3)
    assert [item.number for item in given if turns.take(item)] == [0, 4, 5, 8, 11]


def test_a_given_look_is_not_estimated_at_all():
    with pytest.raises(ValueError, match="estimate_every: a Look was given"):
        Session(brightness(0.1), estimate_every=2)
    assert Session(brightness(0.1)).estimate_every == 1

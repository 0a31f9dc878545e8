# SPDX-License-Identifier: Apache-2.0
"""The moving average against its formula, and the mean of a clip."""

from __future__ import annotations

import math

import pytest
import torch

from vharm.looks import FilterLook, LutLook, Smoother, lock
from vharm.looks.lut_look import identity_grid

torch.manual_seed(0)


def look(value: float) -> FilterLook:
    return FilterLook(torch.full((6,), value), torch.full((6, 3), value / 2))


def test_uneven_steps_follow_the_formula():
    times = [0.0, 0.04, 0.05, 0.3, 0.3, 1.0]
    values = [0.5, -2.0, 0.1, 0.7, 0.9, 0.0]
    smoother, state = Smoother(0.2), values[0]
    for i, (time, value) in enumerate(zip(times, values, strict=True)):
        if i:
            weight = 1 - math.exp(-(time - times[i - 1]) / 0.2)
            state = state + weight * (value - state)
        out = smoother.update(look(value), time)
        torch.testing.assert_close(out.arguments, torch.full((6,), state), atol=1e-6, rtol=0)
        torch.testing.assert_close(out.statistics, torch.full((6, 3), state / 2), atol=1e-6, rtol=0)


def test_the_frame_rate_does_not_matter():
    """A step seen at 10 and at 40 frames a second has decayed alike after a second."""
    ends = []
    for rate in (10, 40):
        smoother = Smoother(0.5)
        smoother.update(look(0.0), 0.0)
        for i in range(1, rate + 1):
            out = smoother.update(look(1.0), i / rate)
        ends.append(float(out.arguments[0]))
    assert ends[0] == pytest.approx(ends[1], abs=1e-5)
    assert ends[0] == pytest.approx(1 - math.exp(-2), abs=1e-5)


def test_reset_begins_anew_and_zero_does_not_smooth():
    smoother = Smoother(10.0)
    smoother.update(look(0.0), 5.0)
    smoother.reset()
    assert smoother.update(look(1.0), 0.0).arguments[0] == 1
    plain = Smoother(0.0)
    plain.update(look(0.0), 0.0)
    assert plain.update(look(1.0), 1e-3).arguments[0] == 1


def test_from_alpha():
    smoother = Smoother.from_alpha(0.9, 25)
    smoother.update(look(0.0), 0.0)
    assert smoother.update(look(1.0), 0.04).arguments[0] == pytest.approx(0.9, abs=1e-5)
    assert Smoother.from_alpha(1.0, 25).time_constant == 0
    with pytest.raises(ValueError, match="alpha"):
        Smoother.from_alpha(0.0, 25)


def test_worthless_looks_leave_the_state():
    smoother = Smoother(0.1)
    assert smoother.update(look(0.3), 0.0, weight=0).arguments[0] == pytest.approx(0.3)
    smoother.update(look(1.0), 0.1)
    assert smoother.update(look(0.0), 0.2, weight=0).arguments[0] == 1
    after = smoother.update(look(0.0), 0.3).arguments[0]
    assert after == pytest.approx(math.exp(-2), abs=1e-5)


def test_bad_times_and_constants_are_refused():
    with pytest.raises(ValueError, match="time_constant"):
        Smoother(-1.0)
    with pytest.raises(ValueError, match="time_constant"):
        Smoother(float("nan"))
    smoother = Smoother(1.0)
    smoother.update(look(0.0), 1.0)
    with pytest.raises(ValueError, match="must not go back"):
        smoother.update(look(0.0), 0.5)
    with pytest.raises(ValueError, match="finite"):
        smoother.update(look(0.0), float("nan"))


def test_lock_is_the_weighted_mean():
    values, weights = [0.1, -3.0, 0.7], [1.0, 0.0, 3.0]
    plain = lock(look(v) for v in values)
    torch.testing.assert_close(plain.arguments, torch.full((6,), sum(values) / 3))
    weighted = lock([look(v) for v in values], weights)
    torch.testing.assert_close(weighted.arguments, torch.full((6,), 0.55))
    nothing = lock([look(v) for v in values], [0, 0, 0])
    torch.testing.assert_close(nothing.arguments, plain.arguments)
    grids = [torch.rand(3, 3, 3, 3) for _ in range(5)]
    torch.testing.assert_close(lock(LutLook(g) for g in grids).grid, torch.stack(grids).mean(0))


def test_lock_of_mixed_kinds_goes_through_luts():
    mixed = lock([look(0.0), LutLook(identity_grid(33) * 0.5)])
    torch.testing.assert_close(mixed.grid, identity_grid(33) * 0.75, atol=1e-5, rtol=0)


def test_lock_refuses_bad_weights():
    with pytest.raises(ValueError, match="at least one look"):
        lock([])
    with pytest.raises(ValueError, match="weights must have one number a look"):
        lock([look(0.0)] * 2, [1.0])
    with pytest.raises(ValueError, match="weights must have one number a look"):
        lock([look(0.0)], [1.0, 1.0])
    with pytest.raises(ValueError, match="weights"):
        lock([look(0.0)], [-1.0])

# SPDX-License-Identifier: Apache-2.0
"""Looks over time: a causal moving average, and one Look for a whole clip."""

from __future__ import annotations

import math
from collections.abc import Iterable

from . import _fields
from .base import Look


class Smoother:
    """Exponential moving average of Looks, with a time constant in seconds.

    After `dt` seconds the new Look counts `1 - exp(-dt / time_constant)`, so the result does not
    depend on the frame rate, and uneven time stamps are handled. The first Look initialises.

    Args:
        time_constant: seconds; 0 does not smooth at all.

    Source: the moving average of filter arguments in Harmonizer (Ke et al., ECCV 2022, eq. 14),
    in continuous time.

    Raises:
        ValueError: `time_constant` is negative or not finite.
    """

    def __init__(self, time_constant: float) -> None:
        self.time_constant = _fields.number(
            "Smoother", "time_constant", time_constant, 0.0, float("1e9")
        )
        self._look: Look | None = None
        self._time = 0.0

    @classmethod
    def from_alpha(cls, alpha: float, frame_rate: float) -> Smoother:
        """The Smoother whose weight of a new frame is `alpha` at a constant frame rate.

        Args:
            alpha: in (0, 1]; the paper prints 0.9, the published demo uses 0.04.
            frame_rate: frames a second.
        """
        if not 0 < alpha <= 1:
            raise ValueError(f"from_alpha: alpha must be in (0, 1], got {alpha}")
        if not (frame_rate > 0 and math.isfinite(frame_rate)):
            raise ValueError(f"from_alpha: frame_rate must be positive, got {frame_rate}")
        return cls(0.0 if alpha == 1 else -1 / (frame_rate * math.log1p(-alpha)))

    def update(self, look: Look, time: float, *, weight: float = 1.0) -> Look:
        """Takes in a Look and returns the smoothed one.

        Args:
            look: the Look estimated at this time.
            time: its time stamp in seconds, not before the preceding one's.
            weight: how much the Look is worth, 0 to 1; 0 where nothing could be estimated (an
                empty mask): the state is then kept, so that a foreground that comes back is
                not faded in from nothing.

        Returns:
            The average so far; `look` itself while there is none.

        Raises:
            ValueError: `time` went back (call `reset` at a cut) or is not finite, or `weight` is
                outside [0,1].
        """
        if not math.isfinite(time):
            raise ValueError(f"update: time must be finite, got {time}")
        weight = _fields.number("update", "weight", weight, 0.0, 1.0)
        if self._look is None:
            if weight > 0:
                self._look, self._time = look, time
            return look
        if time < self._time:
            raise ValueError(
                f"update: time must not go back, got {time} after {self._time}; call reset() where "
                "a new shot begins"
            )
        if weight == 0:
            return self._look
        step = 1.0 if self.time_constant == 0 else -math.expm1(
            (self._time - time) / self.time_constant
        )  # fmt: skip
        self._look, self._time = self._look.blend(look, weight * step), time
        return self._look

    def reset(self) -> None:
        """Forgets everything: the next Look initialises. To be called at scene cuts."""
        self._look = None


def lock(looks: Iterable[Look], weights: Iterable[float] | None = None) -> Look:
    """One Look for a whole clip: the weighted mean.

    Filter Looks: mean of the arguments (unclamped) and statistics; LUTs: mean of the grids;
    different kinds: mean of their LUTs. Looks are taken one at a time, so a generator over a long
    clip stays small.

    Args:
        looks: at least one.
        weights: one number >= 0 a Look, such as the foreground's area; None counts all the same.
            Where all are zero the Looks count all the same.

    Raises:
        ValueError: no Looks, a weight that is negative or not finite, or not one weight a Look.
    """
    mean: Look | None = None
    plain: Look | None = None
    total, count = 0.0, 0
    given = None if weights is None else iter(weights)
    missing = object()
    for look in looks:
        weight = 1.0 if given is None else next(given, missing)
        if weight is missing:
            raise ValueError(f"lock: weights must have one number a look, got {count}")
        weight = _fields.number("lock", "weights", weight, 0.0, float("1e300"))
        count += 1
        if weight > 0:
            total += weight
            mean = look if mean is None else mean.blend(look, weight / total)
        elif mean is None:
            plain = look if plain is None else plain.blend(look, 1 / count)
    if given is not None and next(given, missing) is not missing:
        raise ValueError(f"lock: weights must have one number a look, got more than {count}")
    locked = mean if mean is not None else plain
    if locked is None:
        raise ValueError("lock: looks must hold at least one look, got none")
    return locked

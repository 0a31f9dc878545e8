# SPDX-License-Identifier: Apache-2.0
"""Small charts as SVG text; their colours come from the page's style sheet."""

from __future__ import annotations

import math
from html import escape

Points = list["float | None"]

WIDTH, HEIGHT = 560, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 28


def line_chart(
    title: str, lines: dict[str, tuple[int, Points]], *, unit: str, mark: int | None = None,
    names: list[str] | None = None, from_zero: bool = False,
) -> str:  # fmt: skip
    """Lines over frames, or over named places.

    Args:
        title: what a reader who cannot see it is told.
        lines: by label, a colour's number and one value for each place, None for a gap.
        unit: of the horizontal axis.
        mark: a place to be marked by a vertical line.
        names: of the places; numbers by default.
        from_zero: the vertical axis begins at 0.
    """
    values = [v for _, points in lines.values() for v in points if v is not None]
    count = max(len(points) for _, points in lines.values())
    ticks = nice_ticks(min([*values, 0.0] if from_zero else values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place / max(1, count - 1) if count > 1 else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y(t) + 3.5:.1f}" text-anchor="end">{t:g}</text>'
        for t in ticks
    ]
    parts += [
        f'<text class="tick" x="{x(p):.1f}" y="{HEIGHT - 12}" text-anchor="'
        f'{"end" if p and p == count - 1 else "middle"}">'
        f"{escape(names[p]) if names else p}</text>"
        for p in _places(count, names)
    ]
    if unit:
        parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 1}" '
                     f'text-anchor="end">{escape(unit)}</text>')  # fmt: skip
    if mark is not None:
        parts.append(f'<line class="mark" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{TOP}" '
                     f'y2="{HEIGHT - BOTTOM}"/>')  # fmt: skip
    for label, (colour, points) in lines.items():
        parts.append(_line(label, colour, [(x(i), None if v is None else y(v))
                                           for i, v in enumerate(points)]))  # fmt: skip
    return _svg(title, WIDTH, HEIGHT, parts)


def _places(count: int, names: list[str] | None) -> list[int]:
    """Which places of the horizontal axis are named."""
    if names:
        return list(range(count))
    step = max(1, round(nice_step(count / 8))) if count > 9 else 1
    return list(range(0, count, step))


def _line(label: str, colour: int, points: list[tuple[float, float | None]]) -> str:
    path, pen = [], "M"
    dots = []
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{x:.1f} {y:.1f}")
        dots.append(f'<circle class="c{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>')
        pen = "L"
    shown = dots if len(points) <= 40 else []
    return (
        f'<g data-method="{escape(label)}"><path class="line c{colour}" d="{" ".join(path)}">'
        f"<title>{escape(label)}</title></path>{''.join(shown)}</g>"
    )


def dot_chart(
    title: str, rows: list[tuple[str, int, float, tuple[float, float] | None]], digits: int
) -> str:  # fmt: skip
    """One row for each method: its mean as a dot, its interval as a bar.

    Args:
        title: what a reader who cannot see it is told.
        rows: label, colour's number, mean, and the interval where it is known.
        digits: behind the point.
    """
    row_height, left, right = 28, 190, 84
    height = 12 + row_height * len(rows) + 24
    ends = [value for _, _, mean, span in rows for value in (mean, *(span or ()))]
    ticks = nice_ticks(min(ends), max(ends))
    low, high = ticks[0], ticks[-1]

    def x(value: float) -> float:
        return left + (WIDTH + 160 - left - right) * (value - low) / (high - low)

    base = height - 24
    parts = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="4" y2="{base}"/>'
        f'<text class="tick" x="{x(t):.1f}" y="{height - 8}" text-anchor="middle">{t:g}</text>'
        for t in ticks
    ]
    for number, (label, colour, mean, span) in enumerate(rows):
        y = 12 + row_height * (number + 0.5)
        name = label if len(label) <= 26 else f"{label[:12]}…{label[-12:]}"
        parts.append(f'<text class="name" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">'
                     f"{escape(name)}</text>")  # fmt: skip
        if span is not None:
            parts.append(f'<line class="span c{colour}" x1="{x(max(low, span[0])):.1f}" '
                         f'x2="{x(span[1]):.1f}" y1="{y}" y2="{y}"/>')  # fmt: skip
        parts.append(f'<circle class="c{colour}" cx="{x(mean):.1f}" cy="{y}" r="5"/>')
        parts.append(f'<text class="value" x="{WIDTH + 160 - 4}" y="{y + 4:.1f}" '
                     f'text-anchor="end">{mean:.{digits}f}</text>')  # fmt: skip
    return _svg(title, WIDTH + 160, height, parts)


def _svg(title: str, width: float, height: float, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def nice_step(rough: float) -> float:
    """The step of 1, 2 or 5 times a power of ten that is nearest above."""
    power = 10 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def nice_ticks(low: float, high: float) -> list[float]:
    """About four round numbers that hold [low, high] between them."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * max(1e-3, abs(low)), high + 0.5 * max(1e-3, abs(high))
    step = nice_step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]

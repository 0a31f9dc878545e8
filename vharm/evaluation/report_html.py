# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML file: tables, charts, and pictures to compare by hand.

Nothing is loaded from elsewhere; the style sheet and the script stand in the file.
"""

from __future__ import annotations

import html
import importlib.resources
from string import Template

from .entries import COMPOSITE
from .protocol import METRICS
from .report_charts import dot_chart, line_chart
from .report_images import RAMP, data_uri, error_picture, error_scale
from .result import Evaluation, Figures, GalleryClip
from .table import bins_header, cell, improved, notes

COLOURS = 8
"""Of methods, in the style sheet (c1 to c8); c0 is the composite's."""


def as_html(evaluation: Evaluation, title: str = "Evaluation") -> str:
    """The whole report.

    Raises:
        ImportError: it has pictures, and Pillow is missing.
    """
    e = evaluation
    sections = [
        ("summary", "All of it", _summary(e)), ("share", *_bins(e)),
        ("clips", "Clips", _gallery(e)), ("subsets", "By subset", _subsets(e)),
        ("notes", "How it was measured", _notes(e)),
    ]  # fmt: skip
    sections = [part for part in sections if part[2]]
    short = {"share": "By foreground"}
    links = "".join(f'<a href="#{key}">{short.get(key, head)}</a>' for key, head, _ in sections)
    body = "".join(
        f'<section id="{key}"><h2>{head}</h2>{content}</section>' for key, head, content in sections
    )
    return Template(_read("report.html")).substitute(
        title=_text(title), subtitle=_subtitle(e), style=_read("report.css"),
        script=_read("report.js"), links=links, body=body,
    )  # fmt: skip


def _read(name: str) -> str:
    folder = importlib.resources.files(__package__) / "templates"
    return (folder / name).read_text("utf-8")


def _text(value: object) -> str:
    return html.escape(str(value))


def _colour(e: Evaluation, label: str) -> int:
    place = e.methods.index(label)
    return 0 if place == 0 else 1 + (place - 1) % COLOURS


def _subtitle(e: Evaluation) -> str:
    data = e.settings.get("data", {})
    name = data.get("path") or data.get("name") or "data in memory"
    size = f"{e.clips} pictures" if e.frames == e.clips else f"{e.clips} clips, {e.frames} frames"
    parts = [str(name), size, f"protocol {e.protocol.name}"]
    parts += [f"{key} {data[key]}" for key in ("split", "recolour", "seed") if key in data]
    return " · ".join(_text(part) for part in parts)


def _name(e: Evaluation, label: str) -> str:
    return f'<th scope="row"><i class="dot c{_colour(e, label)}"></i>{_text(label)}</th>'


def _value(e: Evaluation, figures: Figures, label: str, metric: str) -> str:
    figure = figures.get(label, {}).get(metric)
    best = ' class="best"' if e.best(figures, metric) == label else ""
    text = cell(figure, metric)
    spread = ""
    if figure is not None and figure.error is not None:
        spread = f"<small>± {figure.error:.{METRICS[metric].digits}f}</small>"
    return f"<td{best}>{text}{spread}</td>"


def _figures(e: Evaluation, figures: Figures, *, with_improved: bool = False) -> str:
    with_improved = with_improved and bool(e.improved)
    heads = "".join(
        f'<th scope="col" title="{_text(METRICS[n].meaning)}">{METRICS[n].heading}</th>'
        for n in e.metrics
    )
    if with_improved:
        heads += '<th scope="col" title="share of clips with a lower fMSE">improved ↑</th>'
    rows = []
    for label in e.methods:
        cells = "".join(_value(e, figures, label, name) for name in e.metrics)
        if with_improved:
            cells += f"<td>{improved(e, label)}</td>"
        rows.append(f"<tr>{_name(e, label)}{cells}</tr>")
    return _table(f'<th scope="col">method</th>{heads}', rows)


def _table(heads: str, rows: list[str]) -> str:
    body = "".join(rows)
    return (
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _summary(e: Evaluation) -> str:
    if not e.metrics:
        return "<p>No metric is defined on these data.</p>"
    parts = [_figures(e, e.totals, with_improved=True)]
    main = e.main_metric()
    rows = [
        (label, _colour(e, label), figure.mean, figure.interval)
        for label in e.methods
        if (figure := e.totals.get(label, {}).get(main)) is not None
    ]
    if main is not None and len(rows) > 1:
        metric = METRICS[main]
        chart = dot_chart(f"{main} of each method with its interval", rows, metric.digits)
        parts.append(
            f"<figure>{chart}<figcaption>{metric.heading}: mean and 95 % interval over clips "
            f"({_text(metric.meaning)})</figcaption></figure>"
        )
    return f'<div class="duo">{"".join(parts)}</div>'


def _bins(e: Evaluation) -> tuple[str, str]:
    metric, names = bins_header(e)
    if metric is None or not names:
        return "", ""
    counts = {n: e.bins[n][COMPOSITE][metric].count for n in names if COMPOSITE in e.bins[n]}
    heads = '<th scope="col">method</th>' + "".join(
        f'<th scope="col">{name}<small>{counts.get(name, 0)} frames</small></th>' for name in names
    )
    rows = [
        f"<tr>{_name(e, label)}"
        + "".join(_value(e, e.bins[name], label, metric) for name in names)
        + "</tr>"
        for label in e.methods
    ]
    chart = ""
    if len(names) > 1:
        lines = {}
        for label in e.methods:
            found = [e.bins[name].get(label, {}).get(metric) for name in names]
            points = [None if figure is None else figure.mean for figure in found]
            if any(point is not None for point in points):
                lines[label] = (_colour(e, label), points)
        drawing = line_chart(
            f"{metric} by the foreground's share of the frame", lines, unit="", names=names,
            from_zero=METRICS[metric].better == "lower",
        )  # fmt: skip
        chart = f"<figure>{drawing}{_legend(e, list(lines))}</figure>"
    heading = f"{METRICS[metric].heading} by the foreground's share of the frame"
    return heading, f'<div class="duo">{_table(heads, rows)}{chart}</div>'


def _legend(e: Evaluation, labels: list[str]) -> str:
    marks = "".join(
        f'<span><i class="dot c{_colour(e, label)}"></i>{_text(label)}</span>' for label in labels
    )
    return f'<figcaption class="legend">{marks}</figcaption>'


def _subsets(e: Evaluation) -> str:
    if len(e.subsets) < 2:
        return ""
    return "".join(f"<h3>{_text(n)}</h3>{_figures(e, f)}" for n, f in e.subsets.items())


def _notes(e: Evaluation) -> str:
    lines = "".join(f"<li>{_text(line)}</li>" for line in notes(e))
    meanings = "".join(
        f"<dt>{METRICS[name].heading}</dt><dd>{_text(METRICS[name].meaning)}</dd>"
        for name in e.metrics
    )
    times = ", ".join(
        f"{_text(label)} {1000 * seconds / max(1, e.frames):.1f} ms"
        for label, seconds in e.seconds.items()
        if label != COMPOSITE
    )
    settings = {**e.settings.get("data", {}), "temporal": e.settings.get("temporal"),
                "device": e.settings.get("device"), **e.settings.get("weights", {}),
                **e.settings.get("versions", {})}  # fmt: skip
    rows = "".join(
        f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>"
        for key, value in settings.items()
        if value not in (None, "")
    )
    timing = f"<p>Estimating and applying took, a frame (no benchmark): {times}.</p>"
    return (
        f"<ul>{lines}<li>± is the standard error over clips; the best of a column is bold.</li>"
        f"</ul>{timing if times else ''}<details><summary>Metrics</summary><dl>{meanings}</dl>"
        f"</details><details><summary>Settings and versions</summary><dl>{rows}</dl></details>"
    )


def _gallery(e: Evaluation) -> str:
    if not e.gallery:
        return ""
    ramp = ",".join(f"rgb({r},{g},{b})" for r, g, b in RAMP)
    cards = "".join(_card(e, clip, number) for number, clip in enumerate(e.gallery))
    hint = (
        "<p>The worst, the median and the best of each method. Drag the divider, or focus it and "
        "use the arrow keys; choose what stands on either side of it beside the picture.</p>"
    )
    return f'<div style="--ramp:linear-gradient(90deg,{ramp})">{hint}{cards}</div>'


def _card(e: Evaluation, clip: GalleryClip, number: int) -> str:
    scale = error_scale(list(clip.errors.values()))
    facts = [", ".join(clip.reasons), f"foreground {100 * clip.ratio:.0f} % of the frame"]
    if clip.frames > 1:
        facts.append(f"frame {clip.frame} of 0 to {clip.frames - 1}")
    if clip.subset:
        facts.append(clip.subset)
    return (
        f'<article class="clip" aria-label="{_text(clip.clip)}"><header><h3>{_text(clip.clip)}</h3>'
        f"<p>{_text(' · '.join(facts))}</p></header>"
        f'<div class="pair">{_viewer(clip, number)}<div class="side">{_choice(e, clip, number)}'
        f"{_plots(e, clip)}</div></div>{_strip(e, clip, scale)}</article>"
    )


def _viewer(clip: GalleryClip, number: int) -> str:
    height, width = clip.composite.shape[:2]
    return (
        f'<div class="viewer" style="aspect-ratio:{width}/{height}">'
        '<img class="after" alt=""><img class="before" alt="">'
        '<span class="tag left"></span><span class="tag right"></span><i class="handle"></i>'
        f'<input type="range" min="0" max="100" value="50" id="slide{number}" '
        f'aria-label="Divider over {_text(clip.clip)}"></div>'
    )


def _choice(e: Evaluation, clip: GalleryClip, number: int) -> str:
    """What stands left and right of the divider, with each one's scores."""
    sides = [label for label in e.methods if label == COMPOSITE or label in clip.outputs]
    heads = "".join(f'<th scope="col">{METRICS[n].heading}</th>' for n in _few(e))
    rows = []
    for label in [*sides, *([] if clip.target is None else ["true answer"])]:
        scores = clip.scores.get(label, {})
        cells = "".join(
            f"<td>{scores[n]:.{METRICS[n].digits}f}</td>" if n in scores else "<td></td>"
            for n in _few(e)
        )
        dot = f'<i class="dot c{_colour(e, label)}"></i>' if label in e.methods else ""
        radios = "".join(
            f'<td><input type="radio" name="{side}{number}" data-side="{side}" '
            f'value="{_text(label)}" aria-label="{_text(label)} {words}"'
            f"{' checked' if label == first else ''}></td>"
            for side, words, first in (("before", "on the left", COMPOSITE),
                                       ("after", "on the right", clip.method))
        )  # fmt: skip
        rows.append(f'<tr>{radios}<th scope="row">{dot}{_text(label)}</th>{cells}</tr>')
    return _table('<th scope="col">left</th><th scope="col">right</th><th scope="col"></th>'
                  + heads, rows).replace("<table>", '<table class="choice">')  # fmt: skip


def _few(e: Evaluation) -> list[str]:
    """The columns of a clip's own table."""
    wanted = ("fMSE", "PSNR", "fSSIM", "TL", "flicker")
    return [name for name in wanted if name in e.metrics] or e.metrics[:4]


def _plots(e: Evaluation, clip: GalleryClip) -> str:
    heads = {"fMSE": "fMSE over time", "change": "mean foreground luma, after minus before"}
    parts = []
    for key, by_method in clip.series.items():
        lines = {label: (_colour(e, label), values) for label, values in by_method.items()
                 if any(value is not None for value in values)}  # fmt: skip
        if not lines:
            continue
        drawing = line_chart(
            f"{heads[key]} of {clip.clip}", lines, unit="frame", mark=clip.frame,
            from_zero=key == "fMSE",
        )  # fmt: skip
        parts.append(f"<figure><figcaption>{heads[key]}</figcaption>{drawing}</figure>")
    return "".join(parts)


def _strip(e: Evaluation, clip: GalleryClip, scale: int) -> str:
    """All pictures of a clip side by side, each above its error."""
    against = "composite" if clip.target is None else "true answer"
    cells = [_cell(COMPOSITE, clip.composite, f"the composite {clip.clip}",
                   _error(clip, COMPOSITE, scale, against))]  # fmt: skip
    for label, picture in clip.outputs.items():
        cells.append(_cell(label, picture, f"{clip.clip} by {label}",
                           _error(clip, label, scale, against)))  # fmt: skip
    mask = f'<img src="{data_uri(clip.mask, exact=True)}" alt="mask of {_text(clip.clip)}">'
    if clip.target is not None:
        alt = f"the true answer of {clip.clip}"
        cells.append(_cell("true answer", clip.target, alt, mask, below="mask"))
    else:
        cells.append(f"<figure><figcaption>mask</figcaption>{mask}</figure>")
    word = "error" if clip.target is not None else "change"
    bar = (
        f'<p class="scale"><span>{word}, mean of |R|, |G|, |B| against the {against}</span>'
        f"<b>0</b><i></i><b>{scale}</b></p>"
    )
    return f'<div class="strip">{"".join(cells)}</div>{bar}'


def _cell(label: str, picture, alt: str, under: str, below: str = "") -> str:
    caption = f"<figcaption>{_text(label)}{f' and {below}' if below else ''}</figcaption>"
    return (
        f'<figure>{caption}<img data-label="{_text(label)}" src="{data_uri(picture)}" '
        f'alt="{_text(alt)}">{under}</figure>'
    )


def _error(clip: GalleryClip, label: str, scale: int, against: str) -> str:
    error = clip.errors[label]
    alt = f"difference of {label} to the {against}, {error.mean():.2f} on average"
    return f'<img src="{data_uri(error_picture(error, scale))}" alt="{_text(alt)}">'

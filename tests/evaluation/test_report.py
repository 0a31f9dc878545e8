# SPDX-License-Identifier: Apache-2.0
"""Tables and the report."""

from __future__ import annotations

import base64
import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from vharm.evaluation import as_csv, as_json, as_markdown, evaluate, write_report
from vharm.evaluation.report_charts import dot_chart, line_chart, nice_ticks
from vharm.evaluation.report_html import as_html
from vharm.evaluation.report_images import error_picture, error_scale
from vharm.evaluation.table import text_table

pytest.importorskip("PIL")
pytest.importorskip("cv2")
VOID = {"meta", "img", "input", "br", "link", "line", "circle", "path"}


class Page(HTMLParser):
    """Elements of a page; fails where tags do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def result(sample_maker):
    data = [
        sample_maker("clip <one>", 3, seed=1, size=(48, 48), subset="A", flow=True),
        sample_maker("two", 2, seed=2, size=(48, 48), box=(2, 46, 2, 30), subset="B"),
        sample_maker("real", 2, seed=3, size=(48, 48), subset="B", target=False),
    ]
    return evaluate(data, ["mkl", "reinhard"], keep_images=3, about={"path": "set & co"})


def test_text_table_has_arrows_and_a_row_for_each_method(result):
    out = io.StringIO()
    Console(file=out, width=200).print(text_table(result))
    lines = out.getvalue().splitlines()
    assert "fMSE ↓" in lines[0]
    assert "PSNR ↑" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["composite", "mkl", "reinhard"]
    assert f"{result.totals['mkl']['fMSE'].mean:.2f}" in lines[2]


def test_the_best_is_bold(result):
    best = result.best(result.totals, "fMSE")
    assert best == min(result.methods, key=lambda m: round(result.totals[m]["fMSE"].mean, 2))
    best = result.best(result.totals, "PSNR")
    assert best == max(result.methods, key=lambda m: result.totals[m]["PSNR"].mean)
    line = next(x for x in as_markdown(result).splitlines() if x.startswith(f"| {best} "))
    assert f"**{result.totals[best]['PSNR'].mean:.2f}" in line


def test_csv_has_a_line_for_each_clip_and_method(result):
    rows = list(csv.DictReader(io.StringIO(as_csv(result))))
    assert len(rows) == 9
    assert rows[0]["clip"] == "clip <one>"
    assert float(rows[1]["fMSE"]) == pytest.approx(result.rows[1].scores["fMSE"], rel=1e-6)
    assert rows[-1]["fMSE"] == ""


def test_json_says_everything(result):
    data = json.loads(as_json(result))
    assert data["methods"][0] == "composite"
    assert data["settings"]["data"] == {"path": "set & co"}
    assert data["settings"]["versions"]["torch"]
    assert data["totals"]["mkl"]["fMSE"]["mean"] == result.totals["mkl"]["fMSE"].mean
    assert len(data["per_clip"]) == 9
    assert set(data["foreground_bins"]) == set(result.bins)
    assert "not a benchmark" in data["seconds"]["note"]


def test_the_page_stands_alone(result):
    text = as_html(result)
    page = Page(text)
    sources = [image["src"] for image in page.all("img") if "src" in image]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not [a for tag in ("script", "link", "iframe") for a in page.all(tag) if a]
    assert "http" not in text
    assert all(image["alt"] for image in page.all("img") if "src" in image)
    sliders = [i for i in page.all("input") if i["type"] == "range"]
    # Clips are compared by fMSE, which "real" has not.
    assert len(sliders) == len(result.gallery) == 2
    assert all(slider["aria-label"] for slider in sliders)
    assert "clip &lt;one&gt;" in text
    assert "clip <one>" not in text
    # fMSE and colour over time for two clips; means in all, and by the foreground's share.
    assert len(page.all("svg")) in (5, 6)


def test_pictures_show_what_was_scored(result):
    by_clip = {clip.clip: clip for clip in result.gallery}
    assert set(by_clip) == {"clip <one>", "two"}
    clip = by_clip["clip <one>"]
    assert clip.composite.shape == (48, 48, 3)
    assert set(clip.outputs) == {"mkl", "reinhard"}
    truth = np.abs(clip.outputs["mkl"].astype(float) - clip.target).mean(-1)
    # Outputs are rounded for pictures, errors are not.
    assert np.abs(truth - clip.errors["mkl"]).max() <= 0.51
    series = [v for v in clip.series["fMSE"]["mkl"] if v is not None]
    assert np.mean(series) == pytest.approx(clip.scores["mkl"]["fMSE"])
    assert clip.series["fMSE"][clip.method][clip.frame] == max(clip.series["fMSE"][clip.method])
    assert any("worst of mkl" in c.reasons for c in result.gallery)


def test_the_folder_is_written_whole_or_not_at_all(result, tmp_path, monkeypatch):
    place = write_report(result, tmp_path / "out")
    assert sorted(p.name for p in place.iterdir()) == [
        "clips.csv", "evaluation.json", "report.html", "table.md",
    ]  # fmt: skip
    with pytest.raises(FileExistsError, match="holds a report already; -y replaces it"):
        write_report(result, place)
    (place / "table.md").write_text("old")
    write_report(result, place, overwrite=True)
    assert (place / "table.md").read_text() != "old"
    (place / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes.txt, which is no part of a report"):
        write_report(result, place, overwrite=True)
    monkeypatch.setattr("vharm.evaluation.report.os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(result, tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_real_composites_have_a_page_without_answers(sample_maker):
    data = [sample_maker("real", 3, size=(48, 48), target=False)]
    result = evaluate(data, ["mkl"], keep_images=1)
    text = as_html(result)
    Page(text)
    assert result.main_metric() == "TL"
    assert "true answer" not in text
    assert "against the composite" in text
    assert result.bins == {}


def test_error_maps():
    error = np.array([[0.0, 5.0], [7.0, 40.0]], np.float32)
    assert error_scale([error]) == 64
    picture = error_picture(error, 64)
    luma = picture @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luma.ravel()) > 0).all()


def test_charts():
    assert nice_ticks(0, 10) == [0, 5, 10]
    assert nice_ticks(3, 3)[0] < 3 < nice_ticks(3, 3)[-1]
    chart = line_chart("a & b", {"x": (1, [1.0, None, 2.0, 3.0])}, unit="frame", mark=2)
    assert 'aria-label="a &amp; b"' in chart
    # A gap begins the line anew.
    assert chart.split(' d="')[1].split('"')[0].count("M") == 2
    assert dot_chart("t", [("a", 0, 1.0, (0.5, 1.5)), ("b", 1, 2.0, None)], 2).count("<circle") == 2


def test_images_are_valid(result):
    from PIL import Image

    for image in Page(as_html(result)).all("img"):
        if "src" in image:
            raw = base64.b64decode(image["src"].split(",")[1])
            assert Image.open(io.BytesIO(raw)).size == (48, 48)

# SPDX-License-Identifier: Apache-2.0
"""Ranking sheets: what is found, what the page holds, and what its script writes."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vharm.evaluation.ranking_sheet import find_results, write_ranking_sheet

Image = pytest.importorskip("PIL.Image")

NAMES = ("composite", "mkl", 'the "new", one')


def picture(path: Path, value: int, size=(40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path)


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Path]:
    """Three methods: a picture, a clip of three numbered frames, and one that only one has."""
    folders = {}
    for number, name in enumerate(NAMES):
        root = folders[name] = tmp_path / f"method{number}"
        picture(root / f"street.{'png' if number else 'jpg'}", 60 * number)
        for frame in range(3):
            inner = "composites" if number == 0 else ""
            picture(root / "clip" / inner / f"{frame:05d}.png", 60 * number + 10 * frame)
    picture(tmp_path / "method0" / "clip" / "masks" / "00000.png", 255)
    picture(tmp_path / "method0" / "alone.png", 255)
    return folders


def data_of(page: Path) -> dict:
    text = page.read_text("utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def shade(uri: str) -> int:
    content = base64.b64decode(uri.split(",")[1])
    return int(np.asarray(Image.open(io.BytesIO(content))).mean().round())


def test_results_have_the_same_name_whatever_their_form(results):
    first = find_results(results["composite"])
    assert set(first) == {"street", "clip", "alone"}  # and no masks
    assert first["clip"].name == "00001.png"
    assert set(find_results(results["mkl"])) == {"street", "clip"}


def test_the_page_holds_every_method_shuffled_and_unnamed(results, tmp_path):
    made = write_ranking_sheet(results, tmp_path / "sheet.html", seed=3)
    assert set(made.items) == {"street", "clip"}
    assert made.left_out == ("alone",)
    data = data_of(made.path)
    assert json.loads(base64.b64decode(data["methods"])) == list(NAMES)
    for name, item in zip(made.items, data["items"], strict=True):
        shades = [shade(uri) for uri in item["cells"]]
        extra = 10 if name == "clip" else 0  # the middle frame
        assert shades == [60 * i + extra for i in item["order"]]
    text = made.path.read_text("utf-8")
    assert "mkl" not in text
    assert "http" not in text
    orders = set()
    for seed in range(8):
        page = write_ranking_sheet(results, tmp_path / "other.html", seed=seed).path
        orders.add(json.dumps([item["order"] for item in data_of(page)["items"]]))
    assert len(orders) > 3
    again = write_ranking_sheet(results, tmp_path / "again.html", seed=3).path
    assert again.read_bytes() == made.path.read_bytes()
    assert not list(tmp_path.glob(".*.tmp"))


def test_limit_and_side(results, tmp_path):
    made = write_ranking_sheet(results, tmp_path / "sheet.html", limit=1, side=20)
    assert len(made.items) == 1
    uri = data_of(made.path)["items"][0]["cells"][0]
    assert Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size == (20, 15)


def test_titles_are_no_markup(results, tmp_path):
    page = write_ranking_sheet(results, tmp_path / "s.html", title="<b>", question="</script>").path
    text = page.read_text("utf-8")
    assert "<title>&lt;b&gt;</title>" in text
    assert "&lt;/script&gt;" in text


def test_videos_are_embedded_as_they_are(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(name.encode())
    made = write_ranking_sheet({"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "s.html")
    (item,) = data_of(made.path)["items"]
    expected = [
        f"data:video/mp4;base64,{base64.b64encode(b'ab'[i : i + 1]).decode()}" for i in (0, 1)
    ]
    assert item["cells"] == [expected[i] for i in item["order"]]


def test_bad_input_is_named(results, tmp_path):
    page = tmp_path / "sheet.html"
    one = {"mkl": results["mkl"]}
    with pytest.raises(ValueError, match="results: expected two methods or more"):
        write_ranking_sheet(one, page)
    with pytest.raises(FileNotFoundError, match="results: .*absent is not a folder"):
        write_ranking_sheet({**one, "x": tmp_path / "absent"}, page)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="in all folders: mkl has 2, x has 0"):
        write_ranking_sheet({**one, "x": tmp_path / "empty"}, page)
    picture(tmp_path / "small" / "street.png", 9, (8, 8))
    with pytest.raises(ValueError, match="pictures of street differ in size: 8x8 and 40x30"):
        write_ranking_sheet({**one, "x": tmp_path / "small"}, page)
    assert not page.exists()


# A document with just what the script touches; `clicks` are cells of one item after the other.
DOCUMENT = """
const nodes = {};
const made = () => ({className: "", textContent: "", attributes: {}, children: [], value: "",
  append(...c) { this.children.push(...c); }, replaceChildren() { this.children = []; },
  setAttribute(k, v) { this.attributes[k] = v; }, removeAttribute(k) { delete this.attributes[k]; },
  querySelector() { return this.children.find((c) => c.className === "rank"); }, click() {}});
const document = {
  getElementById: (id) => nodes[id] ??= made(), createElement: made,
  querySelectorAll: () => nodes.cells.children,
};
const localStorage = {getItem: () => null, setItem() {}};
"""


def run_script(page: Path, steps: str) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to run the page's script")
    script = re.search(r"<script>(.*)</script>\s*</body>", page.read_text("utf-8"), re.S)[1]
    fill = f"document.getElementById('data').textContent = {json.dumps(json.dumps(data_of(page)))};"
    code = f"{DOCUMENT}\n{fill}\n{script}\n{steps}\nprocess.stdout.write(table());"
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_clicks_become_rankings(results, tmp_path):
    made = write_ranking_sheet(results, tmp_path / "sheet.html")
    items = data_of(made.path)["items"]
    steps = """
    nodes.who.value = "p, 1";
    nodes.cells.children[2].onclick(); nodes.cells.children[0].onclick();  // the last one follows
    nodes.next.onclick();
    nodes.cells.children[1].onclick();  // one alone is no ranking
    """
    rows = list(csv.reader(io.StringIO(run_script(made.path, steps))))
    assert rows[0] == ["participant", "rank1", "rank2", "rank3"]
    assert rows[1] == ["p, 1", *(NAMES[items[0]["order"][cell]] for cell in (2, 0, 1))]
    assert len(rows) == 2
    # Clicking the first again takes everything back.
    undone = run_script(
        made.path, steps + "nodes.back.onclick(); nodes.cells.children[2].onclick();"
    )
    assert undone == "participant,rank1,rank2,rank3\n"


def test_two_methods_give_winners_and_losers(results, tmp_path):
    choices = pytest.importorskip("vharm.evaluation.choices")
    pair = {name: results[name] for name in NAMES[1:]}
    made = write_ranking_sheet(pair, tmp_path / "sheet.html")
    items = data_of(made.path)["items"]
    steps = 'document.onkeydown({key: "2"}); document.onkeydown({key: "ArrowRight"});'
    steps += 'document.onkeydown({key: "1"});'
    path = tmp_path / "choices.csv"
    path.write_text(run_script(made.path, steps))
    assert path.read_text().startswith("participant,winner,loser\nanonymous,")
    found = choices.read_choices(path)
    names = [tuple(found.items[i] for i in ranking) for ranking in found.rankings]
    orders = [items[0]["order"][::-1], items[1]["order"]]
    assert names == [tuple(list(pair)[i] for i in order) for order in orders]

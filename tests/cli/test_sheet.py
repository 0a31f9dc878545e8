# SPDX-License-Identifier: Apache-2.0
"""`vharm sheet`."""

from __future__ import annotations

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folders(tmp_path):
    for number, name in enumerate(("mkl", "reinhard")):
        (tmp_path / name).mkdir()
        for picture in ("a", "b", "c")[: 3 - number]:
            image = np.full((20, 30, 3), 90 * number, np.uint8)
            Image.fromarray(image).save(tmp_path / name / f"{picture}.png")
    return tmp_path


def test_a_page_is_written(vharm, folders):
    page = folders / "sheet.html"
    result = vharm("sheet", f"best={folders / 'mkl'}", folders / "reinhard", "-o", page)
    assert result.exit_code == 0, result.output
    assert "2 results of 2 methods" in result.output
    assert "left out, as some method lacks them: 1 (c)" in result.output
    assert page.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}/mkl", "-o", "{0}/s.html"], "NAME=FOLDER: expected two methods or more"),
        (["{0}/mkl", "{0}/absent", "-o", "{0}/s.html"], "absent is not a folder"),
        (["a={0}/mkl", "a={0}/reinhard", "-o", "{0}/s.html"], "the name a stands twice"),
        (["{0}/mkl", "{0}/reinhard", "-o", "{0}/s.txt"], "--output: expected a name that ends in"),
    ],
)
def test_mistakes_are_told_in_a_line(vharm, folders, arguments, message):
    result = vharm("sheet", *(a.format(folders) for a in arguments))
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1

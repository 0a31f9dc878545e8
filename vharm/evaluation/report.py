# SPDX-License-Identifier: Apache-2.0
"""A folder with everything an evaluation has to say."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .report_html import as_html
from .result import Evaluation
from .table import as_csv, as_json, as_markdown

FILES = ("report.html", "table.md", "clips.csv", "evaluation.json")


def check_report_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuses a place no report can be written to, before the work is done.

    Raises:
        FileNotFoundError: the folder it would stand in is missing.
        FileExistsError: something else stands there, or a report and `overwrite` is False.
    """
    place = Path(folder)
    if not place.absolute().parent.is_dir():
        raise FileNotFoundError(f"--report: there is no folder {place.absolute().parent}")
    if not place.exists():
        return
    if not place.is_dir():
        raise FileExistsError(f"--report: {place} is a file, expected a folder")
    others = sorted({entry.name for entry in place.iterdir()} - set(FILES))
    if others:
        raise FileExistsError(
            f"--report: {place} holds {others[0]}, which is no part of a report; give a new folder"
        )
    if not overwrite and any(place.iterdir()):
        raise FileExistsError(f"--report: {place} holds a report already; -y replaces it")


def write_report(
    evaluation: Evaluation, folder: str | os.PathLike[str], *, overwrite: bool = False,
    title: str = "Evaluation",
) -> Path:  # fmt: skip
    """Writes report.html, table.md, clips.csv and evaluation.json.

    The folder appears, or is replaced, when all of it is written.

    Args:
        evaluation: of `evaluate`.
        folder: made if it is not there; its parent must be.
        overwrite: replace a report that stands there.
        title: of the HTML page.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, FileExistsError: as for `check_report_folder`.
        ImportError: there are pictures, and Pillow is missing.
    """
    place = Path(folder).absolute()
    check_report_folder(place, overwrite=overwrite)
    contents = (as_html(evaluation, title), as_markdown(evaluation), as_csv(evaluation),
                as_json(evaluation))  # fmt: skip
    made = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        for name, text in zip(FILES, contents, strict=True):
            (made / name).write_text(text, "utf-8")
        made.chmod(0o777 & ~_umask())
        if place.is_dir():
            old = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
            os.replace(place, old)
            os.replace(made, place)
            shutil.rmtree(old)
        else:
            os.replace(made, place)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return place


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Writes `as_json` to a file, which appears when it is whole."""
    place = Path(path).absolute()
    handle, made = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(as_json(evaluation))
        os.chmod(made, 0o666 & ~_umask())
        os.replace(made, place)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise

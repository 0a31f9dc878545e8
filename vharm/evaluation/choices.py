# SPDX-License-Identifier: Apache-2.0
"""Files of people's choices between methods."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PERSON = "participant"
"""The optional column (key) that says whose choice it was."""

FORMATS = (
    'CSV with the columns "winner,loser" or "rank1,rank2,...", or JSON lines such as '
    '{"winner": "mkl", "loser": "composite"} or {"ranking": ["mkl", "composite"]}; "participant" '
    "may say who chose"
)


@dataclass(frozen=True)
class Choices:
    """Rankings, best first; a choice between two is a ranking of two.

    Attributes:
        items: names, in order of appearance.
        rankings: positions in `items`, best first; two or more, none twice.
        participants: whose each one is, "" where it is not said.
    """

    items: tuple[str, ...]
    rankings: tuple[tuple[int, ...], ...]
    participants: tuple[str, ...]


def read_choices(path: str | os.PathLike[str]) -> Choices:
    """Reads a file of choices, CSV or JSON lines; the first character tells which.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the file, the line, what was expected and what came.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not a text file; expected {FORMATS}") from error
    found = _json_lines(path, text) if text.lstrip()[:1] == "{" else _csv_lines(path, text)
    items: dict[str, int] = {}
    rankings = []
    for number, names, _ in found:
        if len(names) < 2:
            raise ValueError(f"{path}: line {number}: expected two names or more, got {names}")
        if len(set(names)) < len(names):
            raise ValueError(f"{path}: line {number}: a name stands twice: {', '.join(names)}")
        rankings.append(tuple(items.setdefault(name, len(items)) for name in names))
    if not rankings:
        raise ValueError(f"{path}: holds no choices; expected {FORMATS}")
    return Choices(tuple(items), tuple(rankings), tuple(person for _, _, person in found))


def _csv_lines(path: Any, text: str) -> list[tuple[int, list[str], str]]:
    reader = csv.reader(io.StringIO(text))
    head = [name.strip().lower() for name in next(reader, [])]
    columns = [name for name in head if name != PERSON]
    ranks = [f"rank{i + 1}" for i in range(len(columns))]
    if len(columns) < 2 or columns not in (["winner", "loser"], ranks):
        raise ValueError(f"{path}: line 1: expected {FORMATS}; got {','.join(head) or 'nothing'}")
    person = head.index(PERSON) if PERSON in head else None
    found = []
    for row in reader:
        cells = [value.strip() for value in row]
        if not any(cells):
            continue
        who = ""
        if len(cells) > len(head):
            raise ValueError(
                f"{path}: line {reader.line_num}: expected {len(head)} columns, got {len(cells)}"
            )
        if person is not None and person < len(cells):
            who = cells.pop(person)
        while cells and not cells[-1]:
            cells.pop()  # a ranking of fewer than all
        if "" in cells:
            raise ValueError(f"{path}: line {reader.line_num}: a name is missing in {row}")
        found.append((reader.line_num, cells, who))
    return found


def _json_lines(path: Any, text: str) -> list[tuple[int, list[str], str]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: is not JSON: {error}") from error
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: expected {FORMATS}; got {line.strip()[:60]}")
        names = entry.get("ranking")
        if names is None and {"winner", "loser"} <= entry.keys():
            names = [entry["winner"], entry["loser"]]
        if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
            raise ValueError(f"{where}: expected {FORMATS}; got {line.strip()[:60]}")
        found.append((number, names, str(entry.get(PERSON, ""))))
    return found

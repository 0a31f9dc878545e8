# SPDX-License-Identifier: Apache-2.0
"""`.cube` files, as DaVinci Resolve, Premiere, Nuke and ffmpeg read and write them.

The format is Adobe's (Cube LUT Specification 1.0): keyword lines, then one "r g b" line per node,
red running fastest. `LUT_3D_INPUT_RANGE low high` is another vendor's way to give the domain.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ._files import atomic_text

Triple = tuple[float, float, float]

MAX_SIZE_3D, MAX_SIZE_1D = 256, 65536
# A 1-D table has no cross-talk between channels: this many nodes an axis describe it in 3-D.
EXPANDED_SIZE = 65
_KEYWORDS_OF_ONE_NUMBER = ("LUT_3D_SIZE", "LUT_1D_SIZE")
_KEYWORDS_OF_TWO = ("LUT_3D_INPUT_RANGE", "LUT_1D_INPUT_RANGE")
_KEYWORDS_OF_THREE = ("DOMAIN_MIN", "DOMAIN_MAX")


class CubeError(ValueError):
    """A `.cube` file that cannot be read; the message has the file and the line."""


def check_domain(owner: str, low: object, high: object) -> tuple[Triple, Triple]:
    """The domain as two triples of floats, or a ValueError that names it."""
    ends = []
    for name, value in (("domain_min", low), ("domain_max", high)):
        triple = tuple(value) if isinstance(value, Sequence | Tensor) else ()
        if len(triple) != 3 or not all(math.isfinite(float(v)) for v in triple):
            raise ValueError(f"{owner}: {name} must be three finite numbers, got {value!r}")
        ends.append(tuple(float(v) for v in triple))
    if not all(a < b for a, b in zip(*ends, strict=True)):
        raise ValueError(
            f"{owner}: domain_min must lie below domain_max, got {ends[0]} and {ends[1]}"
        )
    return ends[0], ends[1]  # type: ignore[return-value]


def write_cube(
    path: str | os.PathLike[str],
    grid: Tensor,
    title: str = "",
    domain_min: Sequence[float] = (0.0, 0.0, 0.0),
    domain_max: Sequence[float] = (1.0, 1.0, 1.0),
) -> None:
    """Writes a 3-D LUT; the file appears only when it is whole.

    Args:
        path: the file, `.cube` by custom.
        grid: `[S,S,S,3]` float, 2 <= S <= 256, indexed [r,g,b].
        title: free text without line breaks or double quotes.
        domain_min: input colour of the first node.
        domain_max: input colour of the last node.

    Raises:
        TypeError, ValueError: naming the argument. OSError: the file cannot be written.
    """
    if not isinstance(grid, Tensor):
        raise TypeError(f"write_cube: grid must be a torch.Tensor, got {type(grid).__name__}")
    shape = tuple(grid.shape)
    size = shape[0] if shape else 0
    if shape != (size, size, size, 3) or not 2 <= size <= MAX_SIZE_3D:
        raise ValueError(
            f"write_cube: grid must have shape [S, S, S, 3] with S in 2..{MAX_SIZE_3D}, "
            f"got {list(shape)}"
        )
    if not bool(torch.isfinite(grid).all()):
        raise ValueError("write_cube: grid must be finite, got NaN or infinity")
    if any(c in title for c in '"\r\n'):
        raise ValueError(f"write_cube: title must have no quotes or line breaks, got {title!r}")
    low, high = check_domain("write_cube", domain_min, domain_max)
    rows = grid.detach().cpu().float().permute(2, 1, 0, 3).reshape(-1, 3).numpy()
    with atomic_text(path) as file:
        if title:
            file.write(f'TITLE "{title}"\n')
        file.write(f"LUT_3D_SIZE {size}\n")
        file.write(f"DOMAIN_MIN {low[0]:g} {low[1]:g} {low[2]:g}\n")
        file.write(f"DOMAIN_MAX {high[0]:g} {high[1]:g} {high[2]:g}\n")
        np.savetxt(file, rows, fmt="%.7f")


def read_cube(path: str | os.PathLike[str]) -> tuple[Tensor, Triple, Triple, str]:
    """Reads a `.cube` file.

    3-D tables are taken as they are; a 1-D table is expanded to 65^3 nodes. Comments, blank
    lines, any line ends and unknown keywords in capital letters before the table are accepted.

    Args:
        path: the file.

    Returns:
        (grid `[S,S,S,3]` float32 indexed [r,g,b], domain_min, domain_max, title).

    Raises:
        CubeError (a ValueError): what is wrong and in which line. OSError: no such file.
    """
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return _Reader(Path(path)).read(file)


class _Reader:
    """One file's keywords and rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.title = ""
        self.sizes: dict[str, int] = {}
        self.domain: dict[str, Triple] = {}
        self.rows: list[Triple] = []
        self.line = 0

    def fail(self, message: str, *, line: bool = True) -> CubeError:
        place = f"{self.path}, line {self.line}" if line else str(self.path)
        return CubeError(f"{place}: {message}")

    def read(self, lines: Iterable[str]) -> tuple[Tensor, Triple, Triple, str]:
        for self.line, text in enumerate(lines, 1):
            words = text.split()
            if not words or words[0].startswith("#"):
                continue
            if words[0][0].isalpha() and words[0].lower() not in ("nan", "inf", "infinity"):
                self._keyword(words, text)
            else:
                self._row(words)
        return self._finish()

    def _keyword(self, words: list[str], text: str) -> None:
        key = words[0].upper()
        if self.rows:
            raise self.fail(f"the keyword {words[0]} stands after the table began")
        if key == "TITLE":
            self.title = text.strip()[len("TITLE") :].strip().strip('"')
        elif key in _KEYWORDS_OF_ONE_NUMBER:
            self._size(key, words[1:])
        elif key in _KEYWORDS_OF_TWO:
            low, high = self._numbers(key, words[1:], 2)
            self.domain["DOMAIN_MIN"], self.domain["DOMAIN_MAX"] = (low,) * 3, (high,) * 3
        elif key in _KEYWORDS_OF_THREE:
            red, green, blue = self._numbers(key, words[1:], 3)
            self.domain[key] = (red, green, blue)
        elif words[0] != key:
            raise self.fail(f"expected a keyword or three numbers, got {text.strip()[:60]!r}")

    def _size(self, key: str, words: list[str]) -> None:
        if self.sizes:
            raise self.fail(f"a second size, {key}; one table a file is read")
        most = MAX_SIZE_3D if key == "LUT_3D_SIZE" else MAX_SIZE_1D
        if len(words) != 1 or not words[0].isdecimal() or not 2 <= int(words[0]) <= most:
            raise self.fail(f"{key} must be a whole number in 2..{most}, got {' '.join(words)!r}")
        self.sizes[key] = int(words[0])

    def _numbers(self, what: str, words: list[str], count: int) -> list[float]:
        try:
            values = [float(w) for w in words]
        except ValueError:
            values = []
        if len(values) != count or not all(math.isfinite(v) for v in values):
            raise self.fail(f"{what} must be {count} finite numbers, got {' '.join(words)[:60]!r}")
        return values

    def _row(self, words: list[str]) -> None:
        if not self.sizes:
            raise self.fail("the table begins before LUT_3D_SIZE is given")
        if len(self.rows) == self._expected():
            raise self.fail(f"more than the {self._expected()} rows of {self._size_text()}")
        red, green, blue = self._numbers("a row", words, 3)
        self.rows.append((red, green, blue))

    def _expected(self) -> int:
        key, size = next(iter(self.sizes.items()))
        return size**3 if key == "LUT_3D_SIZE" else size

    def _size_text(self) -> str:
        key, size = next(iter(self.sizes.items()))
        return f"{key} {size}"

    def _finish(self) -> tuple[Tensor, Triple, Triple, str]:
        if not self.sizes:
            raise self.fail("no LUT_3D_SIZE: not a .cube file", line=False)
        if len(self.rows) != self._expected():
            raise self.fail(
                f"{len(self.rows)} rows, but {self._size_text()} needs {self._expected()}",
                line=False,
            )
        try:
            low, high = check_domain(
                "the domain",
                self.domain.get("DOMAIN_MIN", (0.0, 0.0, 0.0)),
                self.domain.get("DOMAIN_MAX", (1.0, 1.0, 1.0)),
            )
        except ValueError as error:
            raise self.fail(str(error), line=False) from None
        key, size = next(iter(self.sizes.items()))
        rows = torch.tensor(self.rows, dtype=torch.float32)
        if key == "LUT_1D_SIZE":
            return _expand(rows), low, high, self.title
        grid = rows.reshape(size, size, size, 3).permute(2, 1, 0, 3).contiguous()
        return grid, low, high, self.title


def _expand(curves: Tensor) -> Tensor:
    """Three curves [n,3] as a grid [S,S,S,3]."""
    at = torch.linspace(0, len(curves) - 1, EXPANDED_SIZE, dtype=torch.float64)
    below = at.floor().long().clamp(max=len(curves) - 2)
    part = (at - below)[:, None].float()
    nodes = torch.lerp(curves[below], curves[below + 1], part)
    axes = torch.meshgrid(nodes[:, 0], nodes[:, 1], nodes[:, 2], indexing="ij")
    return torch.stack(axes, -1)

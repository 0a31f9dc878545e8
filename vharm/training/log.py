# SPDX-License-Identifier: Apache-2.0
"""A training's log: `log.jsonl` for reading and plotting, TensorBoard for watching."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

FILE = "log.jsonl"


class Log:
    """Appends to `folder`.

    Args:
        folder: of the training.
        start: the step the training is at; at 0 what an earlier one left is replaced.
        enabled: False where another process keeps the log.
    """

    def __init__(self, folder: Path, *, start: int = 0, enabled: bool = True) -> None:
        self._file: Any = None
        self._board: Any = None
        if enabled:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                text = 'training needs tensorboard: pip install "vharm[train]"'
                raise ImportError(text) from error

            path = folder / FILE
            cut = start > 0 and path.exists() and not path.read_bytes().endswith(b"\n")
            self._file = open(path, "a" if start else "w", encoding="utf-8")  # noqa: SIM115
            if cut:  # by a crash; the next line must not be glued to what is left
                self._file.write("\n")
            # Steps that will be done again are hidden from the graphs.
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._file is not None:
            self._file.close()
            self._board.close()

    def write(self, step: int, seconds: float, part: str, values: Mapping[str, float]) -> None:
        """One line: when, which part of the training, and its numbers."""
        if self._file is None:
            return
        line = {"step": step, "seconds": round(seconds, 3), "part": part, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{part}/{name}", value, step)

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Uint8 [3,H,W] under their names."""
        if self._board is None:
            return
        for name, picture in pictures.items():
            self._board.add_image(name, picture, step)


def read(folder: Path) -> list[dict[str, Any]]:
    """A training's log in the order of its steps.

    What a killed run had logged after its last checkpoint is logged again by its continuation: the
    later line counts. A line cut short by a crash is left out.
    """
    lines: dict[tuple[int, str], dict[str, Any]] = {}
    for text in (folder / FILE).read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        key = (line["step"], line["part"])
        lines.pop(key, None)
        lines[key] = line
    return sorted(lines.values(), key=lambda line: line["step"])

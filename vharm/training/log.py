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
        enabled: False where another process keeps the log.
    """

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self._file: Any = None
        self._board: Any = None
        if enabled:
            from torch.utils.tensorboard import SummaryWriter

            self._file = open(folder / FILE, "a", encoding="utf-8")  # noqa: SIM115
            self._board = SummaryWriter(str(folder / "tensorboard"))

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
    """All lines of a training's log, in order; a line cut short by a crash is left out."""
    lines = []
    for text in (folder / FILE).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines

# SPDX-License-Identifier: Apache-2.0
"""The progress bar: frames done, frames a second, time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

STAGES = {
    "estimate": "estimating", "harmonize": "harmonizing", "evaluate": "evaluating",
    "pictures": "pictures",
}  # fmt: skip


class _Rate(ProgressColumn):
    """Frames (or what else is counted) a second, over the last while."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{speed:.1f} {self._unit}/s", style="progress.data.speed"
        )


@contextlib.contextmanager
def progress_bar(
    shown: bool, unit: str = "frames"
) -> Iterator[Callable[[int, int | None, str], None] | None]:
    """Gives `Session.run`'s `progress` callback, or None where no bar is wanted.

    The bar is drawn on stderr and only on a terminal, and it is gone when the work is done.
    """
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield None
        return
    columns = (
        TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), _Rate(unit),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {}

        def update(done: int, total: int | None, stage: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(STAGES.get(stage, stage), total=total)
            # An estimated length may be too short; the bar never passes its end.
            total = None if total is None else max(total, done)
            bar.update(tasks[stage], completed=done, total=total)

        yield update

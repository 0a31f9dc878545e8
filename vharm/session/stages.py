# SPDX-License-Identifier: Apache-2.0
"""The stages of a run: seconds of each, ranges for Nsight Systems, and a trace of all of them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any


class Trace:
    """What each thread did when: a list that `chrome://tracing` and Perfetto can show.

    Attributes:
        events: (stage, thread's number, start, end) in seconds of `time.perf_counter`, in the
            order in which they ended.
        threads: names of the threads by number.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, int, float, float]] = []
        self.threads: dict[int, str] = {}

    def add(self, stage: str, start: float, end: float) -> None:
        """Notes that the calling thread was in a stage from `start` to `end`."""
        number = threading.get_native_id()
        if number not in self.threads:
            self.threads[number] = threading.current_thread().name
        # list.append is atomic, so threads need no lock.
        self.events.append((stage, number, start, end))

    def chrome(self) -> dict[str, Any]:
        """The trace in Chrome's JSON object format; times in microseconds from the first start."""
        process = os.getpid()
        begin = min((start for _, _, start, _ in self.events), default=0.0)
        events: list[dict[str, Any]] = [
            {"name": "thread_name", "ph": "M", "pid": process, "tid": number, "args": {"name": n}}
            for number, n in self.threads.items()
        ]
        events += [
            {
                "name": stage, "cat": "vharm", "ph": "X", "pid": process, "tid": number,
                "ts": round((start - begin) * 1e6, 1), "dur": round((end - start) * 1e6, 1),
            }
            for stage, number, start, end in sorted(self.events, key=lambda event: event[2])
        ]  # fmt: skip
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes `chrome()` as JSON."""
        Path(path).write_text(json.dumps(self.chrome()) + "\n")


class Stages:
    """Times stages, from any thread.

    Args:
        seconds: what the seconds are added to, by stage. A stage within another counts as itself
            only.
        trace: where each stage is noted.
    """

    def __init__(self, seconds: dict[str, float], trace: Trace | None = None) -> None:
        self.seconds, self.trace = seconds, trace
        self._range = stage_marker()
        self._inner = threading.local()

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """The stage, as a context."""
        # What a stage within takes out of the one around it.
        outer, self._inner.spent = getattr(self._inner, "spent", 0.0), 0.0
        start = time.perf_counter()
        try:
            with self._range(stage):
                yield
        finally:
            end = time.perf_counter()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + end - start - self._inner.spent
            self._inner.spent = outer + end - start
            if self.trace is not None:
                self.trace.add(stage, start, end)

    def leave_out(self, seconds: float) -> None:
        """Does not count these of the stage around, which are counted elsewhere."""
        self._inner.spent += seconds


def stage_marker() -> Callable[[str], AbstractContextManager[Any]]:
    """Ranges of NVTX where it is installed, else something that does nothing.

    The package's own calls do nothing either while no profiler is attached.
    """
    try:
        import nvtx
    except ImportError:
        nothing = contextlib.nullcontext()
        return lambda name: nothing
    return lambda name: nvtx.annotate(f"vharm.{name}", domain="vharm")

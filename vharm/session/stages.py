# SPDX-License-Identifier: Apache-2.0
"""The stages of a run: seconds of each, ranges for Nsight Systems, and a trace of all of them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
from collections.abc import Callable
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


class _Stage:
    """One time that a stage is gone through; entered several times a frame."""

    def __init__(self, stages: Stages, name: str) -> None:
        self._stages, self._name = stages, name

    def __enter__(self) -> None:
        # What a stage within takes out of the one around it.
        inner = self._stages.inner
        self._outer, inner.spent = getattr(inner, "spent", 0.0), 0.0
        self._start = time.perf_counter()
        self._range = self._stages.range(self._name)
        self._range.__enter__()

    def __exit__(self, *error: object) -> None:
        self._range.__exit__(*error)
        stages, end = self._stages, time.perf_counter()
        took = end - self._start
        own = took - stages.inner.spent
        stages.seconds[self._name] = stages.seconds.get(self._name, 0.0) + own
        stages.inner.spent = self._outer + took
        if stages.trace is not None:
            stages.trace.add(self._name, self._start, end)


class Stages:
    """Times stages, from any thread.

    Args:
        seconds: what the seconds are added to, by stage. A stage within another counts as itself
            only.
        trace: where each stage is noted.

    Attributes:
        range: makes a stage's range for profilers.
        inner: each thread's own: the seconds spent in stages within the one it is in.
    """

    def __init__(self, seconds: dict[str, float], trace: Trace | None = None) -> None:
        self.seconds, self.trace = seconds, trace
        self.range = stage_marker()
        self.inner = threading.local()

    def __call__(self, stage: str) -> AbstractContextManager[None]:
        """The stage, as a context."""
        return _Stage(self, stage)

    def leave_out(self, seconds: float) -> None:
        """Does not count these of the stage around, which are counted elsewhere."""
        self.inner.spent += seconds


def stage_marker() -> Callable[[str], AbstractContextManager[Any]]:
    """Ranges of NVTX where it is installed, else something that does nothing.

    The package's own calls do nothing either while no profiler is attached.
    """
    try:
        import nvtx
    except ImportError:
        nothing = contextlib.nullcontext()
        return lambda name: nothing
    # A range keeps nothing of the time between, so one serves all threads.
    return functools.cache(lambda name: nvtx.annotate(f"vharm.{name}", domain="vharm"))

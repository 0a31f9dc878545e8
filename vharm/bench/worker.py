# SPDX-License-Identifier: Apache-2.0
"""One run of one case, in this process: `python -m vharm.bench.worker JSON`."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

from .cases import Case, Clip
from .measure import peak_memory
from .runner import Runner

WARM_UP = 1.0
"""Seconds of the clip that are run before anything is timed: until every buffer is there."""


def work(task: dict) -> dict:
    """Does what `measure.run_apart` asks for."""
    given = task["clip"]
    mask = None if given["mask"] is None else Path(given["mask"])
    clip = Clip(Path(given["path"]), mask, given["end"])
    runner, out = Runner(Case(**task["case"])), Path(task["out"])
    first = Clip(clip.path, mask, WARM_UP if clip.end is None else min(clip.end, WARM_UP))
    runner.run(first, out)
    gc.collect()  # PyAV's pictures with side data wait for that, and count as memory
    trace = None
    if task["trace"] is not None:
        from ..session import Trace

        trace = Trace()
    start, busy = time.perf_counter(), time.process_time()
    ran = runner.run(clip, out, trace)
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    if trace is not None:
        trace.write(task["trace"])
    return {
        "frames": ran.frames, "seconds": seconds, "cpu": cpu, "peak": peak_memory(),
        "stages": ran.stages, "size": out.stat().st_size,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(work(json.loads(sys.argv[1]))))

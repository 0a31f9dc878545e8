# SPDX-License-Identifier: Apache-2.0
"""Measuring cases: each in a process of its own, in turn, round by round."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .cases import Case, Clip


@dataclass
class Measured:
    """What one case took.

    Attributes:
        case: which.
        frames: written in a round.
        seconds: wall time of a round, median over rounds; opening files is part of it, loading
            Python and networks is not.
        cpu: CPU seconds of the process with all its threads, median over rounds.
        peak: most memory the process held at once, bytes, the largest of all rounds; with all of
            Python and PyTorch in it.
        stages: seconds by stage, medians; they overlap. Empty where a case does not tell.
        size: of the video that was written, bytes.
    """

    case: Case
    frames: int
    seconds: float
    cpu: float
    peak: int
    stages: dict[str, float]
    size: int

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds

    @property
    def cpu_per_frame(self) -> float:
        """CPU seconds."""
        return self.cpu / self.frames


@dataclass
class Share:
    """How much of the first case's speed another one has, by the clock and by CPU time."""

    wall: float
    cpu: float

    @classmethod
    def of(cls, one: Measured, first: Measured) -> Share:
        """1.0 is as fast; less is slower."""
        return cls(one.fps / first.fps, first.cpu_per_frame / one.cpu_per_frame)


def measure(
    cases: Sequence[Case], clip: Clip, *, rounds: int = 3,
    progress: Callable[[str], None] | None = None,
) -> list[Measured]:  # fmt: skip
    """Runs all cases in turn, `rounds` times, the first anew before each of the others.

    So the first's figures are of the whole time, while machines get faster and slower. Each run
    has a process of its own, so that one's memory and threads are not another's; it warms up on
    the clip's beginning. The results are deleted.

    Args:
        cases: the first is what the others are compared with.
        clip: what goes in.
        rounds: at least 1.
        progress: called with a case's name before it runs.

    Raises:
        RuntimeError: a case failed, with what it said, or cases wrote different numbers of frames.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    first, *others = cases
    order = [case for other in others for case in (first, other)] or [first]
    runs: dict[Case, list[dict]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory(prefix="vharm-bench-") as folder:
        for _ in range(rounds):
            for case in order:
                if progress is not None:
                    progress(case.name)
                runs[case].append(run_apart(case, clip, Path(folder) / "out.mp4"))
    counts = {run["frames"] for of_case in runs.values() for run in of_case}
    if len(counts) > 1:
        raise RuntimeError(f"cases wrote different numbers of frames: {sorted(counts)}")
    return [_together(case, of_case) for case, of_case in runs.items()]


def _together(case: Case, runs: list[dict]) -> Measured:
    names = runs[0]["stages"]
    return Measured(
        case, runs[0]["frames"],
        statistics.median(run["seconds"] for run in runs),
        statistics.median(run["cpu"] for run in runs),
        max(run["peak"] for run in runs),
        {name: statistics.median(run["stages"].get(name, 0.0) for run in runs) for name in names},
        runs[0]["size"],
    )  # fmt: skip


def run_apart(case: Case, clip: Clip, out: Path, *, trace: Path | None = None) -> dict:
    """One run in a process of its own; {"frames", "seconds", "cpu", "peak", "stages", "size"}.

    Args:
        case: which.
        clip: what goes in.
        out: the video to write.
        trace: a file for the trace of a "harmonize" case.

    Raises:
        RuntimeError: it failed, with what it said last.
    """
    task = {
        "case": asdict(case), "out": str(out), "trace": None if trace is None else str(trace),
        "clip": {
            "path": str(clip.path), "mask": None if clip.mask is None else str(clip.mask),
            "end": clip.end,
        },
    }  # fmt: skip
    home = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH")
    result = subprocess.run(
        [sys.executable, "-m", "vharm.bench.worker", json.dumps(task)],
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": home if not known else f"{home}{os.pathsep}{known}"},
    )  # fmt: skip
    if result.returncode:
        said = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise RuntimeError(f"{case.name}: {said[-1]}")
    return json.loads(result.stdout.splitlines()[-1])


def peak_memory() -> int:
    """Most bytes this process has held at once since its program began.

    Linux keeps the figure of `getrusage` over the start of another program, so that a child would
    report what its parent held; /proc does not.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024

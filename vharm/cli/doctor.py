# SPDX-License-Identifier: Apache-2.0
"""`vharm doctor`: what is installed, what each op would run on, and whether kernels are right."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json as json_module
import platform
import sys
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from .. import ops
from .._version import __version__
from ..models.engine import choose_engine, why_not_onnxruntime
from . import _options as o
from ._errors import FAILED, guarded
from ._selftest import run_self_tests

# Import name, distribution, what it is for, extra that brings it.
PARTS = (
    ("av", "av", "reading and writing video", "video"),
    ("cv2", "opencv-python-headless", "faster mask shaping, and the demo", "video"),
    ("typer", "typer", "this command line", "cli"),
    ("rich", "rich", "this command line", "cli"),
    ("PIL", "pillow", "pictures for people", "cli"),
    ("matplotlib", "matplotlib", "the demo", "cli"),
    ("triton", "triton", "GPU kernels in Triton", "triton"),
    ("onnxruntime", "onnxruntime", "Harmonizer's network, faster on the CPU", "fast"),
    ("onnx", "onnx", "Harmonizer's network, faster on the CPU", "fast"),
    ("nvtx", "nvtx", "named ranges in GPU profiles", "profile"),
)


@guarded
def doctor(json: o.Json = False, debug: o.Debug = False) -> None:
    """Say what this installation can do, and test its kernels against the reference."""
    found = {
        "versions": versions(), "native": native_modules(), "engines": engines(),
        "missing": missing_parts(),
        "backends": {"cpu": backends("cpu"), "cuda": backends("cuda")},
        "self_test": run_self_tests(),
    }  # fmt: skip
    if json:
        typer.echo(json_module.dumps(found, indent=2))
    else:
        _print(found)
    if any(not row["ok"] for row in found["self_test"]):
        raise typer.Exit(FAILED)


def versions() -> dict[str, str]:
    """Versions of all that takes part; "not installed" where it is missing."""
    found = {
        "vharm": __version__, "python": f"{platform.python_version()} ({sys.executable})",
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
    }  # fmt: skip
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found["gpu"] = f"{card.name}, sm_{card.major}{card.minor}, CUDA {torch.version.cuda}"
    else:
        found["gpu"] = "none that torch sees"
    for name in ("numpy", "safetensors", *(part[1] for part in PARTS)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    if found["av"] != "not installed":
        found["ffmpeg libraries"] = _ffmpeg_libraries()
    return found


def _ffmpeg_libraries() -> str:
    try:
        import av
    except ImportError as error:
        return f"av does not load: {error}"
    return ", ".join(
        f"{name} {'.'.join(map(str, number))}" for name, number in av.library_versions.items()
    )


def native_modules() -> dict[str, str]:
    """What the two compiled modules say of themselves."""
    found = {}
    for name, ask in (("_C", _isa), ("_cuda", lambda module: module.device_status())):
        try:
            found[f"vharm.{name}"] = ask(importlib.import_module(f"vharm.{name}"))
        except ModuleNotFoundError:
            needs = "a C++ compiler" if name == "_C" else "nvcc"
            found[f"vharm.{name}"] = f"not built (needs {needs} when vharm is installed)"
        except ImportError as error:
            found[f"vharm.{name}"] = f"does not load: {error}"
    return found


def _isa(module: Any) -> str:
    problem = module.isa_problem()
    return f"uses {module.isa()}" + (f" ({problem})" if problem else "")


def engines() -> dict[str, str]:
    """What Harmonizer's network runs on, on the CPU, and why not on ONNX Runtime."""
    reason = why_not_onnxruntime()
    found = choose_engine()
    return {"harmonizer on cpu": found if reason is None else f"{found} (onnxruntime: {reason})"}


def missing_parts() -> list[dict[str, str]]:
    """Optional packages that are not there, and how to get them."""
    return [
        {"package": package, "for": purpose, "install": f'pip install "vharm[{extra}]"'}
        for module, package, purpose, extra in PARTS
        if importlib.util.find_spec(module) is None
    ]


def backends(device: str) -> list[dict[str, Any]]:
    """For every op its backend for float32 tensors on the device, and why not the others."""
    return [
        {"op": row.op, "backend": row.backend, "reasons": row.reasons}
        for row in ops.explain(device)
    ]


def _print(found: dict[str, Any]) -> None:
    console = Console()
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in {**found["versions"], **found["native"], **found["engines"]}.items():
        table.add_row(name, str(value))
    console.print(table, highlight=False, markup=False)
    for device, rows in found["backends"].items():
        _print_backends(console, device, rows)
    console.print("\n[bold]Self-test[/bold]: every backend that runs here against the reference")
    for row in found["self_test"]:
        sign = "[green]ok[/green]  " if row["ok"] else "[red]WRONG[/red]"
        console.print(f"  {sign} {row['op']} on {row['backend']}: {row['detail']}", highlight=False)
    if not found["self_test"]:
        console.print("  only the reference runs here: nothing to compare", highlight=False)
    if found["missing"]:
        console.print("\n[bold]Not installed[/bold]")
        for part in found["missing"]:
            text = f"  {part['package']}, for {part['for']}: {part['install']}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_backends(console: Console, device: str, rows: list[dict[str, Any]]) -> None:
    absent = device == "cuda" and not torch.cuda.is_available()
    remark = " (no card here: what they would run on)" if absent else ""
    console.print(f"\n[bold]Ops on {device}[/bold]{remark}")
    table = Table(box=None, pad_edge=False)
    for heading in ("op", "runs on", "why not the others"):
        table.add_column(heading, overflow="fold")
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        why = "; ".join(f"{name}: {reason}" for name, reason in row["reasons"].items())
        groups.setdefault((row["backend"], why), []).append(row["op"])
    for (backend, why), names in groups.items():
        table.add_row(", ".join(names), backend, why or "all of its backends can run here")
    console.print(table, highlight=False, markup=False)

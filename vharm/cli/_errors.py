# SPDX-License-Identifier: Apache-2.0
"""From exceptions to one line on stderr and an exit code."""

from __future__ import annotations

import functools
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

# What the Python interface calls an argument, and what it is called here.
_OPTIONS = {
    "frames": "COMPOSITE", "masks": "--mask", "mask": "--mask", "path": "--output",
    "on_short": "--mask-on-short", "grow": "--mask-grow", "feather": "--mask-feather",
    "options": "--encoder-option", "look": "--look-in", "look_out": "--look-out",
    "cube_out": "--cube-out", "pixel_format": "--pixel-format", "frame_rate": "--frame-rate",
    "mask_out": "--mask-out", "mask_threshold": "--mask-threshold",
    "time_constant": "--time-constant", "reference_mask": "--reference-mask",
    "methods": "--method", "estimate_every": "--estimate-every",
}  # fmt: skip
_SAME = (
    "temporal", "strength", "start", "end", "foreground", "background", "reference", "weights",
    "method", "preset", "device", "backend", "codec", "compare", "data", "split", "recolour",
    "luts", "metrics",
)  # fmt: skip


def option_name(argument: str) -> str | None:
    """What the command line calls an argument of the Python interface; None for others."""
    return f"--{argument}" if argument in _SAME else _OPTIONS.get(argument)


def translated(text: str) -> str:
    """A message of the Python interface in the words of the command line."""

    def leading(match: re.Match[str]) -> str:
        return f"{option_name(match[1]) or match[1]}:"

    def inside(match: re.Match[str]) -> str:
        name = option_name(match[1])
        return f"{name} {match[2]}" if name else match[0]

    text = re.sub(r"^(\w+):", leading, text)
    return re.sub(r'\b(\w+)="([\w-]+)"', inside, text)


def told(error: BaseException) -> str:
    """The exception as one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    else:
        text = str(error) or type(error).__name__
    if isinstance(error, AssertionError | AttributeError | LookupError | NotImplementedError):
        text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
    return translated(" ".join(text.split()))


def code_of(error: BaseException) -> int:
    """Bad input is 2; what goes wrong on the way is 1."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    bad = ValueError | TypeError | FileNotFoundError | FileExistsError | PermissionError
    if isinstance(error, bad | IsADirectoryError | NotADirectoryError):
        return BAD_INPUT
    # A MediaError that came before any frame was handled is about the file that was given.
    if hasattr(error, "frames") and not error.frames:
        return BAD_INPUT
    return FAILED


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its exceptions told in a line; its option `debug` shows them whole."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt as error:
            print("vharm: interrupted; nothing was left half-written", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:  # told in one line below, whatever it is
            if kwargs.get("debug"):
                traceback.print_exc()
            print(f"vharm: error: {told(error)}", file=sys.stderr)
            raise typer.Exit(code_of(error)) from error

    return run

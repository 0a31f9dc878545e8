# SPDX-License-Identifier: Apache-2.0
"""Writing so that a file is either whole or not there."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


def part_path(path: Path) -> Path:
    """A fresh name beside `path`, on the same file system."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def atomic_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A text file that takes `path`'s place when the block ends well, and is removed otherwise."""
    target = Path(path)
    part = part_path(target)
    try:
        with open(part, "x", encoding="utf-8", newline="\n") as file:
            yield file
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)

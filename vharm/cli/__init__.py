# SPDX-License-Identifier: Apache-2.0
"""The command `vharm`, a thin layer over the Python interface."""

from __future__ import annotations

import sys

NEEDED = ("typer", "rich")
"""Packages of the extra `cli` without which no command can start."""


def main() -> None:
    """Runs the command line and exits with 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in NEEDED:
            raise
        print(
            f"vharm: the command line needs the package {error.name!r}, which is not installed: "
            'pip install "vharm[cli]"',
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    app()

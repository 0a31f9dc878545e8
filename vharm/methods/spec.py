# SPDX-License-Identifier: Apache-2.0
"""A method and its options in one word: "harmonizer+side=192"."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

_OPTIONS = re.compile(r"(?:\+[a-z_]+=[A-Za-z0-9_.\-]+)+$")


def split_options(spec: str) -> tuple[str, dict[str, Any]]:
    """("mkl", {"lightness": 0.5}) of "mkl+lightness=0.5"; numbers, true and false are such."""
    found = _OPTIONS.search(spec)
    if found is None:
        return spec, {}
    options: dict[str, Any] = {}
    for part in found.group().split("+")[1:]:
        name, text = part.split("=", 1)
        options[name] = text
        with contextlib.suppress(ValueError):  # the rest is text
            options[name] = json.loads(text)
    return spec[: found.start()], options

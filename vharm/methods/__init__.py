# SPDX-License-Identifier: Apache-2.0
"""Methods: from a small composite and its mask to a Look.

`get("mkl")` makes one, `names()` and `describe()` list them; `vharm.methods()`, the module called,
is `describe()`. Other packages add methods with `register` or through the entry-point group
`vharm.methods`.
"""

import sys
from types import ModuleType

from .base import Method, Shot
from .chen import ChenMethod
from .co2net import Co2NetMethod
from .harmonizer import HarmonizerMethod
from .histogram import Histogram
from .huang import HuangMethod
from .issam import IssamMethod
from .mkl import Mkl
from .pixel import PixelMethod
from .registry import MethodInfo, default_name, describe, get, names, register
from .reinhard import Reinhard
from .transfer import ColourTransfer
from .vhmae import VhmaeMethod
from .window import WindowMethod

__all__ = [
    "ChenMethod",
    "Co2NetMethod",
    "ColourTransfer",
    "HarmonizerMethod",
    "Histogram",
    "HuangMethod",
    "IssamMethod",
    "Method",
    "MethodInfo",
    "Mkl",
    "PixelMethod",
    "Reinhard",
    "Shot",
    "VhmaeMethod",
    "WindowMethod",
    "default_name",
    "describe",
    "get",
    "names",
    "register",
]


class _Callable(ModuleType):
    """Lets `vharm.methods()` list the methods beside `vharm.methods.get(...)` making one."""

    def __call__(self) -> list[MethodInfo]:
        return describe()


sys.modules[__name__].__class__ = _Callable

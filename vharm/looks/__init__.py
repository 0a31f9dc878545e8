# SPDX-License-Identifier: Apache-2.0
"""Looks: what is to be done to a foreground's colours, apart from any picture.

A method estimates a `Look` on a small frame; applying it happens at the clip's own size, in one
fused kernel. Looks can be smoothed over time, locked to one for a clip, blended, weakened, turned
into a LUT, saved as JSON (to be edited by hand) and as `.cube`.
"""

from .base import Look
from .cube import CubeError, read_cube, write_cube
from .filter_look import FilterLook
from .lut_look import LutLook
from .residual_look import ResidualLook
from .smoothing import Smoother, lock
from .storage import TrackWriter, load_look, save_look
from .track import LookTrack

__all__ = [
    "CubeError",
    "FilterLook",
    "Look",
    "LookTrack",
    "LutLook",
    "ResidualLook",
    "Smoother",
    "TrackWriter",
    "load_look",
    "lock",
    "read_cube",
    "save_look",
    "write_cube",
]

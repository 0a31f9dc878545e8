# SPDX-License-Identifier: Apache-2.0
"""vharm: match a pasted foreground's colours to its background, in videos and pictures."""

from . import ops
from ._version import __version__

__all__ = ["__version__", "ops"]

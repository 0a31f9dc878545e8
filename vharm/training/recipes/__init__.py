# SPDX-License-Identifier: Apache-2.0
"""One file per method: importing this package registers them."""

from . import harmonizer, huang, vhmae

__all__ = ["harmonizer", "huang", "vhmae"]

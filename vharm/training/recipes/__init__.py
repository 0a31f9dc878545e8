# SPDX-License-Identifier: Apache-2.0
"""One file per method: importing this package registers them."""

from . import chen, co2net, harmonizer, huang, issam, spynet, vhmae

__all__ = ["chen", "co2net", "harmonizer", "huang", "issam", "spynet", "vhmae"]

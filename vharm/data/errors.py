# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with the files of a data set."""

from __future__ import annotations


class DataError(ValueError):
    """A file of a data set is missing, unreadable or does not fit its partner; it is named."""

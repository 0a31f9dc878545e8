# SPDX-License-Identifier: Apache-2.0
"""Forked children, such as a DataLoader's workers, must leave the parent's decoders alone."""

from __future__ import annotations

import gc
import os

_collecting = True


def leave_decoders_to_the_parent() -> None:
    """Keeps forked children from freeing what FFmpeg's threads work for in the parent.

    PyAV's objects refer to each other, so only the garbage collector frees them; a child that
    does so waits for ever for threads it does not have. It must not collect what it has from its
    parent, nor anything at all before that has been put aside: hooks of others may run first.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_pause, after_in_parent=_resume, after_in_child=_resume_without_inherited
        )


def _pause() -> None:
    global _collecting
    _collecting = gc.isenabled()
    gc.disable()


def _resume() -> None:
    if _collecting:
        gc.enable()


def _resume_without_inherited() -> None:
    gc.freeze()
    _resume()

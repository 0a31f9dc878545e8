# SPDX-License-Identifier: Apache-2.0
"""Forked children, such as a DataLoader's workers, must leave the parent's decoders alone."""

from __future__ import annotations

import gc
import os
import threading

# Held from before a fork until after it, in parent and child: else, of two threads that fork at
# once, the second would find the collector paused by the first, and leave it so.
_forking = threading.RLock()
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
    _forking.acquire()
    _collecting = gc.isenabled()
    gc.disable()


def _resume() -> None:
    if _collecting:
        gc.enable()
    _forking.release()


def _resume_without_inherited() -> None:
    gc.freeze()
    _resume()

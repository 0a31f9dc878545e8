# SPDX-License-Identifier: Apache-2.0
"""A forked child does not wait for threads that only its parent has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("av")

# A hook of somebody else's, called before vharm's, has the collector run in the child.
FORK = """
import gc, os
os.register_at_fork(after_in_child=lambda: [[] for _ in range(5000)])
import av, numpy
from vharm.media.errors import require_av
require_av()
gc.collect()
gc.disable()
for _ in range(3):
    picture = av.VideoFrame.from_ndarray(numpy.zeros((720, 1280, 3), numpy.uint8), "rgb24")
    picture.reformat(format="yuv420p", width=640, height=360)  # its scaler has threads
    picture.side_data  # refers to the picture, which refers to it
del picture
if {enabled}:
    gc.enable()
child = os.fork()
if child == 0:
    gc.collect()
    os._exit(7 if gc.isenabled() == {enabled} else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), gc.isenabled(), gc.get_freeze_count())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("enabled", [True, False])
def test_a_child_leaves_its_parents_scalers_and_decoders_alone(enabled):
    result = subprocess.run(
        [sys.executable, "-c", FORK.replace("{enabled}", str(enabled))], capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.stdout.split() == ["7", str(enabled), "0"], result.stderr


# Four threads whose forks overlap.
FORKS = """
import gc, os, sys, threading
from vharm.media.errors import require_av
sys.setswitchinterval(1e-6)
require_av()
def fork():
    for _ in range(50):
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
        found.append(os.waitpid(child, 0)[1])
found = []
threads = [threading.Thread(target=fork) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(found), sum(found), gc.isenabled())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forks_of_several_threads_leave_the_collector_on():
    result = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.stdout.split() == ["200", "0", "True"], result.stderr

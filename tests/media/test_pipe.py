# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import traceback

import pytest

from vharm.media import threaded


def alive():
    return [t for t in threading.enumerate() if t.name == "vharm-prefetch"]


def settle():
    limit = time.monotonic() + 2
    while alive() and time.monotonic() < limit:
        time.sleep(0.005)
    return alive()


def test_order_and_end():
    assert list(threaded(range(100), queue_size=3)) == list(range(100))
    assert list(threaded([])) == []
    assert settle() == []


def test_queue_is_bounded():
    made = []

    def source():
        for number in range(50):
            made.append(number)
            yield number

    with threaded(source(), queue_size=4) as pipe:
        time.sleep(0.1)
        # Four in the queue and one in hand.
        assert len(made) == 5
        assert next(pipe) == 0


def test_errors_come_after_the_items_with_their_traceback():
    def failing():
        yield 1
        yield 2
        raise ZeroDivisionError("made in the thread")

    got = []
    with pytest.raises(ZeroDivisionError, match="made in the thread") as caught:
        got.extend(threaded(failing()))
    assert got == [] or got == [1, 2]
    assert any(
        entry.name == "failing" for entry in traceback.extract_tb(caught.value.__traceback__)
    )
    pipe = threaded(failing())
    assert [next(pipe), next(pipe)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(pipe)
    with pytest.raises(StopIteration):
        next(pipe)


@pytest.mark.parametrize("way", ["close", "with", "drop"])
def test_stopping_early_ends_the_thread_and_closes_the_source(way):
    closed = []

    def endless():
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            closed.append(threading.current_thread().name)

    pipe = threaded(endless(), queue_size=2)
    assert [next(pipe) for _ in range(5)] == list(range(5))
    if way == "close":
        pipe.close()
        assert list(pipe) == []
    elif way == "with":
        with pipe:
            pass
    else:
        del pipe
        gc.collect()
    assert settle() == []
    assert closed == ["vharm-prefetch"]


def test_pipes_nest():
    def double(items):
        for item in items:
            yield 2 * item

    with threaded(double(threaded(range(1000), 2)), 2) as pipe:
        assert next(pipe) == 0
    assert settle() == []
    assert list(threaded(double(threaded(range(50), 1)), 1)) == list(range(0, 100, 2))


def test_bad_size():
    with pytest.raises(ValueError, match="queue_size"):
        threaded([], queue_size=0)


def test_threads_that_nobody_closed_end_before_the_interpreter():
    """Ctrl-C may come while a thread is being started: nobody has it then."""
    program = """
import atexit, time
ended = []
atexit.register(lambda: print("ended" if ended else "running"))
from vharm.media import threaded
def slow():
    try:
        for i in range(100):
            time.sleep(0.2)
            yield i
    finally:
        ended.append(True)
threads = threaded(slow())
next(threads)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.stdout.split() == ["ended"], result.stderr

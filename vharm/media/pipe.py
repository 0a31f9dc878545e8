# SPDX-License-Identifier: Apache-2.0
"""A bounded queue between a producer in a thread and the loop that consumes it."""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Shared:
    """What thread and consumer share; it holds no reference to the consumer, which may die."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.items: deque = deque()
        self.changed = threading.Condition()
        self.finished = False
        self.stopped = False
        self.error: BaseException | None = None


def _produce(shared: _Shared, iterable: Iterable) -> None:
    iterator = None
    try:
        iterator = iter(iterable)
        while not shared.stopped:
            try:
                item = next(iterator)
            except StopIteration:
                break
            with shared.changed:
                while len(shared.items) >= shared.limit and not shared.stopped:
                    shared.changed.wait()
                if not shared.stopped:
                    shared.items.append(item)
                    shared.changed.notify_all()
            # Else the queue's last item would live as long as the next one takes to be made.
            del item
    except BaseException as error:
        shared.error = error
    finally:
        try:
            # A generator can only be closed by the thread that runs it.
            if hasattr(iterator, "close"):
                iterator.close()
        except BaseException as error:
            shared.error = shared.error or error
        with shared.changed:
            shared.finished = True
            shared.changed.notify_all()


def _stop(shared: _Shared) -> None:
    with shared.changed:
        shared.stopped = True
        shared.items.clear()
        shared.changed.notify_all()


_LONGEST_STOP = 5.0  # seconds
_running: weakref.WeakKeyDictionary[threading.Thread, _Shared] = weakref.WeakKeyDictionary()


@atexit.register
def _stop_all() -> None:
    """Ends threads that nobody closed, as where Ctrl-C came while one was being started.

    The interpreter ends them wherever they are, and in C++ code that aborts the whole process.
    """
    for thread, shared in list(_running.items()):
        _stop(shared)
        with contextlib.suppress(RuntimeError):  # it has not begun
            thread.join(_LONGEST_STOP)


class Prefetch(Generic[T]):
    """Iterator over items that a thread prepares ahead; see ``threaded``."""

    def __init__(self, iterable: Iterable[T], queue_size: int, name: str) -> None:
        self._shared = _Shared(queue_size)
        self._thread = threading.Thread(
            target=_produce, args=(self._shared, iterable), name=name, daemon=True
        )
        self._finalizer = weakref.finalize(self, _stop, self._shared)
        _running[self._thread] = self._shared
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        shared = self._shared
        with shared.changed:
            while not shared.items and not shared.finished and not shared.stopped:
                shared.changed.wait()
            if shared.items:
                item = shared.items.popleft()
                shared.changed.notify_all()
                return item
            error, shared.error = shared.error, None
        if error is not None and not shared.stopped:
            raise error
        raise StopIteration

    def close(self, timeout: float = _LONGEST_STOP) -> None:
        """Stop the thread and wait until it has closed its source, at most ``timeout`` seconds."""
        self._finalizer()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def threaded(
    iterable: Iterable[T], queue_size: int = 8, name: str = "vharm-prefetch"
) -> Prefetch[T]:
    """Run an iterable in a thread, at most ``queue_size`` finished items ahead of the consumer.

    ``name`` is the thread's, for those who look at threads. Errors of the producer are raised in
    the consumer with the producer's traceback, after the items made before them. When the consumer
    stops early (``close``, ``with``, or by dropping the iterator) the thread ends after the item it
    is making. Raises ValueError for a queue_size below 1.
    """
    if queue_size < 1:
        raise ValueError(f"queue_size: expected at least 1, got {queue_size}")
    return Prefetch(iterable, queue_size, name)

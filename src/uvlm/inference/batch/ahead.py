"""Read ahead: the next input is made ready in a thread while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["read_ahead"]

T = TypeVar("T")
U = TypeVar("U")


def read_ahead(items: Iterable[T], read: Callable[[T], U], depth: int = 2) -> Iterator[tuple[T, U]]:
    """Each item with what `read` makes of it, in order.

    At most `depth` such results exist at a time, the one in use among them; with a depth of 1
    nothing is read ahead, and no thread is used. What `items` or `read` raises is raised here.
    """
    if depth < 2:
        for item in items:
            yield item, read(item)
        return
    room = threading.Semaphore(depth)
    ready: queue.SimpleQueue[tuple[T, U] | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def fill() -> None:
        try:
            for item in items:
                room.acquire()
                if stopped.is_set():
                    return
                ready.put((item, read(item)))
        except BaseException as error:
            ready.put(error)
        else:
            ready.put(None)

    threading.Thread(target=fill, daemon=True, name="read-ahead").start()
    try:
        while (got := ready.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got
            got = None  # so that a result is let go of before the next takes its room
            room.release()
    finally:
        stopped.set()
        room.release()

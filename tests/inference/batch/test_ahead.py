"""Reading ahead: order, bounds, errors, the end."""

from __future__ import annotations

import threading

import pytest

from uvlm.inference.batch.ahead import read_ahead


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_every_item_comes_once_and_in_order(depth):
    assert list(read_ahead(range(20), str, depth)) == [(n, str(n)) for n in range(20)]


def test_the_next_is_read_while_one_is_used():
    begun = [threading.Event() for _ in range(3)]
    stream = read_ahead(range(3), lambda n: begun[n].set(), 2)
    next(stream)
    assert begun[1].wait(10)  # nobody has asked for it
    assert len(list(stream)) == 2


def test_no_more_are_read_than_may_exist():
    existing, most = set(), []

    class Study:
        def __init__(self, number: int) -> None:
            self.number = number
            existing.add(number)
            most.append(len(existing))

        def __del__(self) -> None:
            existing.discard(self.number)

    for _, study in read_ahead(range(30), Study, 2):
        del study
    assert max(most) == 2


def test_without_depth_nothing_is_read_before_it_is_asked_for():
    read: list[int] = []
    stream = read_ahead(range(3), read.append, 1)
    next(stream)
    assert (read, threading.current_thread().name) == ([0], "MainThread")


@pytest.mark.parametrize("depth", [1, 2])
def test_an_error_of_the_items_comes_where_they_are_used(depth):
    def items():
        yield 1
        raise OSError("gone")

    got = []
    with pytest.raises(OSError, match="gone"):
        got.extend(item for item, _ in read_ahead(items(), str, depth))


def test_left_early_the_thread_ends():
    stream = read_ahead(range(1000), str, 2)
    next(stream)
    (thread,) = (t for t in threading.enumerate() if t.name == "read-ahead")
    stream.close()
    thread.join(10)
    assert not thread.is_alive()

"""Who does which study next, and what happens when a worker dies.

Whatever the workers are, processes or actors of a cluster, `run_items` hands them items and takes
their results. A worker that dies is replaced. What it held is tried once more, each study alone
with a worker, so that the one that kills it is known; dying of it again, the study is recorded.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from uvlm.errors import UvlmError
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.results import Result

__all__ = ["Died", "Lost", "Pool", "Ready", "WorkerError", "run_items"]

log = logging.getLogger(__name__)

TRIES = 2
"""Of a study that kills its worker, and of a worker to load the model."""

W = TypeVar("W")


class WorkerError(UvlmError):
    """A worker cannot go on, for a reason that holds for all of them."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Ready:
    """The worker has loaded its model."""


@dataclass(frozen=True)
class Died:
    """The worker's process has ended."""


@dataclass(frozen=True)
class Lost:
    """What the worker says at its end, which holds for all workers."""

    message: str
    exit_code: int


Event = Ready | Died | Lost | Result


class Pool(Protocol[W]):
    """How workers are started and spoken to."""

    def start(self, number: int) -> W:
        """A new worker in place `number`, loading its model."""

    def send(self, worker: W, item: Item) -> None:
        """Hand over one more study; a worker that is dead says so to `wait`."""

    def wait(self, workers: Sequence[W]) -> list[tuple[W, Event]]:
        """What has happened, at least one event; in order for each worker, `Died` last."""

    def end(self, worker: W) -> None:
        """Let go of a worker that has nothing left to do, or is dead."""

    def stop(self, workers: Sequence[W]) -> list[Result]:
        """Make workers stop, once what they are writing is written; the results of that."""


@dataclass(eq=False)
class _Place(Generic[W]):
    number: int
    worker: W | None = None
    ready: bool = False
    held: list[Item] = field(default_factory=list)
    alone: bool = False
    """It holds a study that may kill it, and gets no other."""
    loads: int = 0
    """Times a worker died here before it had loaded its model."""


class _Schedule(Generic[W]):
    def __init__(self, pool: Pool[W], items: Sequence[Item], workers: int, depth: int) -> None:
        self.pool = pool
        self.queue = deque(items)
        self.suspects: deque[Item] = deque()
        self.deaths: Counter[str] = Counter()
        self.depth = depth
        self.places = [_Place[W](number) for number in range(min(workers, len(items)))]

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.suspects or any(place.held for place in self.places))

    def live(self) -> dict[W, _Place[W]]:
        return {place.worker: place for place in self.places if place.worker is not None}

    def start(self) -> None:
        """A worker for every place, as long as there is work for it."""
        waiting = len(self.queue) + len(self.suspects)
        idle = sum(1 for place in self.places if place.worker is not None and not place.held)
        for place in self.places:
            if place.worker is None and place.loads < TRIES and waiting > idle:
                place.worker, place.ready = self.pool.start(place.number), False
                idle += 1

    def hand_out(self) -> None:
        for place in self.places:
            if place.worker is None or not place.ready:
                continue
            if not place.held:
                place.alone = bool(self.suspects)
                if self.suspects:
                    self._send(place, self.suspects.popleft())
            while self.queue and not place.alone and len(place.held) < self.depth:
                self._send(place, self.queue.popleft())

    def _send(self, place: _Place[W], item: Item) -> None:
        assert place.worker is not None
        place.held.append(item)
        self.pool.send(place.worker, item)

    def take(self, place: _Place[W], event: Event, emit: Callable[[Result], None]) -> None:
        if isinstance(event, Result):
            place.held = [item for item in place.held if item.id != event.id]
            emit(event)
        elif isinstance(event, Ready):
            place.ready, place.loads = True, 0
        elif isinstance(event, Lost):
            raise WorkerError(event.message, event.exit_code)
        else:
            self._bury(place, emit)

    def _bury(self, place: _Place[W], emit: Callable[[Result], None]) -> None:
        assert place.worker is not None
        self.pool.end(place.worker)
        place.worker = None
        if not place.ready:
            self._unloaded(place)
        lost, place.held = place.held, []
        if lost:
            log.warning("a worker died; its %d studies are tried once more", len(lost))
        for item in lost:
            self.deaths[item.id] += 1
            if self.deaths[item.id] < TRIES:
                self.suspects.append(replace(item, again=True))
            else:
                emit(_lost(item))

    def _unloaded(self, place: _Place[W]) -> None:
        place.loads += 1
        log.warning("a worker died while it loaded the model")
        if not self.live() and all(each.loads >= TRIES for each in self.places):
            raise WorkerError(
                "every worker died while it loaded the model; most likely memory was not enough. "
                "Use fewer workers: each has the model in memory."
            )


def run_items(
    pool: Pool[W],
    items: Sequence[Item],
    emit: Callable[[Result], None],
    *,
    workers: int,
    depth: int,
) -> None:
    """Have every item done by a worker of `pool`, and `emit` called with each result.

    Interrupted, workers finish what they are writing, and its results are emitted too.

    Args:
        workers: at most so many at a time
        depth: studies that a worker holds at a time

    Raises:
        WorkerError: a worker cannot load the model, or says that no other can go on either.
    """
    schedule = _Schedule(pool, items, workers, depth)
    try:
        while schedule.busy:
            schedule.start()
            schedule.hand_out()
            live = schedule.live()
            for worker, event in pool.wait(list(live)):
                schedule.take(live[worker], event, emit)
    finally:
        for result in pool.stop(list(schedule.live())):
            emit(result)


def _lost(item: Item) -> Result:
    error = (
        f"{item.path}: the process working on it died, {TRIES} times; the file makes its reader "
        "crash, or needs more memory than there is. Check that file, or use fewer workers."
    )
    return Result(id=item.id, input=item.name, signature=item.signature, error=error, exit_code=1)

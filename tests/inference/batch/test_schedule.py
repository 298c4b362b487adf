"""Who does what, and what a death costs: no study lost, none done twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from uvlm.inference.batch.items import Item
from uvlm.inference.batch.results import Result
from uvlm.inference.batch.schedule import Died, Lost, Ready, WorkerError, run_items


def items(count: int) -> list[Item]:
    return [Item(id=f"s{n}", path=Path(f"s{n}.nii.gz"), signature=str(n)) for n in range(count)]


@dataclass(eq=False)
class Worker:
    ready: bool = False
    held: list[Item] = field(default_factory=list)


@dataclass
class FakePool:
    """Workers that die of the `deadly` studies, by chance, and while loading, as told."""

    deadly: set[str] = field(default_factory=set)
    chance: float = 0.0
    bad_loads: int = 0
    lost: Lost | None = None
    seed: int = 0
    most_held: int = 0
    most_workers: int = 0
    done: Counter = field(default_factory=Counter)
    tries: Counter = field(default_factory=Counter)
    company: dict[str, int] = field(default_factory=dict)
    started: int = 0
    ended: int = 0
    stopped: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def start(self, number: int) -> Worker:
        self.started += 1
        return Worker()

    def send(self, worker: Worker, item: Item) -> None:
        assert worker.ready
        worker.held.append(item)
        self.most_held = max(self.most_held, len(worker.held))

    def wait(self, workers):
        self.most_workers = max(self.most_workers, len(workers))
        worker = self.random.choice([w for w in workers if w.held or not w.ready])
        return [(worker, self._next(worker))]

    def _next(self, worker: Worker):
        if not worker.ready:
            if self.bad_loads:
                self.bad_loads -= 1
                return Died()
            worker.ready = self.lost is None
            return self.lost or Ready()
        item = worker.held[0]
        if item.id in self.deadly or self.random.random() < self.chance:
            for each in worker.held:
                self.tries[each.id] += 1
                self.company[each.id] = len(worker.held)
            return Died()
        self.done[worker.held.pop(0).id] += 1
        return Result(id=item.id, input=item.name, signature=item.signature)

    def end(self, worker: Worker) -> None:
        self.ended += 1

    def stop(self, workers):
        self.stopped = len(workers)
        return []


def run(pool: FakePool, count: int, workers: int = 3, depth: int = 2) -> dict[str, Result]:
    found: dict[str, Result] = {}

    def emit(result: Result) -> None:
        assert result.id not in found
        found[result.id] = result

    run_items(pool, items(count), emit, workers=workers, depth=depth)
    return found


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_every_study_is_done_once_by_no_more_workers_than_asked_for(workers):
    pool = FakePool()
    assert len(run(pool, 20, workers)) == 20
    assert set(pool.done.values()) == {1}
    assert pool.started == pool.stopped == min(workers, 20)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_worker_holds_no_more_than_it_may(depth):
    pool = FakePool()
    run(pool, 20, depth=depth)
    assert pool.most_held == depth


def test_a_study_that_kills_its_worker_is_tried_once_more_alone_and_then_recorded():
    pool = FakePool(deadly={"s4"})
    found = run(pool, 12)
    assert [name for name, result in found.items() if result.error] == ["s4"]
    assert "the process working on it died, 2 times" in str(found["s4"].error)
    assert (found["s4"].signature, found["s4"].exit_code) == ("4", 1)
    assert (pool.tries["s4"], pool.company["s4"]) == (2, 1)
    assert set(pool.done.values()) == {1}
    assert pool.started == pool.ended + pool.stopped


def test_what_a_dead_worker_may_have_begun_is_marked():
    seen = []

    class Watching(FakePool):
        def send(self, worker, item):
            seen.append((item.id, item.again))
            super().send(worker, item)

    run(Watching(deadly={"s0"}), 1)
    assert seen == [("s0", False), ("s0", True)]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_dies_no_study_is_lost(seed):
    deadly = {f"s{n}" for n in range(0, 40, 7)}
    pool = FakePool(deadly=deadly, chance=0.1, seed=seed)
    found = run(pool, 40, workers=1 + seed % 4, depth=1 + seed % 2)
    failed = {name for name, result in found.items() if result.error}
    assert set(found) == {f"s{n}" for n in range(40)}
    assert deadly <= failed
    assert all(pool.tries[name] == 2 for name in failed)
    assert {name for name, times in pool.done.items() if times != 1} == set()
    assert failed.isdisjoint(pool.done)
    assert pool.most_workers <= 1 + seed % 4


def test_a_worker_that_dies_while_loading_is_started_again():
    pool = FakePool(bad_loads=1)
    assert len(run(pool, 5, workers=1)) == 5


def test_where_none_can_load_the_run_ends_and_says_so():
    pool = FakePool(bad_loads=100)
    with pytest.raises(WorkerError, match="every worker died while it loaded the model"):
        run(pool, 5)
    assert pool.started == 6


def test_one_that_can_load_does_all():
    pool = FakePool(bad_loads=4)
    assert len(run(pool, 9)) == 9


def test_what_holds_for_all_workers_ends_the_run_with_its_exit_code():
    pool = FakePool(lost=Lost("bundle: altered. Copy it again.", 2))
    with pytest.raises(WorkerError, match="altered") as caught:
        run(pool, 5)
    assert caught.value.exit_code == 2
    assert pool.stopped == 3


def test_interrupted_what_workers_still_wrote_is_told():
    last = Result(id="s0", input="s0.nii.gz", signature="0")

    class Interrupted(FakePool):
        def wait(self, workers):
            raise KeyboardInterrupt

        def stop(self, workers):
            return [last]

    told: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        run_items(Interrupted(), items(3), told.append, workers=2, depth=2)
    assert told == [last]

"""Prepare many studies: in parallel, within bounds of memory, one failure apart from the others.

`run_jobs` hands every job to `work.prepare_study`, in this process, in a pool of processes or on a
Ray cluster, and yields the records as they come. A worker that dies (out of memory, a crash in a
decoder) costs the one study that killed it.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from uvlm.errors import ConfigError
from uvlm.preprocessing.disk import DiskFullError
from uvlm.preprocessing.limits import (
    end_with_parent,
    limit_memory,
    memory_limit,
    one_thread_each,
    worker_memory,
)
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.work import Job, lost_record, prepare_study

__all__ = ["Workers", "run_jobs", "without_ctrl_c"]

log = logging.getLogger(__name__)

IN_FLIGHT = 3
"""Jobs submitted per worker: enough to keep it busy, few to repeat when a worker dies."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does the work."""

    count: int = 1
    """Studies prepared at a time."""

    engine: Literal["process", "ray"] = "process"
    memory_gb: float | None = None
    """What one may use; None: an equal share of what is available."""

    isolated: bool = False
    """A single worker, too, has a process of its own, so that a crash costs one study."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"workers must be at least 1, got {self.count}.")
        worker_memory(self.memory_gb, self.count)


Task = Callable[[Job], Record]


def run_jobs(
    jobs: Sequence[Job], workers: Workers, task: Task = prepare_study
) -> Generator[Record, None, None]:
    """The records of all jobs, as they finish.

    Raises:
        DiskFullError: the disk is full; after the records of the jobs that had been begun.
        MissingExtraError: `engine` is "ray" and Ray is not installed.
    """
    if workers.engine == "ray":
        from uvlm.preprocessing.cluster import run_on_ray

        return run_on_ray(jobs, workers.count, workers.memory_gb, task)
    memory = worker_memory(workers.memory_gb, workers.count)
    if workers.count == 1 and not workers.isolated:
        return _run_here(jobs, memory, task)
    return _run_pool(jobs, workers.count, memory, task)


def _run_here(
    jobs: Sequence[Job], memory_gb: float | None, task: Task
) -> Generator[Record, None, None]:
    for job in jobs:
        with memory_limit(memory_gb):
            record = task(job)
        yield record


def _run_pool(
    jobs: Sequence[Job], workers: int, memory_gb: float | None, task: Task
) -> Generator[Record, None, None]:
    queue = list(reversed(jobs))
    while queue:
        lost: list[Job] = []
        yield from _drain(task, queue, workers, memory_gb, lost)
        if lost:
            log.warning("a worker died; trying its %d series one at a time", len(lost))
        # Alone in its pool, whoever kills it again is the cause.
        suspects = lost[::-1]
        while suspects:
            culprits: list[Job] = []
            yield from _drain(task, suspects, 1, memory_gb, culprits, limit=1)
            yield from map(lost_record, culprits)


def _drain(
    task: Task,
    queue: list[Job],
    workers: int,
    memory_gb: float | None,
    lost: list[Job],
    limit: int | None = None,
) -> Iterator[Record]:
    """Run jobs from the end of `queue` until it is empty or the pool breaks; then fill `lost`."""
    running: dict[Future[Record], Job] = {}
    full: DiskFullError | None = None
    with (
        one_thread_each(),
        ProcessPoolExecutor(
            min(workers, len(queue)),
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(memory_gb,),
        ) as pool,
    ):
        try:
            while ((queue and full is None) or running) and not lost:
                if full is None:
                    _fill(pool, task, queue, running, lost, limit or IN_FLIGHT * workers)
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        lost.append(job)
                    except DiskFullError as error:
                        full = error
        finally:
            # Stopped half way, what has not begun never begins.
            pool.shutdown(wait=False, cancel_futures=True)
    if full is not None:
        raise full
    lost.extend(running.values())


def _fill(
    pool: ProcessPoolExecutor,
    task: Task,
    queue: list[Job],
    running: dict[Future[Record], Job],
    lost: list[Job],
    limit: int,
) -> None:
    while queue and len(running) < limit:
        try:
            with without_ctrl_c():
                future = pool.submit(task, queue[-1])
        except BrokenProcessPool:
            lost.append(queue.pop())
            return
        running[future] = queue.pop()


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C, which a terminal sends to all; we do, later.

    So they finish what they are writing.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(memory_gb: float | None) -> None:
    end_with_parent()
    limit_memory(memory_gb)

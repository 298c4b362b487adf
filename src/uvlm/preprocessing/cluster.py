"""The same work on a Ray cluster, whose machines all see the raw data and the output folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from uvlm.errors import MissingExtraError, UvlmError
from uvlm.preprocessing.disk import DiskFullError
from uvlm.preprocessing.limits import GB, limit_memory
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.stop import sigterm_interrupts
from uvlm.preprocessing.work import Job, lost_record

__all__ = ["connected", "run_on_ray"]

log = logging.getLogger(__name__)

TRIES_AGAIN = 2
"""After the death of a worker, as when its machine is taken away."""

_limited = False


def run_on_ray(
    jobs: Sequence[Job],
    workers: int,
    memory_gb: float | None,
    task: Callable[[Job], Record],
) -> Generator[Record, None, None]:
    """The records of all jobs, as they finish; at most `workers` run at a time.

    Uses the cluster that RAY_ADDRESS names; without it, a Ray on this machine that ends with the
    run. A worker needs one processor and, if `memory_gb` is given, so much memory.

    Raises:
        MissingExtraError: Ray is not installed.
        DiskFullError: the disk is full.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("Ray", "cluster") from None
    options: dict[str, Any] = {"num_cpus": 1, "max_retries": TRIES_AGAIN}
    if memory_gb is not None:
        options["memory"] = int(memory_gb * GB)
    with connected(ray, workers):
        remote = ray.remote(**options)(_limited_task)
        yield from _collect(ray, remote, jobs, workers, (memory_gb, task))


@contextmanager
def connected(ray: Any, workers: int) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    # Only a Ray of our own may be told what it has.
    own = {} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level=logging.WARNING, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UvlmError(
            f"Ray at {address or 'this machine'}: cannot be reached or started ({error}). Check "
            "RAY_ADDRESS, or leave --engine ray out."
        ) from error
    try:
        # Ray has put its own answer to SIGTERM in place, which says nothing and ends at once.
        with sigterm_interrupts():
            yield
    finally:
        ray.shutdown()


def _collect(
    ray: Any, remote: Any, jobs: Sequence[Job], workers: int, rest: tuple[Any, ...]
) -> Iterator[Record]:
    queue = list(reversed(jobs))
    running: dict[Any, Job] = {}
    full: DiskFullError | None = None
    while running or (queue and full is None):
        while queue and full is None and len(running) < workers:
            job = queue.pop()
            running[remote.remote(job, *rest)] = job
        finished, _ = ray.wait(list(running), num_returns=1)
        for reference in finished:
            job = running.pop(reference)
            try:
                yield ray.get(reference)
            except DiskFullError as error:
                full = DiskFullError.at(job.out)
                log.debug("%s", error)
            except ray.exceptions.RayError as error:
                # A dead worker, or one that Ray ended for want of memory.
                log.warning("%s: %s", job.study.series_id, type(error).__name__)
                yield lost_record(job)
    if full is not None:
        raise full


def _limited_task(job: Job, memory_gb: float | None, task: Callable[[Job], Record]) -> Record:
    """`task`; the first one in a process sets its limit, for Ray uses processes again."""
    global _limited
    if not _limited:
        limit_memory(memory_gb)
        _limited = True
    return task(job)

"""Workers that are processes of this machine, each with the model loaded.

A pipe to each of them carries items there and events back. The system closes it when the process
ends, however that comes about, so that a death is noticed at once. Ctrl-C, which a terminal sends
to all, they never see: they are told to stop, and finish what they are writing.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from uvlm.errors import UvlmError
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.results import Result
from uvlm.inference.batch.schedule import Died, Event, Lost, Ready, WorkerError
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.preprocessing.limits import end_with_parent, one_thread_each
from uvlm.preprocessing.pipeline import without_ctrl_c
from uvlm.preprocessing.stop import sigterm_interrupts

__all__ = ["ProcessPool", "serve"]

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that a worker told to stop may go on writing."""


@dataclass(frozen=True, eq=False)
class _Worker:
    process: Any
    pipe: Connection


class ProcessPool:
    """Implements `schedule.Pool`.

    Args:
        threads: of each worker
    """

    def __init__(self, setup: Setup, crew: Crew, out: Path, threads: int) -> None:
        self.setup = setup
        self.crew = crew
        self.out = out
        self.threads = threads
        self._spawn = multiprocessing.get_context("spawn")

    def start(self, number: int) -> _Worker:
        ours, theirs = self._spawn.Pipe()
        device = self.crew.device(number, self.setup)
        process = self._spawn.Process(
            target=serve,
            args=(theirs, self.setup, device, self.out, self.threads, self.crew.depth),
            name=f"uvlm-report-{number}",
        )
        try:
            with one_thread_each(), without_ctrl_c():
                process.start()
        except OSError as error:
            raise WorkerError(
                f"a worker could not be started ({error.strerror}). Use fewer workers: each needs "
                "a process, with the model in memory."
            ) from error
        theirs.close()  # so that the worker's end is the only one, and its death closes the pipe
        return _Worker(process, ours)

    def send(self, worker: _Worker, item: Item) -> None:
        with suppress(OSError):  # dead; `wait` says so
            worker.pipe.send(item)

    def wait(self, workers: Sequence[_Worker]) -> list[tuple[_Worker, Event]]:
        ready = connection.wait([worker.pipe for worker in workers])
        return [(worker, _event(worker)) for worker in workers if worker.pipe in ready]

    def end(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join(PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        log.debug("worker %s ended with %s", worker.process.name, worker.process.exitcode)

    def stop(self, workers: Sequence[_Worker]) -> list[Result]:
        for worker in workers:
            worker.process.terminate()
        results = []
        for worker in workers:
            while worker.pipe.poll(PATIENCE) and not isinstance(event := _event(worker), Died):
                if isinstance(event, Result):
                    results.append(event)
            self.end(worker)
        return results


def _event(worker: _Worker) -> Event:
    try:
        event: Event = worker.pipe.recv()
    except (EOFError, OSError):
        return Died()
    return event


def serve(pipe: Connection, setup: Setup, device: str, out: Path, threads: int, depth: int) -> None:
    """A worker's life: load, then answer items with results until the pipe closes."""
    end_with_parent()
    try:
        with sigterm_interrupts():
            _serve(pipe, setup, device, out, threads, depth)
    except UvlmError as error:
        pipe.send(Lost(str(error), error.exit_code))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        # Told to stop: the thread that reads ahead may be in the middle of a file.
        os._exit(0)


def _serve(
    pipe: Connection, setup: Setup, device: str, out: Path, threads: int, depth: int
) -> None:
    import torch

    from uvlm.inference.batch.station import Station

    torch.set_num_threads(threads)
    station = Station(setup, device, out)
    pipe.send(Ready())
    station.run(_received(pipe), pipe.send, depth)


def _received(pipe: Connection) -> Iterator[Item]:
    while True:
        try:
            item: Item = pipe.recv()
        except (EOFError, OSError):
            return
        yield item

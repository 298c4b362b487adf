"""A worker in this process, so that tests of what surrounds workers need not wait for one to load
PyTorch, and can put things in a station's way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from uvlm.errors import UvlmError
from uvlm.inference.batch import processes
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.results import Result
from uvlm.inference.batch.schedule import Died, Event, Lost, Ready
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.inference.batch.station import Station

__all__ = ["InProcess", "use_no_processes"]


def use_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ProcessPool", InProcess)


@dataclass(eq=False)
class Worker:
    station: Station | None = None
    held: list[Item] = field(default_factory=list)


class InProcess:
    """Implements `schedule.Pool`."""

    def __init__(self, setup: Setup, crew: Crew, out: Path, threads: int) -> None:
        self.given = (setup, crew.device(0, setup), out)
        self.depth = crew.depth
        self.told: list[Result] = []

    def start(self, number: int) -> Worker:
        return Worker()

    def send(self, worker: Worker, item: Item) -> None:
        worker.held.append(item)

    def wait(self, workers: list[Worker]) -> list[tuple[Worker, Event]]:
        worker = next(each for each in workers if each.held or each.station is None)
        return [(worker, event) for event in self._events(worker)]

    def _events(self, worker: Worker) -> list[Event]:
        last: list[Event] = []
        try:
            if worker.station is None:
                worker.station = Station(*self.given)
                return [Ready()]
            items, worker.held = worker.held, []
            worker.station.run(items, self.told.append, self.depth)
        except UvlmError as error:
            last = [Lost(str(error), error.exit_code)]
        except RuntimeError:
            last = [Died()]
        told, self.told = self.told, []
        return [*told, *last]

    def end(self, worker: Worker) -> None:
        pass

    def stop(self, workers: list[Worker]) -> list[Result]:
        return self.told

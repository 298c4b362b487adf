"""Workers on a Ray cluster, whose machines all see bundle, studies and output under one path.

Each is an actor that loads the model once. Two calls at a time reach it: one reads and prepares
its study while the other has the model.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvlm.errors import ConfigError, MissingExtraError, UvlmError
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.results import Result
from uvlm.inference.batch.schedule import Died, Event, Lost, Ready
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.preprocessing.cluster import connected

__all__ = ["RayPool", "ray_pool"]

log = logging.getLogger(__name__)


@contextmanager
def ray_pool(setup: Setup, crew: Crew, out: Path) -> Iterator[RayPool]:
    """A pool on the cluster that RAY_ADDRESS names; without it, on a Ray of this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        UvlmError: the cluster cannot be reached.
        ConfigError: it has GPUs, and the device is left to choose.
    """
    try:
        import ray as found
    except ImportError:
        raise MissingExtraError("Ray", "cluster") from None
    ray: Any = found  # half of it has no types
    with connected(ray, crew.workers):
        if setup.device == "auto" and ray.cluster_resources().get("GPU"):
            raise ConfigError(
                "the cluster has GPUs, and --device auto cannot say whether each worker is to have "
                "one. Give --device cuda or --device cpu."
            )
        yield RayPool(ray, setup, crew, out)


@dataclass(frozen=True, eq=False)
class _Worker:
    actor: Any


class RayPool:
    """Implements `schedule.Pool`."""

    def __init__(self, ray: Any, setup: Setup, crew: Crew, out: Path) -> None:
        self._ray = ray
        self._given = (setup, out.absolute())
        # Ray shows a worker the GPU it asks for as the only one, and none if it asks for none.
        needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(setup.device.startswith("cuda"))}
        self._actor = ray.remote(max_concurrency=crew.depth, max_restarts=0, **needs)(_Actor)
        self._pending: dict[Any, _Worker] = {}

    def start(self, number: int) -> _Worker:
        worker = _Worker(self._actor.remote(*self._given))
        self._pending[worker.actor.load.remote()] = worker
        return worker

    def send(self, worker: _Worker, item: Item) -> None:
        self._pending[worker.actor.report.remote(item)] = worker

    def wait(self, workers: Sequence[_Worker]) -> list[tuple[_Worker, Event]]:
        finished, _ = self._ray.wait(list(self._pending), num_returns=1)
        worker = self._pending.pop(finished[0])
        return [(worker, self._event(finished[0]))]

    def _event(self, reference: Any) -> Event:
        try:
            event: Event = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            # A dead actor, or one that failed for good, as with a broken GPU.
            log.warning("a worker failed: %s", type(error).__name__)
            return Died()
        return event

    def end(self, worker: _Worker) -> None:
        self._pending = {ref: other for ref, other in self._pending.items() if other is not worker}
        self._ray.kill(worker.actor)

    def stop(self, workers: Sequence[_Worker]) -> list[Result]:
        """What a worker is writing is lost; the next run removes what there is of it."""
        for worker in workers:
            self.end(worker)
        return []


class _Actor:
    """A station, loaded when first asked, so that errors come back as answers."""

    def __init__(self, setup: Setup, out: Path) -> None:
        self._given = (setup, setup.device, out)
        self._model = threading.Lock()
        self._station: Any = None

    def load(self) -> Event:
        from uvlm.inference.batch.station import Station

        try:
            self._station = Station(*self._given)
        except UvlmError as error:
            return Lost(str(error), error.exit_code)
        return Ready()

    def report(self, item: Item) -> Event:
        opened = self._station.read(item)
        with self._model:
            findings = self._station.infer(opened)
            del opened
            try:
                result: Result = self._station.write(item, findings)
            except UvlmError as error:
                return Lost(str(error), error.exit_code)
        return result

"""Workers on Ray: the same results; a worker that dies is replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.inference.batch.rows import check_rows, unlike
from tests.inference.bundle_factory import tiny_bundle
from uvlm.errors import ConfigError, MissingExtraError
from uvlm.inference.batch import cluster
from uvlm.inference.batch.cluster import RayPool, ray_pool
from uvlm.inference.batch.items import find_items
from uvlm.inference.batch.progress import Progress
from uvlm.inference.batch.results import Result
from uvlm.inference.batch.run import report_studies
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.inference.decoding.options import GenerateOptions

CREW = Crew(workers=2, engine="ray")


def made(folder: Path) -> tuple[Setup, list]:
    bundle = tiny_bundle(folder / "bundle", ("classification", "report"))
    (folder / "in").mkdir()
    for number in range(6):
        unlike(folder / "in" / f"s{number}.nii.gz", number)
    (folder / "in/bad.nii.gz").write_bytes(b"no image")
    options = GenerateOptions(max_new_tokens=4)
    return Setup(bundle=bundle, device="cpu", options=options), find_items([folder / "in"])


def test_ray_is_asked_for_by_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    setup, items = made(tmp_path)
    with pytest.raises(MissingExtraError, match=r"uvlm\[cluster\]"):
        report_studies(items, tmp_path / "out", setup, CREW)


def test_on_a_cluster_with_gpus_the_device_is_not_left_to_choose(tmp_path, monkeypatch):
    class Ray:
        gpus = 2.0

        def cluster_resources(self):
            return {"CPU": 4.0} | ({"GPU": self.gpus} if self.gpus else {})

        def remote(self, **needs):
            return lambda actor: actor

    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(cluster, "connected", lambda *_: nullcontext())
    setup = Setup(bundle=tmp_path, device="auto")
    with pytest.raises(ConfigError, match="Give --device cuda"), ray_pool(setup, CREW, tmp_path):
        pass
    ray.gpus = 0.0
    with ray_pool(setup, CREW, tmp_path) as pool:
        assert isinstance(pool, RayPool)


@pytest.fixture
def local_ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 << 20,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
        )
        yield ray
        ray.shutdown()


@pytest.mark.slow
def test_actors_do_what_one_process_does_and_a_dead_one_is_replaced(
    tmp_path, local_ray, monkeypatch
):
    setup, items = made(tmp_path)
    add, start, actors = Progress.add, RayPool.start, []

    def started(self: RayPool, number: int) -> Any:
        worker = start(self, number)
        actors.append(worker.actor)
        return worker

    def watched(self: Progress, result: Result) -> None:
        add(self, result)
        if self.done == 1:
            local_ray.kill(actors[0])

    with monkeypatch.context() as patch:
        patch.setattr(RayPool, "start", started)
        patch.setattr(Progress, "add", watched)
        summary = report_studies(items, tmp_path / "out", setup, CREW)
    assert len(actors) == 3
    assert (summary.exit_code, summary.done, summary.failed) == (3, 6, 1)
    check_rows(items[1:], tmp_path / "out", setup)

"""Many studies: bounded memory, and a worker's death costs one of them."""

import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.preprocessing.studies_factory import (
    NAMES,
    Huge,
    Killed,
    make_files,
    study,
)
from uvlm.errors import ConfigError, MissingExtraError, UvlmError
from uvlm.imaging.preprocess import preset
from uvlm.imaging.store import read_meta, read_store
from uvlm.preprocessing import cluster, pipeline
from uvlm.preprocessing.disk import DiskFullError
from uvlm.preprocessing.limits import THREADS, available_gb, memory_limit, one_thread_each
from uvlm.preprocessing.pipeline import Workers, run_jobs
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.work import Job

ROOT = Path(__file__).resolve().parents[2]
SPEC = preset("paper", (8, 16, 16))
TWO = Workers(count=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("made"))


def jobs(made, out, names=NAMES, **kinds):
    """`kinds`: name of a study to its kind of image."""
    (out / "imagesTr").mkdir(parents=True, exist_ok=True)
    studies = [
        study(made, name, mask=False, **({"image": kinds[name]} if name in kinds else {}))
        for name in names
    ]
    return [Job(study=each, scopes=(), spec=SPEC, out=out) for each in studies]


def run(*arguments, **keywords):
    return {record.series_id: record for record in run_jobs(*arguments, **keywords)}


def facts(record):
    return replace(record, seconds=0.0, peak_gb=0.0)


def report(job):
    """Says in its record how many threads this process may use."""
    threads = ",".join(os.environ[name] for name in THREADS)
    return Record(series_id=job.study.series_id, key=str(os.getpid()), signature=threads, source="")


def report_blocked(job):
    """Says in its record which signals do not reach this process."""
    blocked = ",".join(each.name for each in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    return Record(series_id=job.study.series_id, key="", signature=blocked, source="")


def full_at_second(job):
    if job.study.series_id == NAMES[1]:
        raise DiskFullError("the disk is full")
    return Record(series_id=job.study.series_id, key="", signature="", source="")


def test_workers_do_what_one_process_does(made, tmp_path):
    alone = run(jobs(made, tmp_path / "alone"), Workers())
    together = run(jobs(made, tmp_path / "together"), TWO)
    assert together.keys() == alone.keys() == set(NAMES)
    for name in NAMES:
        assert facts(together[name]) == facts(alone[name])
        one, other = (tmp_path / side / f"imagesTr/{name}.b2nd" for side in ("alone", "together"))
        assert read_meta(one) == read_meta(other)
        assert np.array_equal(read_store(one), read_store(other))


def test_a_dying_worker_costs_only_the_study_that_killed_it(made, tmp_path):
    found = run(jobs(made, tmp_path, p1_b=Killed), TWO)
    assert found.keys() == set(NAMES)
    assert {name for name, record in found.items() if record.error} == {"p1_b"}
    assert "p1_b.nii.gz: the process preparing it died, each time; the file" in found["p1_b"].error
    assert found["p1_b"].signature


def test_a_study_that_needs_too_much_memory_is_recorded_and_the_worker_lives(made, tmp_path):
    before = os.getpid()
    found = run(jobs(made, tmp_path, p1_b=Huge), Workers(count=1, isolated=True, memory_gb=0.5))
    assert {name for name, record in found.items() if record.error} == {"p1_b"}
    assert "needs more memory than a worker may use" in found["p1_b"].error
    assert os.getpid() == before


def test_memory_is_bounded_in_this_process_and_only_while_it_works():
    with memory_limit(0.5), pytest.raises(MemoryError):
        np.ones(1 << 30, np.uint8)
    assert np.empty(1 << 30, np.uint8).size == 1 << 30


def test_workers_use_one_thread_each_and_the_parent_stays_as_it_was(made, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    found = run(jobs(made, tmp_path, NAMES[:2]), Workers(isolated=True), task=report)
    assert {record.signature for record in found.values()} == {",".join("1" * len(THREADS))}
    assert str(os.getpid()) not in {record.key for record in found.values()}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_the_environment_is_restored_after_an_error(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with pytest.raises(KeyError), one_thread_each():
        raise KeyError
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("workers", [Workers(), Workers(isolated=True)])
def test_a_full_disk_ends_the_run_after_what_was_begun(made, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(pipeline, "IN_FLIGHT", 2)
    found = set()
    records = run_jobs(jobs(made, tmp_path), workers, full_at_second)
    with pytest.raises(DiskFullError):
        _collect(found, records)
    assert NAMES[0] in found
    assert NAMES[3] not in found


def _collect(found, records):
    for record in records:
        found.add(record.series_id)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"count": 0}, "workers must be at least 1"), ({"memory_gb": 0.01}, "memory_gb is 0.01")],
)
def test_impossible_workers_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Workers(**options)


def test_available_memory_is_known_on_linux():
    free = available_gb()
    assert free is None or 0 < free < 100_000


def test_ray_is_asked_for_by_its_extra(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"uvlm\[cluster\]"):
        run(jobs(made, tmp_path), Workers(engine="ray"))


def test_ctrl_c_does_not_reach_the_workers(made, tmp_path):
    found = run(jobs(made, tmp_path, NAMES[:2]), TWO, task=report_blocked)
    assert {record.signature for record in found.values()} == {"SIGINT"}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_on_ray_too_a_scheduler_can_stop_the_run(monkeypatch):
    mine = signal.getsignal(signal.SIGTERM)
    fake = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        shutdown=lambda: None,
    )
    try:
        with pytest.raises(KeyboardInterrupt), cluster.connected(fake, 1):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, mine)


def test_a_ray_that_cannot_be_reached_is_named(made, tmp_path, monkeypatch):
    def refuse(**_):
        raise ConnectionError("no answer")

    fake = SimpleNamespace(is_initialized=lambda: False, init=refuse)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(UvlmError, match=r"Ray at head:6379: cannot be reached.*no answer") as error:
        run(jobs(made, tmp_path), Workers(engine="ray"))
    assert error.value.exit_code == 1


@pytest.fixture(scope="module")
def local_ray():
    """A Ray on this machine, and this project where its workers find it."""
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings():
        # Ray leaves sockets and files open when it starts and stops.
        warnings.simplefilter("ignore")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )
        yield ray
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_ray_does_what_processes_do(made, tmp_path, local_ray):
    expected = run(jobs(made, tmp_path / "processes"), TWO)
    found = run(jobs(made, tmp_path / "ray"), Workers(count=2, engine="ray"))
    assert {name: facts(record) for name, record in found.items()} == {
        name: facts(record) for name, record in expected.items()
    }
    for name in NAMES:
        one, other = (tmp_path / side / f"imagesTr/{name}.b2nd" for side in ("processes", "ray"))
        assert np.array_equal(read_store(one), read_store(other))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_on_ray_too_a_dying_worker_costs_only_the_study_that_killed_it(made, tmp_path, local_ray):
    found = run(jobs(made, tmp_path, p1_b=Killed), Workers(count=2, engine="ray"))
    assert {name for name, record in found.items() if record.error} == {"p1_b"}
    assert "the process preparing it died" in found["p1_b"].error


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_on_ray_too_memory_is_bounded(made, tmp_path, local_ray):
    workers = Workers(count=2, engine="ray", memory_gb=0.5)
    found = run(jobs(made, tmp_path, p1_b=Huge), workers)
    assert {name for name, record in found.items() if record.error} == {"p1_b"}
    assert "needs more memory than a worker may use" in found["p1_b"].error


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_on_ray_too_a_full_disk_ends_the_run(made, tmp_path, local_ray):
    found = set()
    workers = Workers(count=1, engine="ray")
    with pytest.raises(DiskFullError):
        _collect(found, run_jobs(jobs(made, tmp_path), workers, full_at_second))
    assert found == {NAMES[0]}

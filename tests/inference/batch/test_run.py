"""A batch: resumed, interrupted, refused."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.inference.batch.in_process import use_no_processes
from tests.inference.batch.rows import check_rows, unlike
from tests.inference.bundle_factory import chest_array, tiny_bundle, write_ct
from uvlm.errors import BundleError, CatalogError, InputError, UvlmError
from uvlm.inference.batch import processes, station
from uvlm.inference.batch import run as module
from uvlm.inference.batch.items import find_items
from uvlm.inference.batch.results import RESULTS, outputs
from uvlm.inference.batch.run import Summary, report_studies
from uvlm.inference.batch.schedule import WorkerError
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.inference.batch.station import Station, held_interrupts
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.pipeline import Pipeline
from uvlm.preprocessing.disk import DiskFullError, lock
from uvlm.preprocessing.stop import StoppedError

ALONE = Crew()
processes_pool = processes.ProcessPool
SHORT = GenerateOptions(max_new_tokens=4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "all", ("classification", "report"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use_no_processes(monkeypatch)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        unlike(folder / f"{name}.nii.gz", seed)
    return folder


def batch(folder: Path, bundle: Path, crew: Crew = ALONE, **options) -> Summary:
    how = options.pop("how", SHORT)
    # Evidence and its pictures are most of the time, and others test them.
    setup = Setup(bundle=bundle, device="cpu", options=how, evidence=False)
    out = options.pop("out", folder.parent / "out")
    return report_studies(find_items([folder]), out, setup, crew, **options)


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder.parent / "out/results.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def lines(folder: Path) -> list[str]:
    text = (folder.parent / "out" / RESULTS).read_text()
    return [json.loads(line)["id"] for line in text.splitlines()]


def forbid_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args, **kwargs):
        pytest.fail("the model was loaded")

    monkeypatch.setattr(Pipeline, "load", load)


@pytest.mark.parametrize("overlap", [True, False])
def test_each_row_is_of_its_own_study(studies, bundle, overlap):
    summary = batch(studies, bundle, Crew(overlap=overlap))
    assert (summary.exit_code, summary.done, summary.now) == (0, 3, 3)
    setup = Setup(bundle=bundle, device="cpu", options=SHORT, evidence=False)
    check_rows(find_items([studies]), studies.parent / "out", setup)
    assert lines(studies) == ["a", "b", "c"]


def test_what_is_for_review_is_counted_and_recorded(studies, bundle, monkeypatch):
    report = Pipeline.report

    def doubted(self, study, *args, **kwargs):
        found = report(self, study, *args, **kwargs)
        doubts = ("Too far away.",) if study.path.name == "b.nii.gz" else ()
        return replace(found, review=doubts, flags=())

    monkeypatch.setattr(Pipeline, "report", doubted)
    summary = batch(studies, bundle)
    assert (summary.for_review, summary.done) == (1, 3)
    assert "; 1 for review: " in str(summary)
    assert [rows(studies)[name]["review"] for name in "abc"] == ["", "Too far away.", ""]
    out = studies.parent / "out"
    kept = [json.loads(line)["review"] for line in (out / RESULTS).read_text().splitlines()]
    assert kept == [[], ["Too far away."], []]
    assert json.loads((out / "b.json").read_text())["review"] == ["Too far away."]
    assert all("Too far away." in (out / f"b.{kind}").read_text() for kind in ("md", "html"))
    assert batch(studies, bundle).for_review == 1  # as the run before found


def test_a_flagged_study_is_for_review(studies, bundle, monkeypatch):
    real = Pipeline.report
    monkeypatch.setattr(
        Pipeline, "report", lambda *a, **k: replace(real(*a, **k), review=(), flags=("Not this.",))
    )
    assert batch(studies, bundle).for_review == 3


def test_the_same_command_again_does_nothing(studies, bundle, monkeypatch):
    batch(studies, bundle)
    before = {p.name: p.stat().st_mtime_ns for p in (studies.parent / "out").iterdir()}
    forbid_loading(monkeypatch)
    again = batch(studies, bundle)
    assert (again.exit_code, again.now, again.done) == (0, 0, 3)
    assert "0 were to do" in str(again)
    assert {p.name: p.stat().st_mtime_ns for p in (studies.parent / "out").iterdir()} == before


def test_a_failure_is_recorded_and_tried_again_only_when_its_input_changes(
    studies, bundle, monkeypatch
):
    (studies / "b.nii.gz").write_bytes(b"no image")
    first = batch(studies, bundle)
    assert (first.exit_code, first.failed) == (3, 1)
    assert "b.nii.gz" in rows(studies)["b"]["error"]
    assert not outputs(studies.parent / "out", "b")[0].exists()
    with monkeypatch.context() as patch:
        forbid_loading(patch)
        assert (batch(studies, bundle).exit_code, batch(studies, bundle).now) == (3, 0)
    assert batch(studies, bundle, retry=True).now == 1
    write_ct(studies / "b.nii.gz")
    mended = batch(studies, bundle)
    assert (mended.exit_code, mended.now) == (0, 1)
    assert rows(studies)["b"]["error"] == ""
    assert not (studies.parent / "out/errors.csv").exists()


def test_new_studies_join_and_the_table_keeps_the_old(studies, bundle):
    batch(studies, bundle)
    write_ct(studies / "d.nii.gz")
    (studies / "a.nii.gz").unlink()
    assert batch(studies, bundle).now == 1
    assert sorted(rows(studies)) == ["a", "b", "c", "d"]


def test_nothing_but_bad_input_is_2(studies, bundle):
    for path in studies.iterdir():
        path.write_bytes(b"no image")
    assert batch(studies, bundle).exit_code == 2


def test_a_bug_is_recorded_and_said_once_with_its_type_and_place_and_is_1(
    studies, bundle, monkeypatch, caplog
):
    def report(self, *args, **kwargs):
        raise ZeroDivisionError("P-4711")

    monkeypatch.setattr(Pipeline, "report", report)
    assert batch(studies, bundle).exit_code == 1
    assert re.fullmatch(
        r"a\.nii\.gz: ZeroDivisionError at test_run\.py:\d+, station\.py:\d+.*",
        rows(studies)["a"]["error"],
    )
    assert "P-4711" not in (studies.parent / "out/results.jsonl").read_text() + caplog.text
    assert len([each for each in caplog.records if "ZeroDivisionError" in each.message]) == 3


def test_other_options_or_another_bundle_are_refused_and_nothing_is_changed(
    studies, bundle, tmp_path
):
    batch(studies, bundle)
    with pytest.raises(InputError, match="max_new_tokens 4, now 5"):
        batch(studies, bundle, how=GenerateOptions(max_new_tokens=5))
    other = tiny_bundle(tmp_path / "other", ("classification", "report"), seed=1)
    with pytest.raises(InputError, match=r"bundle \w{16}, now \w{16}"):
        batch(studies, other)


def test_a_file_that_was_only_touched_stays_done(studies, bundle, monkeypatch, caplog):
    batch(studies, bundle)
    os.utime(studies / "b.nii.gz", (1, 1))
    with monkeypatch.context() as patch:
        forbid_loading(patch)
        again = batch(studies, bundle)
        assert (again.exit_code, again.now) == (0, 0)
        assert "1 of them have the same content" in caplog.text
        caplog.clear()
        assert batch(studies, bundle).now == 0  # and is known now
    assert "another time" not in caplog.text


def test_another_file_under_a_done_name_is_that_study_s_error(studies, bundle):
    batch(studies, bundle)
    out = studies.parent / "out"
    before = (out / "b.json").read_bytes()
    earlier = studies / "b.nii.gz"
    moved = earlier.rename(studies.parent / "earlier.nii.gz")
    write_ct(studies / "b.nii.gz", chest_array(seed=9))
    write_ct(studies / "d.nii.gz")
    for now in (1, 0):
        summary = batch(studies, bundle)
        assert (summary.exit_code, summary.done, summary.now) == (3, 3, now)
        assert "b.nii.gz: it is another file" in rows(studies)["b"]["error"]
        assert rows(studies)["b"]["report"] == ""
    assert (out / "b.json").read_bytes() == before
    moved.rename(earlier)
    assert batch(studies, bundle).exit_code == 0
    assert rows(studies)["b"]["error"] == ""
    assert not (out / "errors.csv").exists()
    write_ct(studies / "b.nii.gz", chest_array(seed=9))
    for path in outputs(out, "b"):
        path.unlink(missing_ok=True)
    assert batch(studies, bundle).now == 1


@pytest.mark.parametrize("name", ["results.csv", "errors.csv"])
def test_tables_that_the_user_has_there_stay(studies, bundle, name):
    out = studies.parent / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name}: exists already"):
        batch(studies, bundle)
    assert (out / name).read_text() == "mine"
    assert not (out / "a.json").exists()


@pytest.mark.parametrize("name", ["b.json", "b.md"])
def test_a_study_whose_files_the_user_has_there_is_its_error(studies, bundle, name):
    out = studies.parent / "out"
    out.mkdir()
    (out / name).write_text("mine")
    for now in (2, 0):
        summary = batch(studies, bundle)
        assert (summary.exit_code, summary.done, summary.now) == (3, 2, now)
        assert f"{name}: exists already" in rows(studies)["b"]["error"]
    assert (out / name).read_text() == "mine"
    (out / name).unlink()
    assert batch(studies, bundle).exit_code == 0


def test_nothing_but_studies_in_the_way_loads_no_model_and_can_be_run_again(
    studies, bundle, monkeypatch
):
    forbid_loading(monkeypatch)
    out = studies.parent / "out"
    out.mkdir()
    for name in ("a", "b", "c"):
        (out / f"{name}.json").write_text("mine")
    assert [batch(studies, bundle).exit_code for _ in range(2)] == [2, 2]


def test_a_worker_that_cannot_be_started_is_no_fault_of_the_output(studies, bundle, monkeypatch):
    from multiprocessing.context import SpawnProcess

    def start(self):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(processes, "ProcessPool", processes_pool)
    monkeypatch.setattr(SpawnProcess, "start", start)
    with pytest.raises(WorkerError, match=r"Cannot allocate memory.*fewer workers"):
        batch(studies, bundle)


def test_an_output_that_cannot_be_written_is_named(studies, bundle, monkeypatch):
    def add(self, record):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module.RecordLog, "add", add)
    with pytest.raises(InputError, match=r"out: cannot be written \(Input/output error\)"):
        batch(studies, bundle)


def test_a_failed_study_has_its_seconds(studies, bundle, monkeypatch):
    (studies / "b.nii.gz").write_bytes(b"no image")
    ticks = iter(range(10_000))
    monkeypatch.setattr(station.time, "perf_counter", lambda: float(next(ticks)))
    batch(studies, bundle, Crew(overlap=False))
    assert float(rows(studies)["b"]["seconds"]) >= 1


def test_a_bundle_that_cannot_be_used_leaves_nothing(studies, tmp_path):
    bundle = tiny_bundle(tmp_path / "seg", ("segmentation",))
    with pytest.raises(BundleError, match="no report part"):
        batch(studies, bundle)
    assert not (studies.parent / "out").exists()


def test_two_runs_do_not_write_into_one_folder(studies, bundle):
    out = studies.parent / "out"
    out.mkdir()
    with lock(out), pytest.raises(CatalogError, match="another run"):
        batch(studies, bundle)


def test_what_a_killed_run_had_written_but_not_recorded_is_done_anew(studies, bundle):
    batch(studies, bundle)
    out = studies.parent / "out"
    run = json.loads((out / ".run.json").read_text())
    (out / ".run.json").write_text(json.dumps(run | {"begun": ["c"]}))
    (out / RESULTS).write_bytes((out / RESULTS).read_bytes()[:-30])
    (out / ".uvlm-batch-half").mkdir()
    (out / ".uvlm-single").mkdir()
    assert batch(studies, bundle).now == 1
    assert lines(studies) == ["a", "b", "c"]
    assert not (out / ".uvlm-batch-half").exists()
    assert (out / ".uvlm-single").exists()  # another run's, that writes one study


def test_stopped_it_has_written_what_it_recorded_and_goes_on_from_there(
    studies, bundle, monkeypatch
):
    write = Station.write

    def interrupted(self, item, findings):
        result = write(self, item, findings)
        if item.id == "b":
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(Station, "write", interrupted)
    with pytest.raises(StoppedError, match="run the same command again"):
        batch(studies, bundle)
    assert lines(studies) == ["a", "b"]
    assert sorted(rows(studies)) == ["a", "b"]
    assert batch(studies, bundle).now == 1
    assert lines(studies) == ["a", "b", "c"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_block(number):
    steps = []
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - what comes after the signal counts
        with held_interrupts():
            os.kill(os.getpid(), number)
            steps.append("written")
        steps.append("never")
    assert steps == ["written"]
    assert signal.getsignal(number) is before


def test_a_full_disk_ends_the_run_and_the_rest_is_done_later(studies, bundle, monkeypatch):
    def full(self, item, findings):
        raise DiskFullError.at(self.out)

    with monkeypatch.context() as patch:
        patch.setattr(Station, "write", full)
        with pytest.raises(UvlmError, match="the disk is full"):
            batch(studies, bundle)
    assert batch(studies, bundle).now == 3


def test_a_broken_gpu_is_no_fault_of_the_study(studies, bundle, monkeypatch):
    report, broken = Pipeline.report, []

    def breaking(self, *args, **kwargs):
        if not broken:
            broken.append(self)
        if self is broken[0]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return report(self, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "report", breaking)
    assert batch(studies, bundle).exit_code == 0


def test_threads_are_shared_among_workers(studies, bundle, monkeypatch):
    import torch

    seen = []

    def pool(setup, crew, out, threads):
        seen.append(threads)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "ProcessPool", pool)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    for workers in (1, 2, 4, 20):
        with pytest.raises(StoppedError):
            batch(studies, bundle, Crew(workers=workers))
    assert seen == [9, 4, 2, 1]
    assert module.RUN in os.listdir(studies.parent / "out")

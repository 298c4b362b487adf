"""Workers that are processes: the same results, deaths noticed, stopped in good order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.inference.batch.rows import check_rows, unlike
from tests.inference.bundle_factory import tiny_bundle, write_ct
from uvlm.errors import ConfigError, UvlmError
from uvlm.inference.batch.items import Item, find_items
from uvlm.inference.batch.progress import Progress
from uvlm.inference.batch.results import RESULTS, Result, read_results
from uvlm.inference.batch.run import report_studies
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.preprocessing.stop import StoppedError

SHORT = GenerateOptions(max_new_tokens=4)


@dataclass(frozen=True, kw_only=True)
class Deadly(Item):
    """Kills the process that receives it."""

    def __setstate__(self, state) -> None:
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        self.__dict__.update(state)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "bundle", ("classification", "report"))


def make(folder: Path, count: int) -> Path:
    folder.mkdir()
    first = write_ct(folder / "s000.nii.gz")
    for number in range(1, count):
        (folder / f"s{number:03}.nii.gz").hardlink_to(first)
    return folder


def make_unlike(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        unlike(folder / f"s{number:03}.nii.gz", number)
    return folder


def setup(bundle: Path, device: str = "cpu") -> Setup:
    return Setup(bundle=bundle, device=device, options=SHORT, evidence=False)


def killing(monkeypatch: pytest.MonkeyPatch, after: int, number: int, who: str) -> None:
    """After so many results, send a signal to a worker, or to this process."""
    add = Progress.add

    def watched(self: Progress, result: Result) -> None:
        add(self, result)
        if self.done == after:
            children = [p for p in multiprocessing.active_children() if "uvlm-report" in p.name]
            assert children
            os.kill(children[0].pid if who == "worker" else os.getpid(), number)

    monkeypatch.setattr(Progress, "add", watched)


def test_two_workers_of_which_one_is_killed_give_each_study_its_own_report(
    bundle, tmp_path, monkeypatch
):
    items = find_items([make_unlike(tmp_path / "in", 8)])
    killing(monkeypatch, 2, signal.SIGKILL, "worker")
    out = tmp_path / "out"
    summary = report_studies(items, out, setup(bundle), Crew(workers=2))
    assert (summary.exit_code, summary.done, summary.failed) == (0, 8, 0)
    assert len((out / RESULTS).read_text().splitlines()) == 8
    check_rows(items, out, setup(bundle))
    assert not list(out.glob(".uvlm-*"))


def test_a_study_that_kills_its_process_costs_no_other_even_with_one_worker(bundle, tmp_path):
    items = find_items([make_unlike(tmp_path / "in", 4)])
    items[1] = Deadly(id=items[1].id, path=items[1].path)
    out = tmp_path / "out"
    summary = report_studies(items, out, setup(bundle), Crew())
    assert (summary.exit_code, summary.done, summary.failed) == (3, 3, 1)
    assert "died, 2 times" in str(read_results(out / RESULTS)["s001"].error)
    check_rows([items[0], *items[2:]], out, setup(bundle))
    assert report_studies(items, out, setup(bundle), Crew()).now == 0


@pytest.mark.slow
def test_stopped_workers_finish_writing_and_the_rest_is_done_later(bundle, tmp_path, monkeypatch):
    items = find_items([make(tmp_path / "in", 12)])
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        killing(patch, 3, signal.SIGINT, "us")
        with pytest.raises(StoppedError):
            report_studies(items, out, setup(bundle), Crew(workers=2))
    done = set(read_results(out / RESULTS))
    assert 3 <= len(done) < 12
    assert {path.stem for path in out.glob("s*.json")} == done
    assert multiprocessing.active_children() == []
    rest = report_studies(items, out, setup(bundle), Crew(workers=2))
    assert (rest.now, rest.done) == (12 - len(done), 12)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_the_commands_error(bundle, tmp_path):
    weights = bundle / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    items = find_items([make(tmp_path / "in", 3)])
    with pytest.raises(UvlmError, match=r"model\.safetensors") as caught:
        report_studies(items, tmp_path / "out", setup(bundle), Crew(workers=2))
    assert caught.value.exit_code == 2


@pytest.mark.slow
def test_a_device_that_is_not_there_is_the_commands_error(bundle, tmp_path):
    items = find_items([make(tmp_path / "in", 3)])
    crew = Crew(workers=2, devices=("cuda:77", "cuda:78"))
    with pytest.raises(UvlmError, match="cuda:7") as caught:
        report_studies(items, tmp_path / "out", setup(bundle), crew)
    assert caught.value.exit_code == ConfigError.exit_code


@pytest.mark.slow
def test_two_hundred_studies_of_which_ten_are_unreadable_and_a_worker_is_killed(
    bundle, tmp_path, monkeypatch
):
    folder = make(tmp_path / "in", 190)
    for number in range(10):
        (folder / f"bad{number}.nii.gz").write_bytes(b"no image")
    items, out = find_items([folder]), tmp_path / "out"
    with monkeypatch.context() as patch:
        killing(patch, 100, signal.SIGKILL, "worker")
        summary = report_studies(items, out, setup(bundle), Crew(workers=2))
    assert (summary.exit_code, summary.done, summary.failed, summary.now) == (3, 190, 10, 200)
    found = read_results(out / RESULTS)
    assert sorted(n for n, r in found.items() if r.error) == [f"bad{n}" for n in range(10)]
    assert len((out / RESULTS).read_text().splitlines()) == 200
    assert len(list(out.glob("s*.json"))) == 190
    again = report_studies(items, out, setup(bundle), Crew(workers=2))
    assert (again.exit_code, again.now) == (3, 0)

"""Rows of a table that cannot be studies: recorded once each, while the others are done."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.inference.batch.in_process import use_no_processes
from tests.inference.batch.rows import unlike
from tests.inference.bundle_factory import tiny_bundle
from uvlm.inference.batch.items import find_items
from uvlm.inference.batch.results import RESULTS
from uvlm.inference.batch.run import Summary, report_studies
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.pipeline import Pipeline


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "all", ("classification", "report"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use_no_processes(monkeypatch)


def batch(catalog: Path, bundle: Path, *, retry: bool = False) -> Summary:
    how = GenerateOptions(max_new_tokens=4)
    setup = Setup(bundle=bundle, device="cpu", options=how, evidence=False)
    return report_studies(find_items([catalog]), catalog.parent / "out", setup, Crew(), retry=retry)


def rows(catalog: Path) -> dict[str, dict[str, str]]:
    with (catalog.parent / "out/results.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def lines(catalog: Path) -> list[str]:
    text = (catalog.parent / "out" / RESULTS).read_text()
    return [json.loads(line)["id"] for line in text.splitlines()]


def forbid_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args, **kwargs):
        pytest.fail("the model was loaded")

    monkeypatch.setattr(Pipeline, "load", load)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Of six rows two are reports; one has no path, two no identifier of their own, one no file."""
    for seed, name in enumerate("abc"):
        unlike(tmp_path / f"{name}.nii.gz", seed)
    (tmp_path / "no.nii.gz").write_bytes(b"no image")
    rows = ("a,a.nii.gz", "b,", "A,b.nii.gz", "../c,c.nii.gz", "no,no.nii.gz", "c,c.nii.gz")
    path = tmp_path / "catalog.csv"
    path.write_text("id,path\n" + "".join(f"{row}\n" for row in rows))
    return path


ROWS = {"a": "", "b": "row 3", "A_row4": "row 4", "row5": "row 5", "no": "no.nii.gz", "c": ""}
"""What the error of each row of the catalog names."""


def check_catalog(catalog: Path) -> None:
    found = rows(catalog)
    assert sorted(found) == sorted(lines(catalog)) == sorted(ROWS)
    for name, what in ROWS.items():
        assert bool(found[name]["error"]) == bool(what)
        assert what in found[name]["error"]
        assert (catalog.parent / f"out/{name}.json").exists() == (not what)


def test_every_row_of_a_table_is_one_line_and_bad_rows_stop_no_other(
    catalog, bundle, monkeypatch, caplog
):
    out = catalog.parent / "out"
    summary = batch(catalog, bundle)
    assert (summary.exit_code, summary.total, summary.done, summary.now) == (3, 6, 2, 3)
    check_catalog(catalog)
    assert sum("row 3" in each.message for each in caplog.records) == 1
    errors = [json.loads(line) for line in (out / RESULTS).read_text().splitlines()]
    assert {each["exit_code"] for each in errors if each["error"]} == {2}
    before = (out / RESULTS).read_bytes()
    forbid_loading(monkeypatch)
    again = batch(catalog, bundle)
    assert (again.exit_code, again.now) == (3, 0)
    assert (out / RESULTS).read_bytes() == before
    check_catalog(catalog)


def test_with_retry_rows_at_fault_are_recorded_no_second_time(catalog, bundle):
    batch(catalog, bundle)
    assert batch(catalog, bundle, retry=True).now == 1
    assert sorted(lines(catalog)) == sorted([*ROWS, "no"])


def test_a_row_put_right_is_done_and_its_error_is_gone(catalog, bundle):
    batch(catalog, bundle)
    catalog.write_text("id,path\na,a.nii.gz\nb,b.nii.gz\nd,c.nii.gz\n")
    summary = batch(catalog, bundle)
    assert (summary.exit_code, summary.now) == (0, 2)
    assert sorted(rows(catalog)) == ["a", "b", "c", "d", "no"]


def test_the_report_of_a_row_outlasts_that_it_cannot_be_used(catalog, bundle):
    batch(catalog, bundle)
    text = catalog.read_text()
    catalog.write_text(text.replace("\nc,c.nii.gz", "\nc,"))
    assert batch(catalog, bundle).done == 1
    assert "row 7, column 'path': no path" in rows(catalog)["c"]["error"]
    catalog.write_text(text)
    assert batch(catalog, bundle).now == 0
    check_catalog(catalog)


def test_nothing_but_bad_rows_loads_no_model_and_is_2(catalog, bundle, monkeypatch):
    forbid_loading(monkeypatch)
    catalog.write_text("id,path\na,\nb,\n")
    summaries = [batch(catalog, bundle) for _ in range(2)]
    assert [each.exit_code for each in summaries] == [2, 2]
    assert lines(catalog) == ["a", "b"]

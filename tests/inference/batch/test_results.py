"""The lines of a batch, and its tables."""

from __future__ import annotations

import csv

import pytest

from uvlm.evaluation.tables import read_table
from uvlm.inference.batch.results import (
    RESULTS,
    Result,
    outputs,
    read_results,
    remove_outputs,
    write_tables,
)
from uvlm.preprocessing.records import RecordLog


def result(name: str, **values) -> Result:
    return Result(id=name, input=f"{name}.nii.gz", signature="0", **values)


FULL = result(
    "a",
    report='No "nodule",\nnone; ü.',
    probabilities={"Lung nodule": 0.25, "Emphysema": 1.0},
    flags=("Another region.",),
    review=("Too far away.", "Contradicted."),
    warnings=("One.", "Two."),
    seconds=1.5,
    timings={"read": 1.0},
)
FAILED = result("b", error="b.nii.gz: broken. Do something.", exit_code=2)


def write(path, *results: Result) -> None:
    with RecordLog(path) as log:
        for each in results:
            log.add(each)


def test_results_come_back_as_they_were(tmp_path):
    write(tmp_path / RESULTS, FULL, FAILED)
    assert list(read_results(tmp_path / RESULTS).values()) == [FULL, FAILED]


def test_the_last_of_a_study_counts(tmp_path):
    write(tmp_path / RESULTS, FAILED, FULL, result("b", report="Well."))
    found = read_results(tmp_path / RESULTS)
    assert list(found) == ["b", "a"]
    assert found["b"].report == "Well."


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_line_costs_only_itself(tmp_path, cut):
    path = tmp_path / RESULTS
    write(path, FULL, FAILED)
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read_results(path)) == ["a"]
    write(path, result("c"))
    assert list(read_results(path)) == ["a", "c"]


def test_nothing_there_is_nothing_done(tmp_path):
    assert read_results(tmp_path / RESULTS) == {}


def test_the_table_has_a_row_per_study_and_a_column_per_label(tmp_path):
    write_tables([FULL, FAILED], tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "id": "a",
        "input": "a.nii.gz",
        "report": FULL.report,
        "Lung nodule": "0.250000",
        "Emphysema": "1.000000",
        "flags": "Another region.",
        "review": "Too far away. Contradicted.",
        "warnings": "One. Two.",
        "error": "",
        "seconds": "1.500",
    }
    assert (second["Emphysema"], second["error"]) == ("", FAILED.error)
    assert (tmp_path / "errors.csv").read_text().splitlines() == [
        "study,error",
        f"b,{FAILED.error}",
    ]


def test_no_cell_of_the_tables_is_a_formula(tmp_path):
    texts = ['=HYPERLINK("x")', "- No nodule.", "+", "@SUM(A1)", "\t=1", "\r=1", "'=1", "'- a"]
    results = [result(f"-{i}x", report=text, error=text) for i, text in enumerate(texts)]
    write_tables(results, tmp_path)
    for name in ("results.csv", "errors.csv"):
        with (tmp_path / name).open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r")]
    read = read_table(tmp_path / "results.csv")
    assert [cells["report"] for _, cells in read.rows] == [text.strip() for text in texts]
    assert [cells["id"] for _, cells in read.rows] == [each.id for each in results]


def test_errors_that_are_gone_have_no_file(tmp_path):
    write_tables([FAILED], tmp_path)
    write_tables([FULL], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_what_a_study_left_is_removed_and_nothing_else(tmp_path):
    for path in (*outputs(tmp_path, "a"), *outputs(tmp_path, "ab"), tmp_path / "a.txt"):
        path.write_text("x")
    remove_outputs(tmp_path, "a")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {path.name for path in outputs(tmp_path, "ab")} | {"a.txt"}

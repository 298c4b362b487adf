"""`uvlm label`: columns that are understood, ids and order, evidence, refusals."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import pytest

from tests.text.labelling.test_language_model import Server
from tests.text.labelling.test_radbert import folder as radbert_folder
from uvlm.cli.main import main
from uvlm.inference.batch.results import Result
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS
from uvlm.text.labelling.chest import CHEST
from uvlm.text.labelling.radbert import RadBert

__all__ = ["radbert_folder"]

EMPHYSEMA = "Emphysema is seen in both upper lobes. No pleural effusion."
EFFUSION = "There is a right pleural effusion. No emphysema."


def write(path: Path, header: list[str], *rows: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def label(source: Path, *more: str) -> list[dict[str, str]]:
    out = source.parent / "labels.csv"
    assert main(["label", str(source), "--out", str(out), *more]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(capsys, *argv: object) -> str:
    assert main(["label", *map(str, argv)]) == 2
    return capsys.readouterr().err


def findings(row: dict[str, str]) -> set[str]:
    return {name for name in (*CT_RATE_LABELS, *ABDOMEN_LABELS) if row.get(name) == "1"}


CT_RATE = [
    "VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN",
]  # fmt: skip
CATALOG = ["series_id", "case_id", "patient_id", "split", "blosc2_path", "report"]


@pytest.fixture
def reports(tmp_path) -> Path:
    rows = (["b_2", EFFUSION], ["a_1", EMPHYSEMA])
    return write(tmp_path / "reports.csv", ["AccessionNo", "report_text"], *rows)


def test_ids_order_and_columns_are_kept(reports, capsys):
    rows = label(reports)
    assert list(rows[0]) == ["AccessionNo", *CT_RATE_LABELS]
    assert [row["AccessionNo"] for row in rows] == ["b_2", "a_1"]
    assert [findings(row) for row in rows] == [{"Pleural effusion"}, {"Emphysema"}]
    assert {row["Hiatal hernia"] for row in rows} == {"0"}
    table = capsys.readouterr().out
    assert "rules@chest18: 2 reports" in table
    assert "Emphysema" in table


def test_ct_rates_report_table_is_read(tmp_path):
    source = write(
        tmp_path / "validation_reports.csv",
        CT_RATE,
        ["valid_1_a_1.nii.gz", "Emphysema.", "CT.", "The lungs are clear.", EFFUSION],
        ["valid_1_a_2.nii.gz", "", "", EMPHYSEMA, "Not given."],
    )
    rows = label(source)
    assert [row["VolumeName"] for row in rows] == ["valid_1_a_1.nii.gz", "valid_1_a_2.nii.gz"]
    assert [findings(row) for row in rows] == [{"Pleural effusion"}, {"Emphysema"}]


def test_a_catalog_is_read_without_its_images(tmp_path):
    row = ["s1", "c1", "p1", "train", "gone.b2nd", EMPHYSEMA]
    (found,) = label(write(tmp_path / "catalog.csv", CATALOG, row))
    assert found["series_id"] == "s1"
    assert findings(found) == {"Emphysema"}


def test_other_columns_can_be_named(tmp_path):
    source = write(tmp_path / "x.csv", ["No", "F", "I"], ["1", "Clear.", EMPHYSEMA])
    (row,) = label(source, "--id-column", "No", "--report-column", "F", "I")
    assert findings(row) == {"Emphysema"}


def test_json_lines_are_read(tmp_path):
    source = tmp_path / "r.jsonl"
    source.write_text(json.dumps({"study_id": "s", "report": EMPHYSEMA}) + "\n")
    (row,) = label(source)
    assert (row["study_id"], findings(row)) == ("s", {"Emphysema"})


def test_the_abdomen_has_its_own_classes(tmp_path):
    text = "Liver lesions: Liver lesion 1: Location: hepatic segment 2. Size: 3.1 x 1.6 cm."
    source = write(tmp_path / "a.csv", ["BDMAP ID", "structured report"], ["BDMAP_1", text])
    (row,) = label(source, "--region", "abdomen")
    assert list(row) == ["BDMAP ID", *ABDOMEN_LABELS]
    assert findings(row) == {"Liver lesion"}


def test_evidence_names_the_words_of_each_decision(reports, tmp_path):
    label(reports, "--evidence", str(tmp_path / "why.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "why.jsonl").read_text().splitlines()]
    assert [line["AccessionNo"] for line in lines] == ["b_2", "a_1"]
    assert {line["labeller"] for line in lines} == {CHEST.name}
    assert lines[1]["labels"]["Emphysema"] == 1
    (why,) = [item for item in lines[1]["evidence"] if item["label"] == "Emphysema"]
    assert why["status"] == "present"
    assert why["sentence"][why["start"] : why["end"]] == why["words"]
    (why,) = [item for item in lines[0]["evidence"] if item["status"] == "present"]
    assert (why["label"], why["sides"]) == ("Pleural effusion", ["right"])


def test_empty_and_foreign_reports_are_zero_and_counted(tmp_path, caplog):
    foreign = "Es zeigt sich kein Emphysem und kein Pleuraerguss in der Lunge beidseits."
    source = write(
        tmp_path / "r.csv",
        ["AccessionNo", "report_text"],
        ["1", ""],
        ["2", "Not given."],
        ["3", foreign],
    )
    assert [findings(row) for row in label(source)] == [set()] * 3
    assert "reports without text, whose labels are all 0: 2 of 3" in caplog.text
    assert "reports not in English, whose labels are all 0: 1 of 3" in caplog.text
    assert "Pleuraerguss" not in caplog.text


def test_labels_can_be_scored_against_themselves(reports):
    """The columns are those that evaluation looks for."""
    from uvlm.evaluation.tables import find_labels, label_rows, read_table

    label(reports)
    table = read_table(reports.parent / "labels.csv")
    names = find_labels(table, table, ())
    assert names == CT_RATE_LABELS
    assert label_rows(table, table.rows, names).sum() == 2


def test_what_exists_is_not_overwritten(reports, tmp_path, capsys):
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    assert "exists already" in refused(capsys, reports, "--out", kept)
    assert "exists already" in refused(capsys, reports, "--out", reports)
    new = tmp_path / "new.csv"
    assert "exists already" in refused(capsys, reports, "--out", new, "--evidence", kept)
    assert "named for two outputs" in refused(capsys, reports, "--out", new, "--evidence", new)
    assert kept.read_text() == "mine"
    assert not new.exists()


def test_a_folder_that_takes_no_file_leaves_nothing(reports, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "labels.csv"
    message = refused(capsys, reports, "--out", out, "--evidence", tmp_path / "file" / "why.jsonl")
    assert "cannot be written" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "reports.csv"]


def test_missing_folders_are_made(reports, tmp_path):
    out = tmp_path / "a" / "b" / "labels.csv"
    assert main(["label", str(reports), "--out", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["labels.csv"]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["AccessionNo", "report_text"], [["1", "a"], ["1", "b"]], "more than once: '1'"),
        (["AccessionNo", "report_text"], [["", "a"]], "row 2, column 'AccessionNo': empty"),
        (["AccessionNo", "report_text"], [], "a header and no row"),
        (["AccessionNo", "text_of_it"], [["1", "a"]], "no column of reports"),
        (["name", "report_text"], [["1", "a"]], "no column for the study's id"),
        (["AccessionNo", "report", "generated_report"], [["1", "a", "b"]], "--report-column"),
    ],
)
def test_tables_that_do_not_say_what_they_are_are_refused(tmp_path, capsys, header, rows, message):
    source = write(tmp_path / "r.csv", header, *rows)
    assert message in refused(capsys, source, "--out", tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()


def test_the_results_of_many_studies_are_read_as_they_are(tmp_path, capsys, caplog):
    """One that failed and was written when tried again, and a line that a crash cut off."""
    lines = [
        Result(id="a", input="a", signature="0", error="cut off", exit_code=2).line(),
        Result(id="b", input="b", signature="0", report="- " + EFFUSION).line(),
        Result(id="a", input="a", signature="1", report="- " + EMPHYSEMA).line(),
    ]
    source = tmp_path / "results.jsonl"
    source.write_text("".join(lines) + lines[0][:40])
    expected = [("a", {"Emphysema"}), ("b", {"Pleural effusion"})]
    assert [(row["id"], findings(row)) for row in label(source)] == expected
    assert "results.jsonl: row 4, the last, is cut off" in caplog.text
    source.write_text(lines[0] + lines[0][:40] + "\n" + lines[1])
    assert "row 2 is no JSON" in refused(capsys, source, "--out", tmp_path / "new.csv")


def test_radbert_labels_from_local_weights(reports, radbert_folder):
    rows = label(reports, "--labeller", "radbert", "--weights", str(radbert_folder))
    assert list(rows[0]) == ["AccessionNo", *CT_RATE_LABELS]
    expected = RadBert(radbert_folder, device="cpu").label([EFFUSION, EMPHYSEMA])
    for row, one in zip(rows, expected, strict=True):
        assert {name: int(row[name]) for name in CT_RATE_LABELS} == one.values


def test_a_language_model_labels_only_when_allowed_to_see_the_reports(reports, tmp_path, capsys):
    answer = {name: int(name == "Emphysema") for name in CT_RATE_LABELS}
    with Server() as server:
        server.answers = [json.dumps(answer)]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        llm = ["--labeller", "llm", "--address", server.address, "--model", "tiny"]
        llm += ["--cache", str(tmp_path / "cache")]
        out = tmp_path / "labels.csv"
        assert "--send-reports" in refused(capsys, reports, "--out", out, *llm)
        assert server.asked == []
        rows = label(reports, *llm, "--send-reports")
        server.shutdown()
        thread.join()
    assert [findings(row) for row in rows] == [{"Emphysema"}] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labeller", "radbert"], "needs its weights"),
        (["--labeller", "radbert", "--region", "abdomen"], "knows the chest only"),
        (["--labeller", "llm"], "needs --address URL and --model NAME"),
        (["--address", "http://x/v1"], "options of --labeller llm, not of rules"),
        (["--send-reports"], "options of --labeller llm, not of rules"),
        (
            [
                "--labeller",
                "llm",
                "--address",
                "http://x/v1",
                "--model",
                "m",
                "--key-variable",
                "NO",
            ],
            "variable NO is not set",
        ),
    ],
)
def test_a_labeller_says_what_it_needs(reports, tmp_path, capsys, options, message):
    assert message in refused(capsys, reports, "--out", tmp_path / "labels.csv", *options)


def test_a_report_that_a_language_model_fails_on_is_named(reports, tmp_path, capsys):
    llm = ["--labeller", "llm", "--address", "http://127.0.0.1:9/v1", "--model", "tiny"]
    llm += ["--cache", tmp_path / "cache", "--send-reports", "--workers", "1"]
    assert main(["label", *map(str, [reports, "--out", tmp_path / "l.csv", *llm])]) == 1
    assert "report 1 (id 'b_2')" in capsys.readouterr().err

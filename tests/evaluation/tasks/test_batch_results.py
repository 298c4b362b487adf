"""What a run over many studies leaves, of which some failed, is scored as it is."""

from dataclasses import replace

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.tables import read_table
from uvlm.evaluation.tasks.cls import ClassifierInputs, evaluate_classifier
from uvlm.evaluation.tasks.report import ReportInputs, evaluate_reports
from uvlm.inference.batch.results import RESULTS, TABLE, Result, write_tables
from uvlm.registry import CT_RATE_LABELS

TEXTS = [
    "Findings: There is a pleural effusion. Impression: Pleural effusion.",
    "Findings: Emphysema in both lungs. Impression: Emphysema.",
    "Findings: A 5 mm nodule in the left lower lobe. Impression: Lung nodule.",
    "Findings: Consolidation in the right lower lobe. Impression: Consolidation.",
]
LABELS = np.arange(4 * 18).reshape(4, 18) % 5 % 2


def result(i, error=None):
    if error:
        return Result(id=f"s{i}", input="a.nii.gz", signature="0", error=error, exit_code=2)
    values = {name: 0.25 + 0.5 * LABELS[i, c] for c, name in enumerate(CT_RATE_LABELS)}
    return Result(
        id=f"s{i}", input="a.nii.gz", signature="0", report=TEXTS[i], probabilities=values
    )


@pytest.fixture(params=[TABLE, RESULTS])
def files(request, tmp_path, write):
    """Study 1 failed twice; study 2 failed, and was written when tried again."""
    lines = [result(0), result(1, "cut off"), result(2, "cut off"), result(3)]
    lines += [result(1, "cut off, again"), result(2)]
    (tmp_path / RESULTS).write_text("".join(one.line() for one in lines), "utf-8")
    write_tables({one.id: one for one in lines}.values(), tmp_path)
    rows = [[f"s{i}", TEXTS[i], *LABELS[i]] for i in range(4)]
    truth = write("t.csv", ("series_id", "report", *CT_RATE_LABELS), rows)
    return {"references": truth, "predictions": tmp_path / request.param, "resamples": 9}


@pytest.mark.parametrize("place", ["brace", "letter"])
def test_a_last_line_that_a_crash_cut_off_is_passed_over(tmp_path, caplog, place):
    path = tmp_path / RESULTS
    whole = "".join(result(i).line() for i in range(3)).encode()
    last = replace(result(3), report="Lungentzündung ü").line().encode()
    torn = last[:-2] if place == "brace" else last[: last.index("ü".encode()) + 1]
    path.write_bytes(whole + torn)
    read = read_table(path)
    assert [cells["id"] for _, cells in read.rows] == ["s0", "s1", "s2"]
    assert f"{path}: row 4, the last, is cut off" in caplog.text
    path.write_bytes(whole + torn + b"\n" + last)
    with pytest.raises(InputError, match=r"row 4 is no JSON|not UTF-8"):
        read_table(path)


def test_a_last_line_without_a_line_break_is_read(tmp_path, caplog):
    path = tmp_path / RESULTS
    path.write_text((result(0).line() + result(1).line()).rstrip("\n"), "utf-8")
    assert len(read_table(path).rows) == 2
    assert caplog.text == ""


@pytest.mark.parametrize("text", ['{"id": "a"}\n{"id": "b', '{"id": "a", "inp'])
def test_other_json_lines_may_not_be_cut_off(tmp_path, text):
    path = tmp_path / "predictions.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match="is no JSON"):
        read_table(path)


def test_of_several_lines_about_one_study_the_last_counts(tmp_path):
    path = tmp_path / RESULTS
    lines = [result(0, "cut off"), result(1), result(0), result(2), result(2, "cut off")]
    path.write_text("".join(one.line() for one in lines), "utf-8")
    read = [(number, cells["id"], cells["error"]) for number, cells in read_table(path).rows]
    assert read == [(3, "s0", ""), (2, "s1", ""), (5, "s2", "cut off")]


def test_cells_that_only_look_defused_stay_in_tables_of_others(write):
    path = write("p.csv", ("id", "report"), [["a", "'- b"]])
    assert read_table(path).rows[0][1]["report"] == "'- b"


MISSING = [False, True, False, False]


def test_probabilities_of_a_failed_study_are_missing(files):
    found = evaluate_classifier(ClassifierInputs(**files, protocols=("brier",)))
    assert found.per_study["missing"] == MISSING
    assert found.about["missing_predictions"] == 1
    assert "1 study is without prediction." in found.notes[""]
    for c, name in enumerate(CT_RATE_LABELS):
        given = np.where(MISSING, np.nan, 0.25 + 0.5 * LABELS[:, c])
        np.testing.assert_array_equal(found.per_study[f"probability {name}"], given)


def test_the_report_of_a_failed_study_is_missing(files, scores):
    found = evaluate_reports(ReportInputs(**files, protocols=("rouge_l",)))
    assert found.per_study["missing"] == MISSING
    assert "1 study is without prediction." in found.notes[""]
    assert scores(found)["rouge_l", "ROUGE-L"] == pytest.approx(0.75)

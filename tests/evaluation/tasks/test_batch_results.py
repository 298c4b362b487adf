"""What a run over many studies leaves, of which some failed, is scored as it is."""

import numpy as np
import pytest

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

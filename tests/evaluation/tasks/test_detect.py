"""Presence of lesions in `detect`: from masks, reports and probabilities."""

import json

import numpy as np
import pytest

from tests.evaluation.tasks.livers import CLASSES, TRUTH, mask
from uvlm.errors import ConfigError, InputError
from uvlm.evaluation.tasks.detect import DetectionInputs, evaluate_detection

NAMES = ("Liver lesion", "Kidney lesion", "Pancreas lesion")

LABELS = [["a", 1, 0, 0], ["b", 0, 0, 1], ["c", 1, "", 0]]
HEADER = ("series_id", *NAMES)


def test_lesions_in_masks_are_found_against_labels(folder, classes, write, scores):
    result = evaluate_detection(
        DetectionInputs(
            references=write("t.csv", HEADER, LABELS),
            predictions=folder("said", TRUTH),
            classes=classes,
            resamples=20,
        )
    )
    found = scores(result)
    for protocol in ("detect@masks-uvlm", "detect@masks-radgpt"):
        assert found[protocol, "F1: Liver lesion"] == 1
        assert found[protocol, "F1: Pancreas lesion"] == 0
    assert result.about["predictions_from"] == "masks"
    assert result.scores[0].floors[0].name == "all present"


def test_masks_without_organs_leave_out_the_rule_that_needs_them(folder, write, tmp_path):
    lesions = {name: value for name, value in CLASSES.items() if "lesion" in name}
    (tmp_path / "l.json").write_text(json.dumps(lesions))
    only = {key: np.where(array == 2, 2, 0).astype(np.uint8) for key, array in TRUTH.items()}
    result = evaluate_detection(
        DetectionInputs(
            references=write("t.csv", HEADER, LABELS),
            predictions=folder("said", only),
            classes=tmp_path / "l.json",
            resamples=0,
        )
    )
    assert {score.protocol for score in result.scores} == {"detect@masks-uvlm"}
    assert "no class of the organ" in result.skipped["detect@masks-radgpt"]


def test_lesions_in_reports_are_found_against_reports(write, scores):
    rows = [
        ["a", "There is a 2 cm hypodense lesion in the liver. Kidneys are normal."],
        ["b", "Liver, kidneys and pancreas are normal."],
    ]
    reports = write("r.csv", ("id", "report"), rows)
    result = evaluate_detection(
        DetectionInputs(references=reports, predictions=reports, resamples=20)
    )
    assert {score.protocol for score in result.scores} == {"detect@reports"}
    assert scores(result)["detect@reports", "F1: Liver lesion"] == 1


def test_a_missing_prediction_is_the_opposite_of_its_truth(write, scores):
    given = [["a", 0.9, 0.1, 0.1], ["b", 0.1, 0.1, 0.9]]
    result = evaluate_detection(
        DetectionInputs(
            references=write("t.csv", HEADER, LABELS),
            predictions=write("p.csv", HEADER, given),
            resamples=0,
        )
    )
    found = scores(result)
    assert found["detect@probabilities", "recall: Liver lesion"] == 0.5
    assert found["detect@probabilities", "precision: Pancreas lesion"] == 0.5


def test_what_predictions_cannot_give_is_said_when_asked_for(write):
    table = write("t.csv", HEADER, LABELS[:2])
    asked = ("detect@probabilities", "detect@reports")
    result = evaluate_detection(
        DetectionInputs(references=table, predictions=table, protocols=asked, resamples=0)
    )
    assert result.skipped == {"detect@reports": "predictions are probabilities"}


def test_a_table_of_something_else_is_refused(write):
    table = write("t.csv", ("id", "colour"), [["a", "red"]])
    with pytest.raises(InputError, match="neither masks nor labels"):
        evaluate_detection(DetectionInputs(references=table, predictions=table))


def detected(write, said, header=HEADER, labels=LABELS, **options):
    return evaluate_detection(
        DetectionInputs(
            references=write("t.csv", HEADER, labels),
            predictions=said if header is None else write("p.csv", header, said),
            resamples=0,
            **options,
        )
    )


def test_an_empty_report_counts_as_a_missing_one_and_is_said(write, scores):
    texts = [["a", "There is a 2 cm hypodense lesion in the liver."], ["b", "Not given."]]
    header = ("id", "generated_report")
    found, missing = (detected(write, rows, header) for rows in ([*texts, ["c", " . "]], texts[:1]))
    assert scores(found) == pytest.approx(scores(missing), nan_ok=True)
    assert scores(found)["detect@reports", "recall: Liver lesion"] == 0.5
    notes = " ".join(found.notes["detect@reports"])
    assert "2 predicted reports are empty; each counts as the opposite of its truth." in notes


def test_reports_that_are_not_english_are_counted(write):
    german = "Die Leber ist nicht vergrössert, mit einer Raumforderung und ohne Zysten der Nieren."
    terse = "Leber: Raumforderung 3 cm. Niere: Zyste."
    rows = [["a", german], ["b", "Liver, kidneys and pancreas are normal."], ["c", terse]]
    result = detected(write, rows, ("id", "report"))
    notes = " ".join(result.notes["detect@reports"])
    assert "2 predicted reports are not in English, or without a word for liver" in notes
    reports = write("r.csv", ("id", "report"), rows)
    result = evaluate_detection(
        DetectionInputs(references=reports, predictions=reports, resamples=0)
    )
    assert "2 reference reports are not in English" in " ".join(result.notes[""])


def test_predictions_may_be_numbered_otherwise_than_the_references(folder, classes, tmp_path):
    other = {**CLASSES, "liver": 2, "liver_lesion": 1}
    (tmp_path / "o.json").write_text(json.dumps(other))
    swapped = {k: np.array([0, 2, 1], np.uint8)[array] for k, array in TRUTH.items()}
    result = evaluate_detection(
        DetectionInputs(
            references=folder("truth", TRUTH),
            predictions=folder("said", swapped),
            classes=classes,
            predicted_classes=tmp_path / "o.json",
            resamples=0,
        )
    )
    assert result.per_study["true Liver lesion"] == [1, 0, 1]
    assert result.per_study["detect@masks-uvlm Liver lesion"] == [1, 0, 1]


def test_values_without_a_class_and_masks_without_classes_are_refused(folder, write, tmp_path):
    said = folder("said", {"a": np.full((4, 4, 4), 9, np.uint8)})
    (tmp_path / "c.json").write_text(json.dumps(CLASSES))
    with pytest.raises(InputError, match=r"no class has: 9\. .*--others background"):
        detected(write, said, None, classes=tmp_path / "c.json")
    with pytest.raises(InputError, match=r"does not say what its values mean.*--classes"):
        detected(write, said, None)


def test_what_decides_about_scores_is_kept(folder, classes, write):
    about = detected(write, folder("said", TRUTH), None, classes=classes).about
    assert about["classes"].startswith("classes.json (")
    assert about["predictions"].startswith("said (folder of 3, ")
    assert (about["minimum_mm3"], about["others"]) == ("30", "refuse")
    rows = [["a", 0.9, 0.1, 0.1]]
    about = detected(write, rows, threshold=(("liver", 0.2),), logits=True).about
    assert about["threshold"] == "Liver lesion 0.2, Kidney lesion 0.5, Pancreas lesion 0.5"
    assert about["logits"] is True


def test_every_organ_may_have_a_limit_of_its_own(folder, classes, write, scores):
    said = folder("said", TRUTH)
    volume = 4**3
    for minimum, recall in ((volume - 1, 1), (volume, 0)):
        result = detected(
            write, said, None, classes=classes, minimum=(("", 500.0), ("liver", minimum))
        )
        assert scores(result)["detect@masks-radgpt", "recall: Liver lesion"] == recall
    rows = [["a", 0.3, 0.3, 0.3], ["b", 0, 0, 0], ["c", 0.3, 0, 0]]
    result = detected(write, rows, threshold=(("Liver", 0.3),))
    assert result.per_study["detect@probabilities Liver lesion"] == [1, 0, 1]
    assert result.per_study["detect@probabilities Kidney lesion"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum": (("", -1.0),)}, "--minimum must be a number from 0, got -1"),
        ({"minimum": (("", float("nan")),)}, "--minimum must be a number from 0, got nan"),
        ({"minimum": (("", float("inf")),)}, "--minimum must be a number from 0, got inf"),
        ({"minimum": (("spleen", 1.0),)}, "no organ 'spleen'.*liver, kidney, pancreas"),
        ({"minimum": (("", 1.0), ("", 2.0))}, "two numbers for all organs"),
        ({"threshold": (("liver", 1.5),)}, "--threshold must be from 0 to 1, got 1.5"),
    ],
)
def test_wrong_limits_are_refused_before_anything_is_read(tmp_path, options, message):
    gone = tmp_path / "gone.csv"
    with pytest.raises(ConfigError, match=message):
        DetectionInputs(references=gone, predictions=gone, **options)


@pytest.mark.parametrize("option", ["minimum", "threshold"])
def test_a_limit_is_given_or_chosen_not_both(tmp_path, option):
    gone = tmp_path / "gone.csv"
    with pytest.raises(InputError, match=f"--{option} is given, and validation studies"):
        DetectionInputs(
            references=gone,
            predictions=gone,
            validation_references=gone,
            validation_predictions=gone,
            **{option: (("", 0.5),)},
        )


def test_where_validation_cannot_choose_the_usual_minimum_holds(folder, classes, write):
    validation = {
        "validation_references": write("v.csv", HEADER, [["x", 1, 0, 0], ["y", 0, 0, 0]]),
        "validation_predictions": folder("valid", {"x": mask(), "y": mask(lesion=False)}),
    }
    result = detected(write, folder("said", TRUTH), None, classes=classes, **validation)
    notes = " ".join(result.notes["detect@masks-radgpt"])
    assert "30 for Kidney lesion, Pancreas lesion: choosing needs both positive" in notes
    assert "on validation studies: Liver lesion 0." in notes
    assert result.about["minimum_mm3"] == "chosen on validation studies"

"""Masks in folders or tables: overlap in `seg`, presence of lesions in `detect`."""

import json

import nibabel
import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.tasks.detect import DetectionInputs, evaluate_detection
from uvlm.evaluation.tasks.seg import MaskInputs, evaluate_masks

CLASSES = {
    "liver": 1,
    "liver_lesion": 2,
    "kidney": 3,
    "kidney_lesion": 4,
    "pancreas": 5,
    "pancreatic_lesion": 6,
}
NAMES = ("Liver lesion", "Kidney lesion", "Pancreas lesion")


def mask(lesion=True, shift=0):
    """A liver with or without a lesion inside it."""
    array = np.zeros((20, 20, 20), np.uint8)
    array[2 + shift : 14 + shift, 3:15, 3:15] = 1
    if lesion:
        array[5:11, 6:12, 6:12] = 2
    return array


@pytest.fixture
def folder(tmp_path):
    def save(name, masks):
        (tmp_path / name).mkdir()
        for key, array in masks.items():
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name / f"{key}.nii.gz")
        return tmp_path / name

    return save


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(CLASSES))
    return path


TRUTH = {"a": mask(), "b": mask(lesion=False), "c": mask()}


def segmented(folder, classes, predicted, **options):
    return evaluate_masks(
        MaskInputs(
            references=folder("truth", TRUTH),
            predictions=folder("said", predicted),
            classes=classes,
            resamples=20,
            **options,
        )
    )


def test_equal_masks_score_one_and_no_distance(folder, classes, scores):
    found = scores(segmented(folder, classes, TRUTH))
    assert found["dice@study", "Dice"] == 1
    assert found["hd95@diagonal", "HD95"] == 0
    assert ("hd95@both-present", "HD95") not in found


def test_a_missing_mask_counts_as_empty_and_is_said(folder, classes, scores):
    result = segmented(folder, classes, {"a": TRUTH["a"], "b": TRUTH["b"]})
    assert scores(result)["dice@study", "Dice: liver"] == pytest.approx(2 / 3)
    assert "1 study is without prediction." in result.notes[""]
    assert result.per_study["missing"] == [False, False, True]


def test_the_tolerance_is_in_the_name_of_what_is_asked_for(folder, classes, scores):
    shifted = {key: np.roll(array, 1, axis=0) for key, array in TRUTH.items()}
    result = segmented(folder, classes, shifted, tolerance=1.0, protocols=("surface_dice@2mm",))
    assert {score.protocol for score in result.scores} == {"surface_dice@1mm"}
    assert result.skipped == {}


def test_tables_of_paths_are_relative_to_themselves(folder, classes, write, scores):
    truth, said = folder("truth", TRUTH), folder("said", {"x": TRUTH["a"]})
    result = evaluate_masks(
        MaskInputs(
            references=truth,
            predictions=write("p.csv", ("id", "mask"), [["a", "said/x.nii.gz"]]),
            classes=classes,
            protocols=("dice@study",),
            resamples=0,
        )
    )
    assert said.is_dir()
    assert scores(result)["dice@study", "Dice: liver"] == pytest.approx(1 / 3)


def test_masks_of_another_shape_are_refused_by_name(folder, classes):
    small = {**TRUTH, "c": np.zeros((5, 5, 5), np.uint8)}
    with pytest.raises(InputError, match=r"c\.nii\.gz"):
        segmented(folder, classes, small)


def test_an_empty_folder_and_a_file_that_is_not_there_are_named(folder, classes, write, tmp_path):
    with pytest.raises(InputError, match="no mask in it"):
        segmented(folder, classes, {})
    table = write("p.csv", ("id", "mask"), [["a", "gone.nii.gz"]])
    with pytest.raises(InputError, match=r"row 2, column 'mask': there is no file"):
        evaluate_masks(MaskInputs(references=tmp_path / "truth", predictions=table))


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

"""F1, precision, recall and specificity of detections, per organ and in the mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from uvlm.errors import InputError
from uvlm.evaluation.masks.detection_measures import PROTOCOLS, detection_measures
from uvlm.registry import ABDOMEN_LABELS

NAN = math.nan


def scores(truth, predicted, names=ABDOMEN_LABELS, weights=None):
    (measure,) = detection_measures(truth, predicted, names)
    if weights is None:
        return dict(zip(measure.names, measure.values(len(truth)), strict=True))
    return dict(zip(measure.names, measure.score(np.array([weights], float))[0], strict=True))


def drawn(seed=0, studies=60):
    rng = np.random.default_rng(seed)
    return (rng.random((2, studies, 3)) < [0.5, 0.3, 0.2]).astype(float)


def test_they_are_those_of_scikit_learn():
    truth, predicted = drawn()
    found = scores(truth, predicted)
    kinds = {"F1": f1_score, "precision": precision_score, "recall": recall_score}
    for kind, metric in kinds.items():
        values = [metric(truth[:, i], predicted[:, i]) for i in range(3)]
        assert [found[f"{kind}: {name}"] for name in ABDOMEN_LABELS] == pytest.approx(values)
        assert found[kind] == pytest.approx(np.mean(values))
    flipped = [recall_score(1 - truth[:, i], 1 - predicted[:, i]) for i in range(3)]
    assert found["specificity"] == pytest.approx(np.mean(flipped))


def test_a_perfect_prediction_has_ones():
    truth, _ = drawn()
    assert set(scores(truth, truth).values()) == {1.0}


def test_answers_that_are_always_the_same_stand_at_the_floor():
    truth, _ = drawn()
    assert scores(truth, np.zeros_like(truth))["F1"] == 0.0
    always = scores(truth, np.ones_like(truth))
    assert (always["recall"], always["specificity"]) == (1.0, 0.0)


def test_an_organ_without_positive_studies_has_no_recall_and_false_alarms_cost():
    truth = [[1, 0, 0], [0, 0, 0]]
    found = scores(truth, [[1, 0, 1], [0, 0, 0]])
    liver, kidney, pancreas = ABDOMEN_LABELS
    assert found[f"F1: {liver}"] == 1.0
    assert math.isnan(found[f"F1: {kidney}"])
    assert found[f"F1: {pancreas}"] == 0.0
    assert math.isnan(found[f"recall: {pancreas}"])
    assert found["F1"] == 0.5
    (measure,) = detection_measures(truth, truth, ABDOMEN_LABELS)
    assert measure.notes == (
        "2 studies: 1 with Liver lesion, 0 with Kidney lesion, 0 with Pancreas lesion.",
        "Without positive or without negative studies: Kidney lesion, Pancreas lesion.",
    )


def test_unknown_labels_are_left_out_and_counted():
    truth = np.array([[1, 1, NAN], [0, 0, 1], [1, NAN, 0]])
    said = np.array([[1, 1, 1], [0, 0, 1], [0, 1, 0]])
    found = scores(truth, said)
    assert found["precision: Kidney lesion"] == 1.0
    assert found["precision: Pancreas lesion"] == 1.0
    (measure,) = detection_measures(truth, said, ABDOMEN_LABELS, notes=("mine",))
    assert measure.notes[0] == "mine"
    assert measure.notes[-1] == "2 unknown labels are left out."


def test_a_resample_is_scored_as_if_it_were_the_data():
    truth, predicted = drawn(1, 8)
    weights = np.random.default_rng(2).integers(0, 3, 8)
    index = np.repeat(np.arange(8), weights)
    drawn_scores = scores(truth, predicted, weights=weights)
    expected = scores(truth[index], predicted[index])
    assert drawn_scores == pytest.approx(expected, nan_ok=True)


def test_one_study_is_enough():
    assert scores([[1, 0, 1]], [[1, 0, 1]])["F1"] == 1.0


def test_protocols_are_of_this_task_and_named_by_their_source():
    assert {info.task for info in PROTOCOLS} == {"detect"}
    (measure,) = detection_measures([[1]], [[1]], ["liver"], "detect@reports")
    assert measure.protocol == "detect@reports"
    assert measure.protocol in {info.name for info in PROTOCOLS}


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([[1, 0, 1]], [[1, 0]], "predicted labels of shape"),
        ([[1, 0, 1]], [[1, 0, 1], [0, 0, 0]], "labels of 1 studies and predictions of 2"),
        ([[1, 0, 1]], [[0.7, 0, 1]], "Threshold probabilities first"),
        ([[1, 0, 1]], [[NAN, 0, 1]], "has the value nan"),
        ([[NAN] * 3], [[1, 0, 1]], "none is known"),
        ([["yes", 0, 1]], [[1, 0, 1]], "holds text"),
        (np.empty((0, 3)), np.empty((0, 3)), "at least one study"),
    ],
)
def test_what_is_no_label_is_refused(truth, predicted, message):
    with pytest.raises(InputError, match=message):
        detection_measures(truth, predicted, ABDOMEN_LABELS)

"""Thresholds come from validation studies; the legacy ones are those of CT-CLIP's own loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from uvlm.errors import InputError
from uvlm.evaluation.labels.thresholds import check_apart, choose_thresholds, corner_thresholds

NAN = float("nan")


@pytest.mark.parametrize("seed", range(8))
def test_no_other_threshold_has_a_higher_f1(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (30, 1)).astype(float)
    values = np.clip(truth * 0.2 + rng.random((30, 1)), 0, 1).round(1)
    (chosen,) = choose_thresholds(truth, values, ["a"])
    every = {t: f1_score(truth[:, 0], values[:, 0] >= t) for t in np.unique(values)}
    best = [t for t, f1 in every.items() if f1 == max(every.values())]
    assert chosen == best[-1]


def test_a_class_without_positive_validation_studies_has_none():
    truth = np.array([[0, 1, NAN], [0, 0, NAN]])
    chosen = choose_thresholds(truth, np.array([[0.2, 0.7, 0.1], [0.1, 0.3, 0.2]]), "abc")
    assert np.isnan(chosen[[0, 2]]).all()
    assert chosen[1] == 0.7


def test_unknown_validation_labels_are_left_out():
    truth = np.array([[1.0], [0.0], [NAN]])
    assert choose_thresholds(truth, np.array([[0.6], [0.2], [0.9]]), ["a"])[0] == 0.6


def ctclip_threshold(values, labels):
    """`find_threshold` of bootstrap_values.py."""
    best, found = 10000, 0
    for threshold in np.linspace(0, 1, 100):
        (tn, fp), (fn, tp) = confusion_matrix(labels, values > threshold, labels=[0, 1])
        distance = math.sqrt((1 - tp / (tp + fn)) ** 2 + (fp / (fp + tn)) ** 2)
        if distance <= best:
            best, found = distance, threshold
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_legacy_threshold_is_that_of_the_authors_loop(seed):
    rng = np.random.default_rng(seed)
    labels = np.array([0, 1, *rng.integers(0, 2, 23)])
    values = rng.random(25).round(seed % 3 + 1)
    found = corner_thresholds(labels[:, None].astype(float), values[:, None])
    assert found == [ctclip_threshold(values, labels)]


def test_a_class_of_one_kind_has_no_legacy_threshold():
    assert np.isnan(corner_thresholds(np.array([[1.0], [NAN]]), np.array([[0.4], [0.2]])))


def test_validation_studies_that_are_scored_are_refused():
    check_apart(["a", "b"], ["c"])
    with pytest.raises(InputError, match=r"1 of the validation studies are also scored \(b\)"):
        check_apart(["a", "b"], ["b", "c"])
    with pytest.raises(InputError, match="of the validation patients are also scored"):
        check_apart(["b"], ["b"], "patients")

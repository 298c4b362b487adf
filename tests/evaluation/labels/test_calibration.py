"""Calibration: the definition as a slow loop, floors, and a temperature that is found again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.labels.arrays import probabilities_from_logits
from uvlm.evaluation.labels.calibration import (
    BINS,
    CalibrationError,
    fit_temperature,
    reliability,
)

NAN = float("nan")


def slow_ece(truth, values, weights):
    """Guo et al. 2017, Eq. 5: bins (lower, upper], weighted."""
    total = 0.0
    edges = np.linspace(0, 1, BINS + 1)
    for lower, upper in pairwise(edges):
        inside = (values > lower) & (values <= upper) | ((lower == 0) & (values == 0))
        mass = weights[inside].sum()
        if mass:
            accuracy = (weights * truth)[inside].sum() / mass
            confidence = (weights * values)[inside].sum() / mass
            total += mass * abs(accuracy - confidence)
    return total / weights.sum()


def case(studies=200, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.random((studies, classes)).round(2)
    return (rng.random((studies, classes)) < values).astype(float), values


def test_the_error_is_that_of_the_definition_for_any_weights():
    truth, values = case()
    values[:3] = [[0.0, 1.0, 1 / 15], [0.2, 0.4, 0.6], [1.0, 0.0, 0.5]]
    weights = np.random.default_rng(1).integers(0, 4, (5, 200)).astype(float)
    found = CalibrationError(truth, values)(weights)
    for row, weight in zip(found, weights, strict=True):
        each = [slow_ece(truth[:, c], values[:, c], weight) for c in range(3)]
        assert row[2:] == pytest.approx(each)
        assert row[0] == pytest.approx(np.mean(each))
        assert row[1] == pytest.approx(slow_ece(truth.ravel(), values.ravel(), weight.repeat(3)))


def test_certain_and_right_is_zero_and_certain_and_wrong_is_one():
    truth = np.array([[0.0], [1.0]])
    assert CalibrationError(truth, truth)(np.ones((1, 2)))[0, 0] == 0
    assert CalibrationError(truth, 1 - truth)(np.ones((1, 2)))[0, 0] == 1


def test_unknown_labels_and_classes_are_left_out():
    truth, values = np.array([[1, NAN], [NAN, NAN]]), np.array([[0.9, 0.1], [0.2, 0.3]])
    mean, together, first, second = CalibrationError(truth, values)(np.ones((1, 2)))[0]
    assert mean == together == first == pytest.approx(0.1)
    assert np.isnan(second)


def test_the_reliability_curve_gives_the_same_error():
    truth, values = case()
    truth[5, 1] = NAN
    curve = reliability(truth, values, "abc")
    assert curve.counts.sum(axis=1).tolist() == [200, 199, 200]
    gaps = np.nansum(np.abs(curve.predicted - curve.observed) * curve.counts, axis=1)
    error = CalibrationError(truth, values)(np.ones((1, 200)))[0]
    assert gaps / curve.counts.sum(axis=1) == pytest.approx(error[2:])
    all_ = curve.together()
    assert all_.counts.sum() == 599
    gap = np.nansum(np.abs(all_.predicted - all_.observed) * all_.counts) / 599
    assert gap == pytest.approx(error[1])


def test_an_empty_bin_is_nan_in_the_curve():
    curve = reliability(np.array([[1.0]]), np.array([[0.5]]), ["a"])
    assert np.isnan(curve.observed).sum() == BINS - 1
    assert curve.observed[0, 7] == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_a_model_too_sure_is_found(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 4))
    truth = (rng.random(logits.shape) < probabilities_from_logits(logits)).astype(float)
    found = fit_temperature(truth, probabilities_from_logits(logits * temperature), "abcd")
    assert found.value == pytest.approx(temperature, rel=0.06)
    assert found.likelihood_after <= found.likelihood_before
    if temperature != 1:
        assert found.ece_after < found.ece_before / 2
    assert not found.at_limit


def test_temperature_keeps_the_order_and_one_half():
    truth, values = case()
    found = fit_temperature(truth, values**2, "abc")
    scaled = found.apply(np.array([[0.0, 0.1, 0.5], [0.5, 0.9, 1.0]]))
    assert scaled[0, 2] == scaled[1, 0] == 0.5
    assert (np.diff(scaled, axis=1) > 0).all()


def test_labels_that_are_always_right_push_the_temperature_to_its_limit():
    truth, _ = case()
    found = fit_temperature(truth, np.where(truth == 1, 0.9, 0.1), "abc")
    assert found.at_limit
    assert found.value < 0.02


def test_without_a_known_label_there_is_no_temperature():
    with pytest.raises(InputError, match="none is known"):
        fit_temperature(np.array([[NAN]]), np.array([[0.5]]), ["a"])

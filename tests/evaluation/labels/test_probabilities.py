"""Protocols of a classifier: scikit-learn as oracle, resamples as repeated rows, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_score,
    roc_auc_score,
)

from uvlm.errors import InputError
from uvlm.evaluation.labels.arrays import probabilities_from_logits
from uvlm.evaluation.labels.calibration import fit_temperature
from uvlm.evaluation.labels.probabilities import PROTOCOLS, probability_measures
from uvlm.evaluation.labels.thresholds import choose_thresholds, corner_thresholds

NAN = float("nan")
NAMES = ("a", "b", "c", "d")
PLAIN = ("auroc", "average_precision", "f1@0.5", "f1@ctclip-legacy", "ece@15", "brier")


def case(seed=0, studies=80):
    rng = np.random.default_rng(seed)
    truth = (rng.random((studies, 4)) < [0.1, 0.3, 0.5, 0.7]).astype(float)
    truth[:2] = [[0] * 4, [1] * 4]
    values = np.clip(0.3 * truth + 0.7 * rng.random(truth.shape), 0, 1).round(2)
    return truth, values


def scores(protocol, truth, values, weights=None, **more) -> dict[str, float]:
    names = NAMES[: truth.shape[1]]
    (measure,) = probability_measures(truth, values, names, [protocol], **more)
    weights = np.ones(len(truth)) if weights is None else np.asarray(weights, float)
    return dict(zip(measure.names, measure.score(weights[None])[0], strict=True))


def per_class(function, truth, values):
    return [function(t, v) for t, v in zip(truth.T, values.T, strict=True)]


@pytest.mark.parametrize(
    ("protocol", "name", "function"),
    [
        ("auroc", "AUROC", roc_auc_score),
        ("average_precision", "average precision", average_precision_score),
        ("f1@0.5", "F1", lambda t, v: f1_score(t, v >= 0.5, zero_division=0)),
        ("brier", "Brier score", brier_score_loss),
    ],
)
def test_each_class_and_the_mean_are_scikit_learns(protocol, name, function):
    truth, values = case()
    expected = per_class(function, truth, values)
    found = scores(protocol, truth, values)
    assert [found[f"{name}: {c}"] for c in NAMES] == pytest.approx(expected)
    assert found[name] == pytest.approx(np.mean(expected))


def test_thresholds_of_validation_studies_are_applied_to_others():
    thresholds = choose_thresholds(*case(1), NAMES)
    truth, values = case(2)
    expected = per_class(f1_score, truth, (values >= thresholds).astype(int))
    assert scores("f1@validation", truth, values, thresholds=thresholds)["F1"] == pytest.approx(
        np.mean(expected)
    )


def test_a_class_without_a_threshold_is_cut_at_one_half_and_named():
    truth, values = case()
    thresholds = np.array([NAN, 0.3, 0.3, 0.3])
    found = scores("f1@validation", truth, values, thresholds=thresholds)
    assert found["F1: a"] == scores("f1@0.5", truth, values)["F1: a"]
    (measure,) = probability_measures(truth, values, NAMES, ["f1@validation"], thresholds)
    assert measure.notes[-1] == "No positive validation study, threshold 0.5: a."
    assert "b 0.300" in measure.notes[0]


def test_the_legacy_protocol_is_ctclips():
    truth, values = case()
    predicted = (values > corner_thresholds(truth, values)).astype(int)
    found = scores("f1@ctclip-legacy", truth, values)
    f1 = per_class(lambda t, p: f1_score(t, p, average="weighted"), truth, predicted)
    assert found["weighted F1"] == pytest.approx(np.mean(f1))
    assert found["accuracy"] == pytest.approx(np.mean(per_class(accuracy_score, truth, predicted)))
    assert found["precision"] == pytest.approx(
        np.mean(per_class(precision_score, truth, predicted))
    )


def test_the_legacy_protocol_runs_only_when_named_and_says_what_is_wrong():
    truth, values = case()
    computed = [m.protocol for m in probability_measures(truth, values, NAMES)]
    assert computed == [name for name in PLAIN if name != "f1@ctclip-legacy"]
    (legacy,) = probability_measures(truth, values, NAMES, ["f1@ctclip-legacy"])
    assert "Too high" in legacy.notes[-1]
    (about,) = [info.about for info in PROTOCOLS if info.name == "f1@ctclip-legacy"]
    assert "too high" in about


def test_the_temperature_shows_the_error_before_and_after():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (600, 4))
    truth = (rng.random(logits.shape) < probabilities_from_logits(logits)).astype(float)
    sure = probabilities_from_logits(logits * 3)
    temperature = fit_temperature(truth[:300], sure[:300], NAMES)
    found = scores("ece@temperature", truth[300:], sure[300:], temperature=temperature)
    assert found["ECE before"] == scores("ece@15", truth[300:], sure[300:])["ECE"]
    assert found["ECE"] < found["ECE before"]
    (measure,) = probability_measures(
        truth, sure, NAMES, ["ece@temperature"], temperature=temperature
    )
    assert f"Temperature {temperature.value:.3f}, fitted on 300" in measure.notes[-1]


@pytest.mark.parametrize("protocol", [*PLAIN, "f1@validation"])
def test_weights_are_repeated_studies(protocol):
    truth, values = case(3)
    times = np.random.default_rng(4).integers(0, 3, len(truth))
    again = np.repeat(np.arange(len(truth)), times)
    more = {"thresholds": np.full(4, 0.4)} if protocol == "f1@validation" else {}
    if protocol == "f1@ctclip-legacy":  # its thresholds are those of the data themselves
        times, again = np.full(len(truth), 2), np.repeat(np.arange(len(truth)), 2)
    weighted = scores(protocol, truth, values, times, **more)
    assert weighted == pytest.approx(scores(protocol, truth[again], values[again], **more))


@pytest.mark.parametrize("protocol", PLAIN)
def test_the_order_of_studies_does_not_matter(protocol):
    truth, values = case(5)
    turned = scores(protocol, truth[::-1], values[::-1])
    assert turned == pytest.approx(scores(protocol, truth, values))


def test_perfect_probabilities_have_perfect_scores():
    truth, _ = case()
    for measure in probability_measures(truth, truth, NAMES, PLAIN):
        best = 1.0 if measure.higher_is_better else 0.0
        assert set(measure.values(len(truth))) == {best}, measure.protocol


def test_labels_given_as_probabilities_are_mentioned():
    truth, values = case()
    (auroc,) = probability_measures(truth, values.round(), NAMES, ["auroc"])
    assert "labels have no order" in auroc.notes[-1]


@pytest.mark.parametrize("protocol", ["auroc", "average_precision", "f1@0.5", "f1@ctclip-legacy"])
@pytest.mark.parametrize("column", [[0, 0, NAN, 0], [1, 1, 1, 1], [NAN] * 4])
def test_a_class_of_one_kind_is_named_and_not_averaged(protocol, column):
    truth = np.array([column, [0, 1, 1, 0]], float).T
    values = np.array([[0.5, 0.4, 0.3, 0.2], [0.1, 0.8, 0.9, 0.2]]).T
    (measure,) = probability_measures(truth, values, "ab", [protocol])
    found = dict(zip(measure.names, measure.values(4), strict=True))
    first, each = measure.names[0], [n for n in measure.names if n.endswith(": a")]
    assert found[first] == 1.0
    assert [np.isnan(found[name]) for name in each] == [True]
    assert any("positive or negative studies only: a." in note for note in measure.notes)


@pytest.mark.parametrize("protocol", PLAIN)
def test_a_single_study_has_calibration_but_no_rank(protocol):
    (measure,) = probability_measures(np.array([[1.0]]), np.array([[0.8]]), ["a"], [protocol])
    value = measure.values(1)[0]
    expected = {"ece@15": 0.2, "brier": 0.04}.get(protocol, NAN)
    assert value == pytest.approx(expected, nan_ok=True)


def test_a_resample_without_a_kind_leaves_the_class_out():
    truth, values = np.array([[1, 1], [0, 0], [0, 1.0]]), np.array([[0.9, 0.8], [0.1, 0.1], [0, 1]])
    found = scores("auroc", truth, values, [0, 1, 1])
    assert np.isnan(found["AUROC: a"])
    assert found["AUROC"] == found["AUROC: b"] == 1.0


def test_a_thousand_resamples_of_the_validation_set_are_quick_and_small():
    """3,039 studies and 18 classes of CT-RATE: about half a second, and 4 MB at a time."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (3039, 18)).astype(float)
    names = [str(i) for i in range(18)]
    (auroc,) = probability_measures(truth, rng.random(truth.shape), names, ["auroc"])
    weights = rng.multinomial(3039, np.full(3039, 1 / 3039), size=200).astype(float)
    drawn = auroc.score(weights)
    assert drawn.shape == (200, 19)
    assert drawn[:, 0] == pytest.approx(0.5, abs=0.02)


ONE = np.array([[0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[-3.2, 0.1], [5.1, 0.2]], r"class 'a' holds values from -3.2 to 5.1.*give --logits"),
        ([[0.2, 99], [0.1, 0.2]], r"class 'b' holds values from 0.2 to 99.*by 100"),
        ([[0.2, NAN], [0.1, 0.2]], "class 'b' is empty in 1 studies"),
        ([["high", 0.1], ["low", 0.2]], "class 'a' holds text"),
        ([[0.2, 0.1]], "of 1 studies, but labels of 2"),
        ([0.2, 0.1], r"shape \(2,\)"),
    ],
)
def test_what_is_no_probability_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        probability_measures(ONE, np.array(values, object), ["a", "b"])


@pytest.mark.parametrize("protocol", ["f1@validation", "ece@temperature"])
def test_what_needs_validation_studies_is_refused_without(protocol):
    with pytest.raises(InputError, match=f"{protocol} needs validation studies"):
        probability_measures(ONE, ONE, "ab", [protocol])


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 1.5]])
def test_thresholds_must_be_one_per_class(thresholds):
    with pytest.raises(InputError, match="one from 0 to 1 for each of 2"):
        probability_measures(ONE, ONE, "ab", None, thresholds)


def test_logits_become_probabilities_without_overflow():
    found = probabilities_from_logits([-1000.0, 0.0, 1000.0, 2.0])
    assert found == pytest.approx([0, 0.5, 1, 1 / (1 + np.exp(-2))])

"""The paired bootstrap is paired, by patient, fast, and covers the truth as often as it says."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.intervals import (
    CHUNK,
    draws_of,
    limits,
    paired_bootstrap,
    paired_difference,
    patient_weights,
    resample_key,
)
from uvlm.evaluation.measure import mean_measure
from uvlm.evaluation.words.bleu import bleu_mean


def mean(counts):
    """Counts are (sum, number)."""
    return counts[..., 0] / counts[..., 1]


def rows(values):
    return np.stack([values, np.ones(len(values))], axis=1)


def test_the_difference_is_that_of_the_whole_set():
    a, b = rows(np.array([1.0, 2.0, 6.0])), rows(np.array([0.0, 1.0, 2.0]))
    assert paired_bootstrap(a, b, mean).difference == pytest.approx(2.0)


def test_a_constant_gain_has_an_interval_of_no_width_however_the_studies_vary():
    values = np.random.default_rng(0).normal(0, 100, 50)
    interval = paired_bootstrap(rows(values + 1), rows(values), mean)
    assert interval.low == pytest.approx(1.0)
    assert interval.high == pytest.approx(1.0)


def test_a_score_against_itself_has_no_difference():
    counts = rows(np.arange(5.0))
    interval = paired_bootstrap(counts, counts, mean)
    assert (interval.difference, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_the_interval_covers_the_true_difference_about_as_often_as_stated():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        gains = rng.normal(0.3, 1.0, 60)
        interval = paired_bootstrap(rows(gains), rows(np.zeros(60)), mean, seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    # 95 % of 200 is 190; five standard deviations of the count are 15.
    assert 175 <= covered <= 199


def test_scans_of_one_patient_are_drawn_together_and_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).normal(0, 1, 12), 5)
    zeros = rows(np.zeros(60))
    alone = paired_bootstrap(rows(values), zeros, mean)
    patients = [f"p{i // 5}" for i in range(60)]
    together = paired_bootstrap(rows(values), zeros, mean, patients)
    assert together.high - together.low > 1.7 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval():
    a, b = rows(np.arange(9.0)), rows(np.arange(9.0)[::-1].copy())
    assert paired_bootstrap(a, b, mean, seed=4) == paired_bootstrap(a, b, mean, seed=4)


def test_a_thousand_resamples_of_bleu_are_scored_together():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 300, (2, 3000, 10)).astype(float)
    shapes = []

    def scored(sums):
        shapes.append(sums.shape)
        return bleu_mean(sums)

    paired_bootstrap(counts[0], counts[1], scored)
    assert shapes.count((1000, 10)) == 2
    assert len(shapes) == 4


@pytest.mark.parametrize("second", [np.zeros((2, 2)), np.zeros((3, 3))])
def test_rows_that_do_not_match_are_refused(second):
    with pytest.raises(InputError, match="the same studies twice"):
        paired_bootstrap(np.zeros((3, 2)), second, mean)


def test_no_study_is_refused():
    with pytest.raises(InputError, match="the same studies twice"):
        paired_bootstrap(np.zeros((0, 2)), np.zeros((0, 2)), mean)


def test_a_patient_missing_for_a_study_is_refused():
    with pytest.raises(InputError, match="2 patients are named for 3 studies"):
        paired_bootstrap(np.zeros((3, 2)), np.zeros((3, 2)), mean, ["a", "b"])


def measure_of(values):
    return mean_measure("mean@test", ("mean",), np.asarray(values, dtype=float)[:, None])


def test_weights_draw_patients_whole_and_as_many_as_there_are():
    patients = ["p", "q", "p", "r"]
    weights = patient_weights(patients, 50, seed=1)
    assert weights.shape == (50, 4)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_the_order_of_studies_changes_no_weight():
    patients = ["p", "q", "r", "s"]
    one = patient_weights(patients, 20)
    np.testing.assert_array_equal(one, patient_weights(patients[::-1], 20)[:, ::-1])


def test_no_study_has_no_weights():
    with pytest.raises(InputError, match="no study"):
        patient_weights([])


def test_draws_in_chunks_are_the_draws_at_once():
    weights = patient_weights([str(i) for i in range(7)], 2 * CHUNK + 3)
    measure = measure_of(np.arange(7))
    np.testing.assert_array_equal(draws_of(measure, weights), measure.score(weights))
    assert draws_of(measure, weights[:0]).shape == (0, 1)


def test_limits_are_percentiles_of_the_resamples_that_have_the_score():
    draws = np.full((1000, 3), np.nan)
    draws[:, 0] = np.arange(1000)
    draws[:600, 1] = np.arange(600)
    draws[:400, 2] = 1.0
    low, high = limits(draws)
    assert low[:2] == pytest.approx([24.975, 14.975])
    assert high[:2] == pytest.approx([974.025, 584.025])
    assert np.isnan([low[2], high[2]]).all()


def test_paired_difference_agrees_with_the_slow_bootstrap():
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.2, 1, 80), rng.normal(0, 1, 80)
    patients = [f"{i:03d}" for i in range(80)]
    weights = patient_weights(patients, 1000, seed=5)
    draws = tuple(draws_of(measure_of(values), weights)[:, 0] for values in (first, second))
    found = paired_difference((first.mean(), second.mean()), draws)
    slow = paired_bootstrap(rows(first), rows(second), mean, patients, seed=5)
    assert found.difference == pytest.approx(slow.difference)
    assert (found.low, found.high) == pytest.approx((slow.low, slow.high))


def test_p_values_are_one_for_equals_and_small_for_a_sure_gain():
    draws = np.linspace(0, 1, 999)
    assert paired_difference((0.5, 0.5), (draws, draws)).p_value == 1.0
    assert paired_difference((0.6, 0.5), (draws + 0.1, draws)).p_value == pytest.approx(2 / 1000)


def test_without_resamples_a_difference_has_no_interval():
    found = paired_difference((0.6, 0.5), (np.empty(0), np.empty(0)))
    assert found.difference == pytest.approx(0.1)
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_p_values_are_as_rare_as_they_say_where_nothing_differs():
    rng = np.random.default_rng(0)
    weights = patient_weights([f"{i:03d}" for i in range(60)], 400)
    small = 0
    for _ in range(200):
        gains = rng.normal(0, 1, 60)
        draws = draws_of(measure_of(gains), weights)[:, 0]
        small += paired_difference((gains.mean(), 0.0), (draws, np.zeros(400))).p_value <= 0.05
    # 5 % of 200 is 10; five standard deviations of the count are 15.
    assert 1 <= small <= 25


def test_the_key_of_resamples_tells_studies_patients_number_and_seed():
    keys = {
        resample_key(["a", "b"], ["p", "q"], 100, 0),
        resample_key(["a", "c"], ["p", "q"], 100, 0),
        resample_key(["a", "b"], ["p", "p"], 100, 0),
        resample_key(["a", "b"], ["p", "q"], 101, 0),
        resample_key(["a", "b"], ["p", "q"], 100, 1),
    }
    assert len(keys) == 5
    assert resample_key(["b", "a"], ["q", "p"], 100, 0) in keys

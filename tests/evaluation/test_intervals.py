"""The paired bootstrap is paired, by patient, fast, and covers the truth as often as it says."""

import time

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.intervals import paired_bootstrap
from uvlm.evaluation.text import bleu_mean


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


def test_a_thousand_resamples_of_bleu_take_under_a_second():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 300, (2, 3000, 10)).astype(float)
    start = time.perf_counter()
    paired_bootstrap(counts[0], counts[1], bleu_mean)
    assert time.perf_counter() - start < 1


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

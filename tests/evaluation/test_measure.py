"""A measure of some studies may stand among measures of all."""

import numpy as np

from uvlm.evaluation.measure import among, mean_measure

MEMBERS = np.array([True, False, True, True])
VALUES = np.array([[1.0], [0.0], [0.5]])


def test_the_others_change_no_score_and_have_none():
    part = mean_measure("mean@test", ("a",), VALUES)
    whole = among(part, MEMBERS)
    weights = np.array([[1.0, 5.0, 0.0, 2.0], [0.0, 9.0, 1.0, 0.0]])
    np.testing.assert_array_equal(whole.score(weights), part.score(weights[:, MEMBERS]))
    np.testing.assert_array_equal(whole.per_study[:, 0], [1.0, np.nan, 0.0, 0.5])


def test_a_resample_of_others_only_has_no_score():
    whole = among(mean_measure("mean@test", ("a",), VALUES), MEMBERS)
    assert np.isnan(whole.score(np.array([[0.0, 4.0, 0.0, 0.0]]))).all()


def test_a_measure_of_all_stays_as_it_is():
    part = mean_measure("mean@test", ("a",), VALUES)
    assert among(part, np.ones(3, dtype=bool)) is part

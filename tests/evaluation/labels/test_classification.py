"""Label scores leave out what is unknown and say what they could not score."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.labels.classification import classification_scores

NAN = float("nan")


def test_a_perfect_and_a_reversed_label_score_one_and_zero():
    truth = np.array([[0, 0], [0, 0], [1, 1], [1, 1]], float)
    values = np.array([[0.1, 0.9], [0.2, 0.8], [0.8, 0.2], [0.9, 0.1]])
    scores = classification_scores(truth, values, ["a", "b"])
    assert [(s.auroc, s.f1) for s in scores.labels] == [(1.0, 1.0), (0.0, 0.0)]
    assert (scores.macro_auroc, scores.macro_f1) == (0.5, 0.5)


def test_auroc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    truth, values = rng.integers(0, 2, (40, 1)).astype(float), rng.random((40, 1)).round(1)
    positive, negative = values[truth == 1][:, None], values[truth == 0][None]
    pairs = np.where(positive == negative, 0.5, positive > negative)
    (score,) = classification_scores(truth, values, ["a"]).labels
    assert score.auroc == pytest.approx(pairs.mean())


def test_unknown_labels_do_not_count():
    truth = np.array([[0], [1], [NAN], [NAN]])
    values = np.array([[0.2], [0.7], [0.9], [0.1]])
    (score,) = classification_scores(truth, values, ["a"]).labels
    assert (score.auroc, score.f1, score.positives, score.known) == (1.0, 1.0, 1, 2)


@pytest.mark.parametrize("column", [[0, 0, NAN], [1, 1, 1], [NAN, NAN, NAN]])
def test_a_label_with_one_value_is_named_and_not_averaged(column):
    truth = np.array([column, [0, 1, 1]], float).T
    values = np.array([[0.5, 0.5, 0.5], [0.1, 0.8, 0.9]]).T
    scores = classification_scores(truth, values, ["a", "b"])
    assert scores.skipped == ("a",)
    assert scores.macro_auroc == 1.0


def test_nothing_to_score_gives_no_mean():
    scores = classification_scores(np.zeros((2, 1)), np.zeros((2, 1)), ["a"])
    assert np.isnan(scores.macro_auroc)
    assert np.isnan(scores.macro_f1)


def test_a_probability_of_one_half_is_positive():
    scores = classification_scores(np.array([[1.0], [0.0]]), np.array([[0.5], [0.49]]), ["a"])
    assert scores.labels[0].f1 == 1.0


@pytest.mark.parametrize("wrong", [1.2, -0.1, NAN])
def test_values_that_are_no_probabilities_are_refused(wrong):
    with pytest.raises(InputError, match=r"between 0 and 1|from 0 to 1"):
        classification_scores(np.array([[1.0], [0.0]]), np.array([[wrong], [0.2]]), ["a"])


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(InputError, match="probabilities of 3 studies, but labels of 2"):
        classification_scores(np.zeros((2, 1)), np.zeros((3, 1)), ["a"])

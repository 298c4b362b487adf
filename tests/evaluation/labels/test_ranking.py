"""AUROC and average precision of many weightings: scikit-learn's, ties and repetitions included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from uvlm.evaluation.labels import ranking
from uvlm.evaluation.labels.ranking import in_chunks, rank

STUDIES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=25
)


@settings(max_examples=200, deadline=None)
@given(STUDIES)
def test_both_are_scikit_learns_with_ties_and_weights(studies):
    truth, scores, weights = (np.array(column, float) for column in zip(*studies, strict=True))
    one = rank(truth, scores / 4)
    column = weights[:, None]
    if weights[truth == 1].sum() == 0:
        assert np.isnan(one.auroc(column)).all()
        assert np.isnan(one.average_precision(column)).all()
        return
    expected = average_precision_score(truth, scores, sample_weight=weights)
    assert one.average_precision(column)[0] == pytest.approx(expected)
    if weights[truth == 0].sum() == 0:
        assert np.isnan(one.auroc(column)).all()
        return
    assert one.auroc(column)[0] == pytest.approx(
        roc_auc_score(truth, scores, sample_weight=weights)
    )


def test_a_weight_is_a_repetition():
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 60).astype(float), rng.random(60).round(1)
    times = rng.integers(0, 4, 60)
    again = np.repeat(np.arange(60), times)
    weighted, repeated = rank(truth, scores), rank(truth[again], scores[again])
    ones = np.ones((len(again), 1))
    for method in ("auroc", "average_precision"):
        assert getattr(weighted, method)(times[:, None].astype(float)) == pytest.approx(
            getattr(repeated, method)(ones)
        )


def test_auroc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(1)
    truth, scores = rng.integers(0, 2, 40).astype(float), rng.random(40).round(1)
    positive, negative = scores[truth == 1][:, None], scores[truth == 0][None]
    pairs = np.where(positive == negative, 0.5, positive > negative)
    assert rank(truth, scores).auroc(np.ones((40, 1)))[0] == pytest.approx(pairs.mean())


def test_unknown_studies_take_no_part():
    truth, scores = np.array([0, 1, np.nan, 0, 1.0]), np.array([0.1, 0.3, 0.9, 0.4, 0.5])
    known = ~np.isnan(truth)
    expected = roc_auc_score(truth[known], scores[known])
    assert rank(truth, scores).auroc(np.ones((5, 1)))[0] == expected


def test_chunks_give_what_one_piece_gives(monkeypatch):
    rng = np.random.default_rng(2)
    truth, scores = rng.integers(0, 2, 30).astype(float), rng.random(30)
    weights = rng.integers(0, 3, (17, 30)).astype(float)
    one = rank(truth, scores)

    def score(part):
        return one.auroc(part)[:, None]

    whole = in_chunks(weights, score)
    monkeypatch.setattr(ranking, "CHUNK", 100)
    assert np.array_equal(in_chunks(weights, score), whole)
    assert whole.shape == (17, 1)

"""CIDEr equals pycocoevalcap's, study by study."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider

from uvlm.evaluation.words.cider import cider

TOKENS = st.lists(st.sampled_from(["a", "b", "c", "no", "4"]), max_size=10)
FULL = TOKENS.map(lambda tokens: ["x", *tokens])


def slow(references, hypotheses):
    truth = {i: [" ".join(tokens) for tokens in texts] for i, texts in enumerate(references)}
    found = {i: [" ".join(tokens)] for i, tokens in enumerate(hypotheses)}
    return Cider().compute_score(truth, found)[1]


@settings(deadline=None)
@given(st.lists(st.tuples(TOKENS, st.lists(FULL, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_every_study_equals_pycocoevalcap(studies):
    references, hypotheses = [r for _, r in studies], [h for h, _ in studies]
    np.testing.assert_allclose(
        cider(references, hypotheses), slow(references, hypotheses), atol=1e-9
    )


def test_identical_reports_with_words_of_their_own_score_ten():
    texts = [list("abcdef"), list("ghijkl"), list("mnopqr")]
    assert cider([[tokens] for tokens in texts], texts).tolist() == pytest.approx([10, 10, 10])


def test_an_empty_report_and_a_single_study_score_zero():
    assert cider([[["a"]], [["b"]]], [[], ["b"]])[0] == 0.0
    assert cider([[["a", "b"]]], [["a", "b"]]).tolist() == [0.0]

"""Both ROUGEs equal the libraries that define them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.rouge.rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer

from uvlm.evaluation.words.rouge import google_tokens, rouge_google, rouge_l

WORDS = ["the", "lungs", "are", "Clear.", "no", "effusion", "4", "mm", "", "nodule"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=15).map(" ".join)
FULL = TEXT.map(lambda text: f"normal {text}")
NAMES = ("rouge1", "rouge2", "rougeL")


@settings(deadline=None)
@given(FULL, st.lists(FULL, min_size=1, max_size=3))
def test_rouge_l_equals_pycocoevalcap_for_any_number_of_references(hypothesis, references):
    expected = Rouge().calc_score([hypothesis], references)
    assert rouge_l(references, hypothesis) == pytest.approx(expected, abs=1e-12)


def test_an_empty_report_scores_nothing_even_against_a_double_space():
    assert Rouge().calc_score([""], ["two  spaces"]) > 0
    assert rouge_l(["two  spaces"], "") == 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_google_rouge_equals_rouge_score(pairs):
    scorer = RougeScorer(NAMES)
    expected = [[scorer.score(r, h)[name].fmeasure for name in NAMES] for r, h in pairs]
    found = rouge_google([r for r, _ in pairs], [h for _, h in pairs])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_google_tokens_are_lower_case_letters_and_digits():
    assert google_tokens("A 1.5-cm Nodule, fra\u00e7on") == [
        "a",
        "1",
        "5",
        "cm",
        "nodule",
        "fra",
        "on",
    ]


def test_identical_reports_score_one():
    text = "The lungs are clear. No effusion."
    assert rouge_l([text], text) == pytest.approx(1.0)
    assert rouge_google([text], [text]).tolist() == [[1.0, 1.0, 1.0]]

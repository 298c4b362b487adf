"""BLEU equals pycocoevalcap's on the cleaned texts, from counts that can be summed."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.bleu.bleu_scorer import precook

from uvlm.errors import InputError
from uvlm.evaluation.words.bleu import authors_clean, bleu, bleu_from_counts, ngrams, vlm3d_clean

WORDS = st.lists(
    st.sampled_from(["the", "lungs", "are", "clear", ".", "effusion", "no", "4", "mm", "nodule"])
)
SENTENCE = WORDS.map(" ".join)
FULL = WORDS.map(lambda words: " ".join(["normal", *words]))


def reference_bleu(references, hypotheses):
    truth = {i: [vlm3d_clean(text)] for i, text in enumerate(references)}
    found = {i: [vlm3d_clean(text)] for i, text in enumerate(hypotheses)}
    return Bleu(4).compute_score(truth, found, verbose=0)


@settings(deadline=None)
@given(st.lists(st.tuples(FULL, SENTENCE), min_size=1, max_size=6))
def test_corpus_and_study_scores_equal_pycocoevalcap(pairs):
    references, hypotheses = zip(*pairs, strict=True)
    corpus, per_study = reference_bleu(references, hypotheses)
    score = bleu(references, hypotheses)
    assert score.corpus == pytest.approx(corpus, abs=1e-12)
    assert score.mean == pytest.approx(np.mean(corpus), abs=1e-12)
    np.testing.assert_allclose(score.per_study.T, per_study, atol=1e-12)


def test_identical_reports_score_one():
    texts = ["The lungs are clear and the heart is normal.", "No pleural effusion is seen."]
    assert bleu(texts, texts).corpus == pytest.approx((1, 1, 1, 1))


def test_summed_counts_of_two_halves_are_the_whole():
    references, hypotheses = ["a b c d e", "f g h i", "a c"], ["a b c d", "f g i h", "a b c"]
    whole = bleu(references, hypotheses)
    halves = [bleu(references[i], hypotheses[i]) for i in (slice(0, 1), slice(1, 3))]
    total = sum(half.counts.sum(axis=0) for half in halves)
    assert bleu_from_counts(total) == pytest.approx(whole.corpus)


def test_the_challenge_cleaning_touches_no_decimal_point():
    assert (
        vlm3d_clean('A "1.5 cm" nodule . No_effusion\n<|eot_id|>') == "A 1.5 cm nodule.Noeffusion"
    )


def test_an_empty_report_counts_as_a_miss_and_is_not_left_out():
    half = bleu(["a b c d", "a b c d"], ["a b c d", ""])
    assert half.mean < bleu(["a b c d"], ["a b c d"]).mean / 2


def test_published_values_of_single_reference_reports(real_data):
    file = real_data / "text_metric_vectors" / "published_radeval.json"
    published = json.loads(file.read_text(encoding="utf-8"))
    score = bleu(published["refs"], published["hyps"])
    expected = published["expected"]
    assert score.corpus[3] == pytest.approx(expected["default"]["bleu"], abs=1e-4)


def test_numbers_of_reports_that_differ_are_refused():
    with pytest.raises(InputError, match="2 reference reports and 1 generated"):
        bleu(["a", "b"], ["a"])


def test_no_report_is_refused():
    with pytest.raises(InputError, match="0 reference reports"):
        bleu([], [])


def test_an_empty_reference_is_refused_by_its_number():
    with pytest.raises(InputError, match="reference report 2 is empty"):
        bleu(["a", " "], ["a", "b"])


def test_the_authors_cleaning_opens_decimal_points():
    assert authors_clean('A "1.5 cm"\nnodule . No  effusion..End') == (
        "A 1. 5 cm nodule. No effusion. End"
    )


def test_the_authors_cleaning_can_be_chosen():
    pair = ["1.5 cm"], ["1.6 cm"]
    assert bleu(*pair, clean=authors_clean).corpus[0] > bleu(*pair).corpus[0]


@settings(deadline=None)
@given(SENTENCE)
def test_counted_ngrams_equal_pycocoevalcap(text):
    length, counts = precook(vlm3d_clean(text), 4)
    assert ngrams(text) == (length, dict(counts))

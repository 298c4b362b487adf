"""n-grams counted as numbers equal n-grams counted as words."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from uvlm.evaluation.words.bleu import bleu_from_counts
from uvlm.evaluation.words.ngram_counts import count_ngrams, overlap_counts

TOKENS = st.lists(st.sampled_from(["a", "b", "c", "no", "4"]), max_size=12)


def slow_counts(tokens, order):
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


@settings(deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=6))
def test_every_document_has_the_ngrams_of_its_words(documents):
    table = count_ngrams(documents)
    assert table.lengths.tolist() == [len(tokens) for tokens in documents]
    for order, entries in enumerate(table.orders, 1):
        for number, tokens in enumerate(documents):
            own = entries.count[entries.document == number]
            assert sorted(own.tolist()) == sorted(slow_counts(tokens, order).values())


def test_no_ngram_spans_two_documents():
    orders = list(count_ngrams([["a", "b"], ["a", "b"], ["b"]]).orders)
    assert [len(entries.document) for entries in orders] == [5, 2, 0, 0]


@settings(deadline=None)
@given(
    st.lists(st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=3)), min_size=1, max_size=5)
)
def test_overlap_with_several_references_equals_pycocoevalcap(studies):
    scorer = BleuScorer(n=4)
    for hypothesis, references in studies:
        scorer += (" ".join(hypothesis), [" ".join(tokens) for tokens in references])
    expected, _ = scorer.compute_score(option="closest", verbose=0)
    counts = overlap_counts([r for _, r in studies], [h for h, _ in studies])
    assert bleu_from_counts(counts.sum(axis=0)).tolist() == pytest.approx(expected, abs=1e-12)


def test_the_nearest_reference_gives_its_length_and_the_shorter_of_two():
    counts = overlap_counts([[["a"] * 2, ["a"] * 6, ["a"] * 9]], [["a"] * 4])
    assert counts[0, -2:].tolist() == [4, 2]


def test_order_of_studies_does_not_matter():
    rng = np.random.default_rng(0)
    texts = [rng.choice(list("abcd"), size=size).tolist() for size in (5, 9, 1, 7, 3, 8)]
    counts = overlap_counts([[tokens] for tokens in texts[:3]], texts[3:])
    turned = overlap_counts([[tokens] for tokens in texts[2::-1]], texts[:2:-1])
    assert (counts[::-1] == turned).all()

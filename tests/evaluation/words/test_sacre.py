"""Corpus BLEU equals sacreBLEU's; the n-gram precision is the one that HSENet calls BLEU."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import corpus_bleu
from sacrebleu.tokenizers.tokenizer_intl import TokenizerV14International

from uvlm.errors import MissingExtraError
from uvlm.evaluation.words.ngram_counts import overlap_counts
from uvlm.evaluation.words.sacre import ngram_precisions, sacrebleu_score, tokenizer_13a

WORDS = ["the", "lungs", "Clear.", "no", "effusion,", "4.5", "mm", "right-sided", "&amp;"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
FULL = TEXT.map(lambda text: f"normal {text}")


def score(references, hypotheses, tokens):
    counts = overlap_counts(
        [[tokens(text) for text in texts] for texts in references],
        [tokens(text) for text in hypotheses],
    )
    return float(sacrebleu_score(counts.sum(axis=0)))


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, FULL, FULL), min_size=1, max_size=4))
def test_corpus_score_equals_sacrebleu_with_two_references(studies):
    hypotheses, *references = map(list, zip(*studies, strict=True))
    expected = corpus_bleu(hypotheses, references).score / 100
    per_study = list(zip(*references, strict=True))
    assert score(per_study, hypotheses, tokenizer_13a()) == pytest.approx(expected, abs=1e-9)


def test_published_values(real_data):
    file = real_data / "text_metric_vectors" / "published_sacrebleu.json"
    corpus = json.loads(file.read_text(encoding="utf-8"))["corpus"]
    intl = TokenizerV14International()
    tokenizers = {
        "13a": tokenizer_13a(),
        "none": str.split,
        "intl": lambda text: intl(text).split(),
    }
    references = list(zip(*corpus["refs"], strict=True))
    for name, tokens in tokenizers.items():
        found = 100 * score(references, corpus["hyps"], tokens)
        assert found == pytest.approx(corpus["expected_percent"][name], abs=1e-4)


def test_precision_of_ngrams_by_hand():
    counts = overlap_counts([[["a", "b", "c", "d"]]], [["a", "b", "c", "x", "y"]])
    assert ngram_precisions(counts).tolist() == [[3 / 5, 2 / 4, 1 / 3, 0.0]]


def test_cutting_a_report_short_raises_the_precision_and_lowers_bleu():
    reference = ["the", "lungs", "are", "clear", "and", "the", "heart", "is", "normal"]
    whole = overlap_counts([[reference]], [["the", "lungs", "are", "clear", "and", "wide"]])
    short = overlap_counts([[reference]], [["the", "lungs", "are", "clear"]])
    assert (ngram_precisions(short) > ngram_precisions(whole)).all()
    assert sacrebleu_score(short[0]) < sacrebleu_score(whole[0])


def test_an_empty_report_has_no_precision_and_no_score():
    counts = overlap_counts([[["a", "b"]]], [[]])
    assert ngram_precisions(counts).tolist() == [[0.0] * 4]
    assert sacrebleu_score(counts[0]) == 0.0


def test_without_sacrebleu_the_pip_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.tokenizers.tokenizer_13a", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'uvlm\[metrics\]'"):
        tokenizer_13a()

"""NLTK's METEOR without synonyms gives its published values, and needs no data."""

import json

import pytest

from uvlm.evaluation.words.nltk_meteor import nltk_meteor, nltk_tokens


def test_published_values(real_data):
    file = real_data / "text_metric_vectors" / "published_nltk_meteor.json"
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    found = nltk_meteor(
        [case["ref"].split() for case in cases], [case["hyp"].split() for case in cases]
    )
    assert found == pytest.approx([case["expected"] for case in cases], abs=1e-4)


def test_case_and_endings_match():
    same, other = nltk_meteor([["Nodules"], ["nodules"]], [["nodule"], ["lung"]])
    assert same == 0.5  # one chunk of one match: half of the score is the penalty
    assert other == 0.0


def test_an_empty_report_scores_zero():
    assert nltk_meteor([["a"]], [[]]) == [0.0]


def test_signs_are_tokens_of_their_own():
    assert nltk_tokens("A 1.5 cm nodule.") == ["A", "1", ".", "5", "cm", "nodule", "."]

"""The candidate is taken that is likely and says what the class head has seen."""

from __future__ import annotations

from math import log

import pytest

from uvlm.errors import ConfigError, InputError
from uvlm.inference.guided.options import GuideOptions
from uvlm.inference.guided.rerank import agreement, rerank
from uvlm.text.labelling.chest import CHEST

CLEAR = "Findings: No pleural effusion is seen. No nodule is seen."
EFFUSION = "Findings: There is a pleural effusion on the right. No nodule is seen."
NODULE = "Findings: There is a nodule of 8 mm in the left upper lobe. No pleural effusion is seen."
TEXTS = (CLEAR, EFFUSION, NODULE)
HEAD = {"Pleural effusion": 0.9, "Lung nodule": 0.1}


def best(weight: float, likelihoods: tuple[float, ...] = (-0.1, -0.2, -0.3)) -> str:
    return rerank(TEXTS, likelihoods, CHEST, HEAD, weight)[0].text


def test_agreement_is_the_mean_log_probability_of_what_is_stated():
    stated = {"Pleural effusion": 1, "Lung nodule": 0, "Emphysema": 1}
    assert agreement(stated, HEAD) == pytest.approx((log(0.9) + log(0.9)) / 2)
    assert agreement({"Pleural effusion": 0, "Lung nodule": 1}, HEAD) == pytest.approx(log(0.1))


def test_a_head_that_is_certain_does_not_decide_over_all_others():
    assert agreement({"a": 1}, {"a": 0.0}) == pytest.approx(log(0.01))


def test_without_weight_the_likeliest_is_taken():
    assert best(0.0) == CLEAR


def test_with_weight_the_one_the_class_head_agrees_with_is_taken():
    assert best(1.0) == EFFUSION


def test_a_weight_too_small_for_the_difference_in_likelihood_changes_nothing():
    assert best(0.001) == CLEAR


def test_of_equals_the_first_is_taken():
    ranked = rerank([CLEAR, CLEAR], [-1.0, -1.0], CHEST, HEAD, 1.0)
    assert [candidate.place for candidate in ranked] == [0, 1]


def test_every_candidate_is_kept_with_its_score():
    ranked = rerank(TEXTS, (-0.1, -0.2, -0.3), CHEST, HEAD, 0.5)
    assert sorted(candidate.place for candidate in ranked) == [0, 1, 2]
    for candidate in ranked:
        expected = candidate.likelihood + 0.5 * candidate.agreement
        assert candidate.score == pytest.approx(expected)


def test_a_head_of_other_classes_cannot_choose():
    with pytest.raises(InputError, match="Kidney stone"):
        rerank(TEXTS, (-1, -1, -1), CHEST, {"Kidney stone": 0.5}, 1.0)
    ranked = rerank(TEXTS, (-1, -0.5, -1), CHEST, {"Kidney stone": 0.5}, 0.0)
    assert ranked[0].text == EFFUSION


@pytest.mark.parametrize("change", [{"candidates": -1}, {"agreement": -0.1}, {"agreement": 1e999}])
def test_impossible_options_are_refused(change):
    with pytest.raises(ConfigError, match="must not be negative"):
        GuideOptions(**change)


def test_one_candidate_is_no_choice():
    assert [GuideOptions(candidates=n).active for n in range(3)] == [False, False, True]

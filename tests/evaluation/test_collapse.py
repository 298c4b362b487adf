"""Identical and nearly identical reports are counted; different ones are not."""

from __future__ import annotations

import pytest

from uvlm.evaluation.collapse import sameness, shared_texts

NORMAL = "The lungs are clear . There is no pleural effusion . The heart is of normal size ."
NODULE = "There is a nodule of 8 mm in the left upper lobe . The heart is enlarged ."
STONE = "A stone of 4 mm is seen in the right kidney without dilatation of the ureter ."


def test_different_reports_are_not_alike():
    found = sameness([NORMAL, NODULE, STONE])
    assert (found.identical, found.similar) == (0, 0)


def test_one_report_for_all_is_complete_collapse():
    found = sameness([NORMAL] * 4)
    assert (found.identical, found.similar) == (1, 1)


def test_white_space_makes_no_difference():
    assert shared_texts([NORMAL, f" {NORMAL}\n", NODULE]) == 2


def test_a_word_changed_in_a_long_report_is_nearly_identical():
    long = " ".join([NORMAL, NODULE, STONE])
    changed = long.replace("8 mm", "9 mm")
    found = sameness([long, changed, NODULE])
    assert found.identical == 0
    assert found.similar == pytest.approx(2 / 3)


def test_a_report_of_the_same_words_in_another_order_is_another():
    words = NODULE.split()
    assert sameness([NODULE, " ".join(reversed(words))]).similar == 0


@pytest.mark.parametrize("texts", [[], [NORMAL]])
def test_fewer_than_two_reports_cannot_be_alike(texts):
    found = sameness(texts)
    assert (found.identical, found.similar) == (0, 0)


def test_empty_reports_are_identical():
    assert sameness(["", " ", NORMAL]).identical == pytest.approx(2 / 3)

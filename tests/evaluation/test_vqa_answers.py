"""Several answers may be right, an empty one never is; paths earn by depth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvlm.errors import InputError
from uvlm.evaluation.vqa_answers import answers_of, exact_credit, normalised, path_credit

UPPER = "lung/lung/right lung/right lung upper lobe"
RIGHT = "lung/lung/right lung"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Yes.", "yes"),
        (' "Left  Lung" ', "left lung"),
        ("lung / lung /right lung", "lung/lung/right lung"),
        ("6x4 mm", "0.4 × 0.6 cm."),
        ("ﬁbrosis", "fibrosis"),
        ("'no'.", "no"),
    ],
)
def test_answers_that_differ_in_spelling_only_are_one(one, other):
    assert normalised(one) == normalised(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [("left lung", "right lung"), ("6x4 mm", "6x4 cm"), ("6x4 mm", "6x5 mm"), ("1.5", "15")],
)
def test_answers_that_differ_in_meaning_are_two(one, other):
    assert normalised(one) != normalised(other)


def test_any_valid_answer_is_right_and_a_sentence_is_not():
    assert exact_credit("Pleura", [RIGHT, "pleura"]) == 1
    assert exact_credit("It is in the pleura", [RIGHT, "pleura"]) == 0


@pytest.mark.parametrize("empty", ["", "  ", ".", '""', "?!"])
def test_an_empty_answer_is_wrong_whatever_is_asked(empty):
    assert exact_credit(empty, ["yes", "", "."]) == 0
    assert path_credit(empty, ["yes", "", "."]) == 0


@pytest.mark.parametrize(
    ("prediction", "answers", "credit"),
    [
        (RIGHT, [RIGHT], 1),
        ("lung/lung", [RIGHT], 2 / 3),
        ("lung", [RIGHT], 1 / 3),
        (UPPER, [RIGHT], 3 / 4),
        ("lung/lung/left lung", [RIGHT], 2 / 3),
        ("pleura/right lung", [RIGHT], 0),
        ("right lung", [RIGHT], 0),
        (UPPER, ["pleura", RIGHT, "lung"], 3 / 4),
        ("yes", ["yes"], 1),
        ("no", ["yes"], 0),
    ],
)
def test_credit_of_a_path_is_the_share_of_common_leading_elements(prediction, answers, credit):
    assert path_credit(prediction, answers) == pytest.approx(credit)


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map("/".join)


@given(PATHS, st.lists(PATHS, min_size=1, max_size=3))
def test_the_hierarchical_credit_is_never_below_the_exact_one_and_one_only_with_it(path, answers):
    exact, credit = exact_credit(path, answers), path_credit(path, answers)
    assert 0 <= exact <= credit <= 1
    assert (credit == 1) == (exact == 1)


@given(PATHS, PATHS)
def test_the_hierarchical_credit_is_symmetric(one, other):
    assert path_credit(one, [other]) == path_credit(other, [one])


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ('["left lung", "right lung"]', ("left lung", "right lung")),
        ("yes", ("yes",)),
        ("", ()),
        ("[]", ()),
        ('["", " a "]', ("a",)),
    ],
)
def test_answers_are_a_list_or_one_text(cell, answers):
    assert answers_of(cell) == answers


@pytest.mark.parametrize("cell", ["[yes", "[1, 2]", '["a", null]'])
def test_a_broken_list_is_refused_without_repeating_it(cell):
    with pytest.raises(InputError, match=f"answers of {len(cell)} characters"):
        answers_of(cell)

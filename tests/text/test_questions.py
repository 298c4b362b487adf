"""Questions in words: every type, many wordings of one meaning."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.text.questions import CAPTIONS, TEMPLATES, TYPES, ask, ask_report, closed
from uvlm.text.sides import sides_in

LUNG = "lung/lung/right lung"
SAYS = {
    "abnormality": (False, True),
    "location": (True, False),
    "presence": (True, True),
    "size": (True, True),
}
"""Type -> whether it names the finding, and the anatomy."""


def test_each_type_has_at_least_twelve_wordings_and_reports_twenty():
    assert set(TEMPLATES) == set(TYPES) == set(SAYS)
    assert all(len(set(templates)) >= 12 for templates in TEMPLATES.values())
    assert len(set(CAPTIONS)) == len(CAPTIONS) == 20


@pytest.mark.parametrize("kind", TYPES)
def test_every_wording_says_what_is_given_and_not_what_is_asked(kind):
    for template in TEMPLATES[kind]:
        assert ("{finding}" in template, "{anatomy}" in template) == SAYS[kind], template
        assert sides_in(template) == set()


def test_without_a_generator_the_first_wording_is_taken():
    assert ask("presence", LUNG, "a nodule") == "Is there a nodule in the right lung?"
    assert ask("location", "", "a nodule") == "Which part of the anatomy shows a nodule?"
    assert ask_report() == CAPTIONS[0]


def test_a_generator_draws_every_wording_and_the_same_ones_again():
    drawn = [
        [ask("size", LUNG, "nodule", rng) for _ in range(300)]
        for rng in (np.random.default_rng(5), np.random.default_rng(5))
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == len(TEMPLATES["size"])
    rng = np.random.default_rng(5)
    assert {ask_report(rng) for _ in range(400)} == set(CAPTIONS)


def test_no_anatomy_is_the_whole_scan():
    assert ask("abnormality", "", "") == "Which abnormalities does the scan show?"


def test_what_is_filled_in_is_never_read_as_a_placeholder():
    assert "{anatomy}" in ask("presence", "heart", "{anatomy}")


def test_only_presence_is_answered_by_yes_or_no():
    assert [kind for kind in TYPES if closed(kind)] == ["presence"]


def test_unknown_types_are_named_briefly():
    with pytest.raises(InputError, match=r"type of question 'colour'\. Known types: abn"):
        ask("colour", "", "nodule")
    with pytest.raises(InputError, match="of 60 characters"):
        closed("x" * 60)


@pytest.mark.parametrize("kind", ["location", "presence", "size"])
def test_a_question_without_its_finding_is_refused(kind):
    with pytest.raises(InputError, match=f"type {kind} names no finding"):
        ask(kind, "heart", " ")

"""The draft proposes what reports with the longest agreeing past went on with, most often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvlm.errors import InputError
from uvlm.text.draft import GAP, LIKELY, LONGEST, Draft

REPORTS = st.lists(st.lists(st.integers(0, 3), max_size=20), max_size=8)


def obvious(reports: list[list[int]], context: list[int]) -> Counter[int]:
    """What followed the longest end of `context` that some report has, by looking everywhere."""
    longest = [GAP, *context][-LONGEST:]
    marked = [[GAP, *report, GAP] for report in reports]
    for length in range(len(longest), 0, -1):
        end = longest[-length:]
        found = Counter(
            report[at + length]
            for report in marked
            for at in range(len(report) - length)
            if report[at : at + length] == end
        )
        if found:
            return found
    return Counter()


@given(REPORTS, st.lists(st.integers(0, 4), max_size=12))
def test_proposals_are_what_most_often_followed_the_longest_known_past(reports, context) -> None:
    proposed = Draft.build(reports).propose(context, 1)
    followed = obvious(reports, context)
    if not followed:
        assert proposed == []
        return
    most = max(followed.values())
    if most < LIKELY * followed.total():
        assert proposed == []
    elif proposed:
        assert followed[proposed[0]] == most
    else:
        assert followed[GAP] == most  # a report ends here


@given(REPORTS)
def test_stored_and_read_it_proposes_alike(reports) -> None:
    draft = Draft.build(reports)
    again = Draft.of(draft.tensors())
    for report in reports:
        assert again.propose(report[:3], 5) == draft.propose(report[:3], 5)


def test_a_report_seen_in_training_is_proposed_to_its_end_and_no_further() -> None:
    report = list(range(10, 30))
    draft = Draft.build([report, [1, 2, 3]])
    assert draft.propose(report[:1], 100) == report[1:]
    assert draft.propose(report[:5], 4) == report[5:9]
    assert draft.propose(report, 9) == []


def test_what_no_report_contains_or_none_asks_for_gets_no_proposal() -> None:
    draft = Draft.build([[1, 2, 3]])
    assert draft.propose([9], 4) == []
    assert draft.propose([1], 0) == []
    assert Draft.build([]).propose([], 4) == []


def test_the_beginning_is_proposed_before_anything_is_written() -> None:
    assert Draft.build([[5, 6], [5, 7], [5, 6]]).propose([], 3) == [5, 6]


def test_proposals_end_where_they_become_unlikely() -> None:
    reports = [[1, 10 + i, 2] for i in range(8)]
    assert Draft.build(reports).propose([], 3) == [1]


def test_equal_reports_give_equal_arrays() -> None:
    a, b = (Draft.build([[1, 2], [3, 1, 2]]).tensors() for _ in range(2))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_too_many_tokens_are_thinned_by_whole_reports() -> None:
    draft = Draft.build([[i] * 9 for i in range(10)], largest=40)
    assert len(draft.tokens) <= 41
    kept = draft.tokens[draft.tokens != GAP].reshape(-1, 9)
    assert (kept == kept[:, :1]).all()
    assert len(kept) == 4


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"tokens": [GAP, 1, GAP]}, "tokens and order"),
        ({"tokens": [GAP, 1, GAP], "order": [1]}, "one fewer"),
        ({"tokens": [GAP, 1, GAP], "order": [1, 3]}, "outside"),
    ],
)
def test_arrays_of_something_else_are_refused(tensors, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Draft.of(tensors)


def test_negative_ids_are_refused() -> None:
    with pytest.raises(InputError, match="-2"):
        Draft.build([[1, -2]])

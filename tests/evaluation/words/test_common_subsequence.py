"""The fast longest common subsequence is exact, and fast for reports of any length."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.rouge.rouge import my_lcs

from uvlm.evaluation.words.common_subsequence import common_length

TOKENS = st.lists(st.sampled_from("abcd"), max_size=40)


def slow_length(first, second):
    row = [0] * (len(second) + 1)
    for a in first:
        before = 0
        for j, b in enumerate(second, 1):
            before, row[j] = row[j], before + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]


@settings(deadline=None, max_examples=300)
@given(TOKENS, TOKENS)
def test_length_equals_the_table_and_pycocoevalcap(first, second):
    assert common_length(first, second) == slow_length(first, second) == my_lcs(first, second)


def test_length_of_long_texts_equals_the_table():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 60, size).tolist() for size in (700, 900))
    assert common_length(first, second) == slow_length(first, second)


def test_a_text_and_itself_share_all():
    assert common_length(list("abcab"), list("abcab")) == 5


def test_fifty_thousand_words_are_compared():
    """By a table that would be 2.5 * 10^9 steps."""
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 3000, 50_000).tolist() for _ in range(2))
    assert 0 < common_length(first, second) < 50_000
    assert common_length(first, [*second, *first]) == 50_000

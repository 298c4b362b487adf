"""Do the generated reports say different things? A model that looks at nothing writes one report
for all, and its loss does not tell.

Read from the texts alone. What is alike among the references (normal studies often are) is no
collapse: compare the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["ALARM", "Sameness", "sameness", "shared_texts"]

ALARM = 0.5
"""Above this share of reports that are alike, and above the references' own, a model is suspected
of having collapsed."""

ALIKE = 0.9
"""Two reports are nearly identical if they share so much of their pairs of neighbouring words."""


@dataclass(frozen=True, kw_only=True)
class Sameness:
    """How alike a set of reports is; shares of 0 to 1, 0 for fewer than two reports."""

    identical: float
    """Share of reports whose text another study received too."""

    similar: float
    """Share of reports to which another study's is nearly identical, identical ones included."""


def shared_texts(texts: Sequence[str]) -> int:
    """How many of the texts are there more than once, white space aside."""
    counts = Counter(" ".join(text.split()) for text in texts)
    return sum(count for count in counts.values() if count > 1)


def sameness(texts: Sequence[str]) -> Sameness:
    """Compare each report with every other."""
    if not texts:
        return Sameness(identical=0.0, similar=0.0)
    pairs = [_word_pairs(text) for text in texts]
    similar = sum(
        any(_alike(own, other) for j, other in enumerate(pairs) if j != i)
        for i, own in enumerate(pairs)
    )
    return Sameness(identical=shared_texts(texts) / len(texts), similar=similar / len(texts))


def _word_pairs(text: str) -> Counter[tuple[str, str]]:
    """Neighbouring words, the ends of the text counted as words, case ignored."""
    words = ["", *text.lower().split(), ""]
    return Counter(pairwise(words))


def _alike(one: Counter[tuple[str, str]], other: Counter[tuple[str, str]]) -> bool:
    """Dice coefficient of the two bags."""
    return 2 * (one & other).total() >= ALIKE * (one.total() + other.total())

"""Which tokens wrote which sentence.

A token may hold a piece of a letter, several words, or the end of one sentence and the beginning
of the next. So a token belongs to every sentence of which it wrote a sign. White space and what
cleaning takes out of a report count for nothing. No torch import.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from uvlm.text.tokenizer import Tokenizer

__all__ = ["token_spans"]

_UNSEEN = re.compile(r'[\s"\x00-\x08\x0e-\x1b\x7f\ufeff]+')
"""What no sentence needs to be recognised by, and cleaning changes."""


def token_spans(tokenizer: Tokenizer, ids: Sequence[int], sentences: Sequence[str]) -> list[range]:
    """Indices into `ids` of the tokens that wrote each sentence.

    Args:
        ids: of a whole report
        sentences: of its decoded text, in its order; what stands between them, such as headers,
            belongs to none

    Returns:
        one range per sentence, never empty

    Raises:
        ValueError: a sentence has nothing but white space, or does not follow the one before it.
    """
    covered = _covered(tokenizer, ids)
    text = _squeezed(tokenizer.decode(ids))
    spans, at = [], 0
    for number, sentence in enumerate(sentences):
        wanted = _squeezed(sentence)
        start = text.find(wanted, at)
        if not wanted or start < 0:
            raise ValueError(
                f"sentence {number} of {len(sentences)} is not in the text of the {len(ids)} "
                "tokens after the sentence before it; give the sentences of the decoded text, in "
                "its order"
            )
        at = start + len(wanted)
        inside = [i for i, (low, high) in enumerate(covered) if low < at and high > start]
        spans.append(range(inside[0], inside[-1] + 1))
    return spans


def _squeezed(text: str) -> str:
    return _UNSEEN.sub("", text)


def _covered(tokenizer: Tokenizer, ids: Sequence[int]) -> list[tuple[int, int]]:
    """[first, stop) of the signs of the squeezed text that each token wrote, in whole or in part.

    What the first tokens make is compared with the whole text: where a letter takes several
    tokens, the first of them make no letter yet, and some decoders put a blank in late.
    """
    full = _squeezed(tokenizer.decode(ids))
    ends = [(0, 0)]  # signs that are finished, and with those that are begun
    for stop in range(1, len(ids) + 1):
        made = _squeezed(tokenizer.decode(ids[:stop]))
        whole = max(_alike(made, full), ends[-1][0])
        ends.append((whole, whole + (len(made) > whole)))
    return [(before[0], after[1]) for before, after in pairwise(ends)]


def _alike(first: str, second: str) -> int:
    """Signs at the beginning that two texts share."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))

"""METEOR as NLTK computes it, without synonyms: words and stems only, so that no data is needed.

Not the jar's number and not comparable with it: other weights (alpha 0.9, beta 3, gamma 0.5), no
paraphrases, the mean over studies. Hugging Face's `evaluate`, and so HSENet, adds WordNet synonyms
to this; without them a score is equal or, mostly, a little lower.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from uvlm.errors import MissingExtraError

__all__ = ["nltk_meteor", "nltk_tokens"]


class _NoSynonyms:
    """Stands where NLTK expects WordNet."""

    def synsets(self, word: str) -> list[str]:
        return []


class _Stemmer:
    """Porter's stems, each word's once: reports repeat their words."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem = lru_cache(maxsize=None)(PorterStemmer().stem)


def nltk_tokens(text: str) -> list[str]:
    """Words, and signs one by one; case kept, NLTK lowers it itself."""
    return re.findall(r"\w+|[^\w\s]", text)


def nltk_meteor(
    references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]
) -> list[float]:
    """Score of each tokenised hypothesis against its tokenised reference.

    Raises:
        MissingExtraError: NLTK is not installed.
    """
    try:
        from nltk.translate.meteor_score import single_meteor_score

        stemmer = _Stemmer()
    except ImportError as error:
        raise MissingExtraError("nltk", "metrics") from error
    nothing = _NoSynonyms()
    return [
        float(single_meteor_score(expected, found, stemmer=stemmer, wordnet=nothing))
        if found
        else 0.0
        for expected, found in zip(references, hypotheses, strict=True)
    ]

"""ROUGE in two spellings that are not the same number.

`rouge_l` is pycocoevalcap's: VLM3D's cleaning, tokens between single spaces, the longest common
subsequence, F with beta 1.2 (recall weighs more), mean over studies. `rouge@google` is Google's
rouge-score, which RadEval and Hugging Face use: lower case, only a to z and 0 to 9, F1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uvlm.evaluation.words.common_subsequence import common_length
from uvlm.evaluation.words.ngram_counts import overlap_counts

__all__ = ["google_tokens", "rouge_google", "rouge_l"]

BETA_SQUARED = 1.2**2


def rouge_l(references: Sequence[str], hypothesis: str) -> float:
    """pycocoevalcap's ROUGE-L of one cleaned report against one or more references.

    An empty hypothesis gives 0. pycocoevalcap splits it into one empty token, which then matches
    a double space of the reference; that is the one departure.
    """
    if not hypothesis.strip():
        return 0.0
    found = hypothesis.split(" ")
    precision = recall = 0.0
    for reference in references:
        expected = reference.split(" ")
        common = common_length(expected, found)
        precision = max(precision, common / len(found))
        recall = max(recall, common / len(expected))
    if not precision or not recall:
        return 0.0
    return (1 + BETA_SQUARED) * precision * recall / (recall + BETA_SQUARED * precision)


def google_tokens(text: str) -> list[str]:
    """rouge-score's default tokens, without stemming. Letters with accents split a word."""
    return re.findall("[a-z0-9]+", text.lower())


def rouge_google(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float64]:
    """(N, 3) F1 of ROUGE-1, ROUGE-2 and ROUGE-L of each study; 0 where a side has no token."""
    expected = [google_tokens(text) for text in references]
    found = [google_tokens(text) for text in hypotheses]
    counts = overlap_counts([[tokens] for tokens in expected], found, orders=2)
    lengths = np.array([[len(e), len(f)] for e, f in zip(expected, found, strict=True)])
    common = np.array([common_length(e, f) for e, f in zip(expected, found, strict=True)])
    matches = np.stack([counts[:, 0], counts[:, 1], common], axis=1)
    smaller = np.array([0, 1, 0])
    totals = np.maximum(0, lengths[:, :, None] - smaller).sum(axis=1)
    # 2PR / (P + R) is 2 matches / (n-grams of both).
    return np.asarray(np.divide(2 * matches, totals, out=np.zeros(matches.shape), where=totals > 0))

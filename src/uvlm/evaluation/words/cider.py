"""CIDEr-D as pycocoevalcap computes it: cosine of n-gram vectors that rare n-grams rule.

An n-gram weighs its count times the logarithm of N over the number of studies whose references
hold it; matches are clipped, a Gaussian of the difference in length (sigma 6, in bigrams) lowers
the score, the mean over the four orders is multiplied by 10 (Vedantam et al. 2015;
pycocoevalcap/cider/cider_scorer.py).

Shapes: N studies, E n-grams of one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.evaluation.words.ngram_counts import ORDERS, Entries, Tokens, count_ngrams

__all__ = ["cider"]

SIGMA, SCALE = 6.0, 10.0

Array = NDArray[np.float64]


def cider(
    references: Sequence[Sequence[Tokens]], hypotheses: Sequence[Tokens]
) -> NDArray[np.float64]:
    """(N,) CIDEr of each study; the corpus score is their mean.

    Args:
        references: one or more tokenised references of each study; all of them give the document
            frequencies
        hypotheses: one tokenised hypothesis of each study
    """
    number = len(hypotheses)
    layers = max(len(texts) for texts in references)
    stacked = [*hypotheses]
    for layer in range(layers):
        stacked += [texts[layer] if layer < len(texts) else () for texts in references]
    table = count_ngrams(stacked, ORDERS)
    bigrams = np.maximum(0, table.lengths - 1).reshape(layers + 1, number)
    total = np.zeros(number)
    for entries in table.orders:
        idf = np.log(number) - np.log(np.maximum(1.0, _document_frequency(entries, number)))
        own = _Vectors(entries, idf, 0, number)
        for layer in range(1, layers + 1):
            theirs = _Vectors(entries, idf, layer * number, number)
            penalty = np.exp(-((bigrams[0] - bigrams[layer]) ** 2) / (2 * SIGMA**2))
            total += own.similarity(theirs) * penalty
    several = np.array([len(texts) for texts in references])
    return np.asarray(SCALE * total / ORDERS / several)


def _document_frequency(entries: Entries, number: int) -> NDArray[Any]:
    """How many studies hold each n-gram in any of their references."""
    of_reference = entries.document >= number
    study = entries.document[of_reference] % number
    kinds = entries.kinds
    held = np.unique(study * kinds + entries.gram[of_reference]) % kinds
    return np.bincount(held, minlength=kinds)


class _Vectors:
    """Weighted n-grams of N documents."""

    def __init__(self, entries: Entries, idf: Array, first: int, number: int) -> None:
        self.keys, counts = entries.of(first, number)
        self.weights = counts * idf[self.keys % entries.kinds]
        self.study = self.keys // entries.kinds
        self.norms = np.sqrt(np.bincount(self.study, self.weights**2, minlength=number))

    def similarity(self, reference: _Vectors) -> Array:
        """(N,) clipped cosine; 0 where a vector is zero."""
        _, ours, theirs = np.intersect1d(
            self.keys, reference.keys, assume_unique=True, return_indices=True
        )
        held = reference.weights[theirs]
        products = np.minimum(self.weights[ours], held) * held
        number = len(self.norms)
        summed = np.bincount(self.study[ours], products, minlength=number)
        norms = self.norms * reference.norms
        return np.asarray(np.divide(summed, norms, out=np.zeros(number), where=norms > 0))

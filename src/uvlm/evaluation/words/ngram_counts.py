"""n-grams of many texts counted at once, as integers, so that thousands of reports take seconds.

A dictionary of word tuples per report, as the reference implementations keep, takes more than a
gigabyte for 6,000 reports; here a text is a row of numbers, and an n-gram is the pair of the
(n-1)-gram at its start and its last word.

Shapes: N studies, L references per study (layers), D documents, E entries, T tokens of all texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ORDERS", "Entries", "NgramTable", "Tokens", "count_ngrams", "overlap_counts"]

Tokens = Sequence[str]
Ints = NDArray[np.int64]
ORDERS = 4


@dataclass(frozen=True, eq=False)
class Entries:
    """n-grams of one order: `count` times n-gram `gram` in document `document`; (E,) each."""

    document: Ints
    gram: Ints
    count: Ints
    kinds: int
    """How many different n-grams there are; `gram` is below it."""

    def of(self, first: int, number: int) -> tuple[Ints, Ints]:
        """(keys, counts) of documents `first` to `first + number`; a key is study and n-gram."""
        chosen = (self.document >= first) & (self.document < first + number)
        keys = (self.document[chosen] - first) * self.kinds + self.gram[chosen]
        return keys, self.count[chosen]


@dataclass(frozen=True, eq=False)
class NgramTable:
    """All n-grams of a list of documents."""

    lengths: Ints
    """(D,) tokens."""

    orders: Iterator[Entries]
    """Words first; made one by one, since all together are large."""


def count_ngrams(documents: Iterable[Tokens], orders: int = ORDERS) -> NgramTable:
    """Count the 1- to `orders`-grams of every document; case and spelling as given."""
    words: dict[str, int] = {}
    texts = [
        np.fromiter((words.setdefault(word, len(words)) for word in tokens), dtype=np.int64)
        for tokens in documents
    ]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    word = np.concatenate(texts) if texts else np.zeros(0, dtype=np.int64)
    document = np.repeat(np.arange(len(texts)), lengths)
    return NgramTable(lengths, _orders(word, document, max(1, len(words)), orders))


def _orders(word: Ints, document: Ints, words: int, orders: int) -> Iterator[Entries]:
    gram = word
    yield _entries(document, gram, words)
    for order in range(1, orders):
        # Neighbours of two documents make no n-gram.
        whole = document[: len(gram) - 1] == document[order : order + len(gram) - 1]
        pairs = np.where(whole, gram[:-1] * words + word[order:], -1)
        seen, gram = np.unique(pairs, return_inverse=True)
        yield _entries(document[: len(gram)][whole], gram[whole], max(1, len(seen)))


def _entries(document: Ints, gram: Ints, kinds: int) -> Entries:
    keys, count = np.unique(document * kinds + gram, return_counts=True)
    return Entries(keys // kinds, keys % kinds, count, kinds)


def overlap_counts(
    references: Sequence[Sequence[Tokens]], hypotheses: Sequence[Tokens], orders: int = ORDERS
) -> NDArray[np.float64]:
    """What every BLEU is made of, per study.

    Args:
        references: one or more tokenised references of each study
        hypotheses: one tokenised hypothesis of each study

    Returns:
        (N, 2 * orders + 2): matches of each order, clipped at the most that one reference holds;
        n-grams of the hypothesis; its length; the length of the reference nearest in length,
        the shorter of two.
    """
    number = len(hypotheses)
    layers = max(len(texts) for texts in references)
    table = count_ngrams(_stacked(references, hypotheses, layers), orders)
    counts = np.zeros((number, 2 * orders + 2))
    for order, entries in enumerate(table.orders):
        keys, found = entries.of(0, number)
        allowed = np.zeros(len(keys), dtype=np.int64)
        for layer in range(1, layers + 1):
            theirs, held = entries.of(layer * number, number)
            _, ours, other = np.intersect1d(keys, theirs, assume_unique=True, return_indices=True)
            allowed[ours] = np.maximum(allowed[ours], held[other])
        matches = np.minimum(found, allowed)
        counts[:, order] = np.bincount(keys // entries.kinds, matches, minlength=number)
        counts[:, orders + order] = np.maximum(0, table.lengths[:number] - order)
    counts[:, -2] = table.lengths[:number]
    counts[:, -1] = _nearest_lengths(references, table.lengths, number)
    return counts


def _stacked(
    references: Sequence[Sequence[Tokens]], hypotheses: Sequence[Tokens], layers: int
) -> Iterable[Tokens]:
    """Hypotheses, then every study's first reference, then the second; empty where none is."""
    yield from hypotheses
    for layer in range(layers):
        for texts in references:
            yield texts[layer] if layer < len(texts) else ()


def _nearest_lengths(references: Sequence[Any], lengths: Ints, number: int) -> list[int]:
    nearest = []
    for study, texts in enumerate(references):
        own = int(lengths[study])
        theirs = [int(lengths[(layer + 1) * number + study]) for layer in range(len(texts))]
        nearest.append(min((abs(length - own), length) for length in theirs)[1])
    return nearest

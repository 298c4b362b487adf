"""sacreBLEU's corpus BLEU and HSENet's n-gram precision, both on the tokens of mteval-v13a.

Shapes: N studies; counts as in `ngram_counts.overlap_counts`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import MissingExtraError
from uvlm.evaluation.words.ngram_counts import ORDERS

__all__ = ["ngram_precisions", "sacrebleu_score", "tokenizer_13a"]


def tokenizer_13a() -> Callable[[str], list[str]]:
    """sacreBLEU's default tokeniser: punctuation apart, except inside numbers; case kept.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    try:
        tokenizer = importlib.import_module("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    except ImportError as error:
        raise MissingExtraError("sacrebleu", "metrics") from error
    return lambda text: str(tokenizer(text.rstrip())).split()


def sacrebleu_score(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(..., 10) summed counts -> (...) BLEU from 0 to 1, with sacreBLEU's "exp" smoothing.

    Each order without a match counts half a match, the next a quarter, and so on; no match at all
    is 0 (sacrebleu/metrics/bleu.py, `compute_bleu`).
    """
    correct, total = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
    misses = np.cumsum((correct == 0) & (total > 0), axis=-1)
    matched = np.where(correct > 0, correct, 0.5**misses)
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = np.where(total > 0, matched / total, 0.0)
        geometric = np.exp(np.log(precisions).mean(axis=-1))
        own, reference = counts[..., -2], counts[..., -1]
        penalty = np.where(own < reference, np.exp(1.0 - reference / own), 1.0)
    found = (correct > 0).any(axis=-1) & (own > 0)
    return np.where(found, geometric * penalty, 0.0)


def ngram_precisions(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(N, 10) counts -> (N, 4) share of each study's 1- to 4-grams that its reference holds.

    HSENet prints these as "BLEU-1" to "BLEU-4"; they have no brevity penalty and no geometric mean
    and grow when a report is cut short.
    """
    correct, total = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
    return np.asarray(np.divide(correct, total, out=np.zeros(correct.shape), where=total > 0))

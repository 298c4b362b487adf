"""Corpus BLEU of generated reports, counted as pycocoevalcap counts, on white-space tokens.

Protocol `bleu@vlm3d` cleans as the VLM3D challenge: newline, double quote, underscore and
`<|eot_id|>` are deleted, a full stop between spaces is joined to its neighbours. `bleu@authors`
cleans as U-VLM's published code: one space after every full stop, so that "1.5 cm" becomes
"1. 5 cm". BLEU-mean is the arithmetic mean of BLEU-1 to BLEU-4.

Corpus BLEU depends on sums over studies only. `bleu` keeps one row of counts per study, so that
resampling studies needs no second look at the text.

Shapes: N studies; a row holds 4 clipped matches, 4 n-gram counts, hypothesis and reference length.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.words.ngram_counts import ORDERS, overlap_counts

__all__ = [
    "PROTOCOL",
    "BleuScore",
    "authors_clean",
    "bleu",
    "bleu_from_counts",
    "bleu_mean",
    "ngrams",
    "vlm3d_clean",
]

PROTOCOL = "bleu@vlm3d"
_TINY, _SMALL = 1e-15, 1e-9  # pycocoevalcap's guards against division by zero


@dataclass(frozen=True, kw_only=True, eq=False)
class BleuScore:
    """BLEU of a set of reports and the counts it was computed from."""

    counts: NDArray[np.float64]
    """(N, 10), one row per study."""

    @property
    def corpus(self) -> tuple[float, float, float, float]:
        """BLEU-1 to BLEU-4."""
        one, two, three, four = bleu_from_counts(self.counts.sum(axis=0)).tolist()
        return one, two, three, four

    @property
    def mean(self) -> float:
        """BLEU-mean of the corpus."""
        return float(bleu_mean(self.counts.sum(axis=0)))

    @property
    def per_study(self) -> NDArray[np.float64]:
        """(N, 4) BLEU-1 to BLEU-4 of each study alone."""
        return bleu_from_counts(self.counts)


def vlm3d_clean(text: str) -> str:
    """The challenge's cleaning, for reference and hypothesis alike."""
    for unwanted in ("<|eot_id|>", "\n", '"', "_"):
        text = text.replace(unwanted, "")
    return text.replace(" . ", ".")


def authors_clean(text: str) -> str:
    """U-VLM's cleaning (`clean_report_text` of evaluation/metrics/nlg.py, commit 5d7fde9)."""
    text = text.replace("<|eot_id|>", "").replace("\n", " ").replace('"', "")
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s*\.\s*", ". ", text)
    return re.sub(r"\.\s*\.", ".", text).strip()


def ngrams(text: str) -> tuple[int, dict[tuple[str, ...], int]]:
    """(number of tokens, count of each 1- to 4-gram) of a text, cleaned as for VLM3D."""
    words = vlm3d_clean(text).split()
    shifted = [words[start:] for start in range(ORDERS)]
    return len(words), dict(
        Counter(
            gram for order in range(ORDERS) for gram in zip(*shifted[: order + 1], strict=False)
        )
    )


def bleu(
    references: Sequence[str],
    hypotheses: Sequence[str],
    clean: Callable[[str], str] = vlm3d_clean,
) -> BleuScore:
    """Score each hypothesis against the reference of the same study.

    An empty hypothesis counts with no match; it is never left out.

    Raises:
        InputError: the numbers differ, or there is no pair, or a reference is empty.
    """
    if len(references) != len(hypotheses) or not references:
        raise InputError(
            f"{len(references)} reference reports and {len(hypotheses)} generated ones; BLEU needs "
            "one pair per study."
        )
    for number, reference in enumerate(references):
        if not clean(reference).strip():
            raise InputError(f"reference report {number + 1} is empty. Leave that study out.")
    return BleuScore(
        counts=overlap_counts(
            [[clean(text).split()] for text in references],
            [clean(text).split() for text in hypotheses],
        )
    )


def bleu_from_counts(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(..., 10) summed counts -> (..., 4) BLEU-1 to BLEU-4 (Papineni et al. 2002, Eq. 3)."""
    precisions = (counts[..., :4] + _TINY) / (counts[..., 4:8] + _SMALL)
    scores = np.cumprod(precisions, axis=-1) ** (1.0 / np.arange(1, ORDERS + 1))
    ratio = (counts[..., 8:9] + _TINY) / (counts[..., 9:10] + _SMALL)
    # Ratios near zero overflow 1 / ratio harmlessly: the penalty is exp(-inf) = 0.
    penalty = np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))
    return np.asarray(scores * penalty, dtype=np.float64)


def bleu_mean(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(..., 10) summed counts -> (...) BLEU-mean."""
    return np.asarray(bleu_from_counts(counts).mean(axis=-1), dtype=np.float64)

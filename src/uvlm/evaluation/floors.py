"""What a report model that never looks at the image would score.

Both floors come from the training reports alone; nothing here sees a held-out report.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from uvlm.errors import InputError
from uvlm.evaluation.text import ORDERS, bleu_mean, ngrams

__all__ = ["CONSTANT_LIMIT", "constant_report", "random_reports"]

CONSTANT_LIMIT = 2000
"""Training reports compared for the constant report; more are sampled down to so many."""


def constant_report(training: Sequence[str], seed: int = 0, limit: int = CONSTANT_LIMIT) -> str:
    """The training report with the highest BLEU-mean against all training reports.

    Every report is a candidate and a reference. For each n-gram the matches of a candidate that
    holds it c times, summed over all references, depend on c only, so that one table serves all
    candidates and the cost is linear in the text.

    Raises:
        InputError: there is no training report.
    """
    reports = _pick(training, seed, limit)
    cooked = [ngrams(report) for report in reports]
    held: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for _, counts in cooked:
        for ngram, count in counts.items():
            held[ngram].append(count)
    prefix: dict[tuple[str, ...], list[int]] = {}
    for ngram, values in held.items():
        values.sort()
        prefix[ngram] = [0, *np.cumsum(values).tolist()]
    reference_length = sum(length for length, _ in cooked)
    rows = np.zeros((len(reports), 2 * ORDERS + 2))
    for row, (length, counts) in zip(rows, cooked, strict=True):
        for ngram, count in counts.items():
            values = held[ngram]
            below = bisect_left(values, count)
            row[len(ngram) - 1] += prefix[ngram][below] + count * (len(values) - below)
        totals = [max(0, length - order) for order in range(ORDERS)]
        row[ORDERS:] = [*(len(reports) * np.array(totals)), len(reports) * length, reference_length]
    return reports[int(np.argmax(bleu_mean(rows)))]


def random_reports(training: Sequence[str], number: int, seed: int = 0) -> list[str]:
    """`number` training reports drawn with replacement.

    Raises:
        InputError: there is no training report.
    """
    reports = _pick(training, seed, len(training))
    chosen = np.random.default_rng(seed).integers(len(reports), size=number)
    return [reports[index] for index in chosen]


def _pick(training: Sequence[str], seed: int, limit: int) -> list[str]:
    if not training:
        raise InputError(
            "the floors need training reports, and the catalog has none outside the held-out "
            "split. Give the catalog the model was trained with."
        )
    if len(training) <= limit:
        return list(training)
    chosen = np.random.default_rng(seed).choice(len(training), size=limit, replace=False)
    return [training[index] for index in sorted(chosen)]

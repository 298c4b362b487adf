"""What simple report writers score, from training reports alone.

The constant and the random report know nothing of the study: what never looks at the image scores
this. The retrieved report knows which classes a model predicted for the study, and no more.

Shapes: T training reports, U different label vectors among them, N studies, C classes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.words.bleu import bleu_mean, ngrams
from uvlm.evaluation.words.ngram_counts import ORDERS

__all__ = [
    "CONSTANT_LIMIT",
    "constant_report",
    "floor_reports",
    "random_reports",
    "retrieved_reports",
]

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
    return reports[_central(reports)]


def _central(reports: Sequence[str]) -> int:
    """Position of the report with the highest BLEU-mean against all of them."""
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
    return int(np.argmax(bleu_mean(rows)))


def random_reports(training: Sequence[str], number: int, seed: int = 0) -> list[str]:
    """`number` training reports drawn with replacement.

    Raises:
        InputError: there is no training report.
    """
    reports = _pick(training, seed, len(training))
    chosen = np.random.default_rng(seed).integers(len(reports), size=number)
    return [reports[index] for index in chosen]


def retrieved_reports(
    training: Sequence[str],
    training_labels: NDArray[Any],
    labels: NDArray[Any],
    *,
    seed: int = 0,
    limit: int = CONSTANT_LIMIT,
) -> list[str]:
    """For each study the training report whose labels are nearest to the study's predicted ones.

    The floor of "classification plus a table of reports": all it knows of a study is which classes
    a model predicted, as labels of the predicted report or as a classifier's probabilities; every
    other word comes from a training patient. A report model that does not beat the floor of its
    own labels adds nothing to them. (With the study's true labels it would be an upper bound of
    such tables, not a floor.)

    Distance is the sum over classes of |predicted - training|: for 0 and 1 the number of classes
    that differ, for probabilities the number expected to differ. Of label vectors equally near,
    the one with the most training reports is taken, then the first. Among its reports the most
    central is: the one with the highest BLEU-mean against the others of that vector.

    Args:
        training_labels: (T, C) of 0 and 1, by the labeller that gave `labels` or near to it
        labels: (N, C) of 0 and 1, or probabilities
        seed, limit: of one label vector at most `limit` reports, drawn by the seed, are compared

    Raises:
        InputError: there is no training report, the shapes do not match, or a value is not a
            number from 0 to 1.
    """
    known, asked = _label_table(training_labels), _label_table(labels)
    if not len(training):
        _pick(training, seed, limit)
    if known.shape != (len(training), asked.shape[1]):
        raise InputError(
            f"training labels {known.shape} and labels {asked.shape} must have a row for each of "
            f"{len(training)} training reports and the same classes."
        )
    vectors, member, sizes = np.unique(known, axis=0, return_inverse=True, return_counts=True)
    # Most reports first; a stable sort keeps the order of `vectors` among equals.
    order = np.argsort(-sizes, kind="stable")
    distance = asked @ (1 - vectors[order]).T + (1 - asked) @ vectors[order].T
    # Sums of probabilities that are equal may differ in the last digit.
    nearest = order[np.argmin(distance.round(9), axis=1)]
    members = np.argsort(member.ravel(), kind="stable")
    ends = np.cumsum(sizes)
    chosen = {}
    for vector in np.unique(nearest).tolist():
        own = [training[i] for i in members[ends[vector] - sizes[vector] : ends[vector]]]
        chosen[vector] = constant_report(own, seed, limit)
    return [chosen[vector] for vector in nearest.tolist()]


def floor_reports(
    training: Sequence[str],
    predictions: Sequence[str],
    *,
    seed: int = 0,
    label: Callable[[Sequence[str]], NDArray[Any]] | None = None,
    limit: int = CONSTANT_LIMIT,
) -> dict[str, list[str]]:
    """Reports of every floor, one per study, by name.

    Args:
        predictions: the model's reports, for their number and, with `label`, their labels
        label: (N,) texts -> (N, C) labels of 0 and 1; None leaves out the retrieved reports
        limit: training reports looked at for the constant and the retrieved report; labelling
            all of a large set would take longer than everything else

    Raises:
        InputError: there is no training report.
    """
    number = len(predictions)
    floors = {
        "constant": [constant_report(training, seed, limit)] * number,
        "random": random_reports(training, number, seed),
    }
    if label is not None:
        table = _pick(training, seed, limit)
        floors["retrieved"] = retrieved_reports(table, label(table), label(predictions), seed=seed)
    return floors


def _label_table(labels: NDArray[Any]) -> NDArray[np.float64]:
    table = np.asarray(labels, dtype=np.float64)
    if table.ndim != 2 or not bool(((table >= 0) & (table <= 1)).all()):
        raise InputError(
            f"labels must be (studies, classes) of numbers from 0 to 1, got shape {table.shape}."
        )
    return table


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

"""Area under the ROC curve and average precision of one class, for many weightings at once.

Scores are sorted once. Both are then sums over the positive studies of something that needs only
how much weight of either kind lies above or below them: a cumulative sum and two gathers per
weighting. Studies of equal score are exactly tied.

Shapes: N studies of which P positive and Q negative, R weightings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvlm.evaluation.labels.arrays import Array
from uvlm.evaluation.labels.counts import divide
from uvlm.evaluation.measure import Weights

__all__ = ["RankedClass", "in_chunks", "rank"]

CHUNK = 1 << 19
"""Numbers in one array of a chunk: 4 MB, what stays in a processor's cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedClass:
    """The known studies of one class, sorted by score."""

    positives: NDArray[np.intp]
    """(P,) studies, lowest score first."""

    negatives: NDArray[np.intp]
    """(Q,) likewise."""

    lower_negatives: NDArray[np.intp]
    """(P,) how many negatives have a lower score than each positive."""

    not_higher_negatives: NDArray[np.intp]
    """(P,) how many have a lower or the same one."""

    lower_positives: NDArray[np.intp]
    """(P,) how many positives have a lower score."""

    def auroc(self, weights_NR: Array) -> Array:
        """(R,) share of pairs of a positive and a negative in the right order, ties half.

        nan where there is no pair (Hanley and McNeil 1982).
        """
        positive, negative = weights_NR[self.positives], weights_NR[self.negatives]
        below = _cumulated(negative)
        won = below[self.lower_negatives] + below[self.not_higher_negatives]
        pairs = positive.sum(axis=0) * negative.sum(axis=0)
        return divide(0.5 * np.einsum("pr,pr->r", positive, won), pairs, float("nan"))

    def average_precision(self, weights_NR: Array) -> Array:
        """(R,) mean over the positives of the precision at their score; nan without a positive.

        The sum of precision times gain in recall of scikit-learn's average_precision_score, without
        interpolation.
        """
        positive, negative = weights_NR[self.positives], weights_NR[self.negatives]
        all_positive, all_negative = positive.sum(axis=0), negative.sum(axis=0)
        hits = all_positive - _cumulated(positive)[self.lower_positives]
        false = all_negative - _cumulated(negative)[self.lower_negatives]
        precision = divide(hits, hits + false)
        return divide(np.einsum("pr,pr->r", positive, precision), all_positive, float("nan"))


def rank(truth: Array, scores: Array) -> RankedClass:
    """Sort the studies of a class.

    Args:
        truth: (N,) of 0, 1 or nan; unknown ones are left out
        scores: (N,)
    """
    positives, negatives = (_sorted(np.flatnonzero(truth == label), scores) for label in (1, 0))
    high, low = scores[positives], scores[negatives]
    return RankedClass(
        positives=positives,
        negatives=negatives,
        lower_negatives=np.searchsorted(low, high, side="left"),
        not_higher_negatives=np.searchsorted(low, high, side="right"),
        lower_positives=np.searchsorted(high, high, side="left"),
    )


def in_chunks(weights: Weights, score: Callable[[Array], Array]) -> Array:
    """`score` of (N, some of R) weights -> (some, M), over all of the (R, N) `weights`."""
    return np.concatenate([score(part) for part in _parts(weights)])


def _parts(weights: Weights) -> Iterator[Array]:
    step = max(1, CHUNK // weights.shape[1])
    for start in range(0, len(weights), step):
        # Studies first: a gather of studies then copies whole rows.
        yield np.ascontiguousarray(weights[start : start + step].T, dtype=np.float64)


def _sorted(studies: NDArray[np.intp], scores: Array) -> NDArray[np.intp]:
    return studies[np.argsort(scores[studies], kind="stable")]


def _cumulated(weights: Array) -> Array:
    """(K, R) -> (K + 1, R) sums of the first 0, 1, ..., K rows."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums

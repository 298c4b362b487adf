"""What every metric gives: scores of any resample of the studies.

A resample is a weight per study, how often it was drawn; weights of one are the data themselves. So
one interface serves metrics of sums over studies (BLEU, F1), of means (ROUGE-L, Dice) and of ranks
(AUROC, median rank), and bootstrap intervals need no second look at texts or voxels.

Shapes: N studies, R resamples, M scores of one measure, K counts per study.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Measure", "Weights", "among", "mean_measure", "sum_measure"]

Weights = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """One protocol over one set of studies."""

    protocol: str
    """As in `uvlm evaluate --list`."""

    names: tuple[str, ...]
    """Of the M scores, such as "BLEU-1" and "BLEU-mean"."""

    score: Callable[[Weights], NDArray[np.float64]]
    """(R, N) weights -> (R, M); a score that does not exist is nan."""

    per_study: NDArray[np.float64] | None = None
    """(N, M) scores of each study alone, where that means something."""

    notes: tuple[str, ...] = ()
    """What a reader must know, such as studies or classes left out."""

    higher_is_better: bool = True

    interval: bool = True
    """False where resamples are off to one side of the score: their spread is no interval."""

    members: NDArray[np.bool_] | None = None
    """(N,) of a floor: the studies it was scored on, where not on all."""

    def values(self, studies: int) -> NDArray[np.float64]:
        """(M,) scores of the data themselves."""
        return np.asarray(self.score(np.ones((1, studies)))[0])


def sum_measure(
    protocol: str,
    names: tuple[str, ...],
    counts: NDArray[Any],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    per_study: bool = True,
    notes: tuple[str, ...] = (),
) -> Measure:
    """A measure of counts summed over studies.

    Args:
        counts: (N, K)
        statistic: (..., K) sums -> (..., M)
        per_study: whether the statistic of one study's counts means something
    """
    table = np.asarray(counts, dtype=np.float64)
    return Measure(
        protocol=protocol,
        names=names,
        score=lambda weights: statistic(weights @ table),
        per_study=statistic(table) if per_study else None,
        notes=notes,
    )


def mean_measure(
    protocol: str,
    names: tuple[str, ...],
    per_study: NDArray[Any],
    *,
    notes: tuple[str, ...] = (),
    higher_is_better: bool = True,
) -> Measure:
    """A measure that is the plain mean over studies; a study's nan is left out of its column.

    Args:
        per_study: (N, M)
    """
    table = np.asarray(per_study, dtype=np.float64)
    known = ~np.isnan(table)
    filled = np.where(known, table, 0.0)

    def score(weights: Weights) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            means: NDArray[np.float64] = (weights @ filled) / (weights @ known.astype(float))
        return means

    return Measure(
        protocol=protocol,
        names=names,
        score=score,
        per_study=table,
        notes=notes,
        higher_is_better=higher_is_better,
    )


def among(measure: Measure, members: NDArray[np.bool_]) -> Measure:
    """A measure of some of the studies as one of all of them, whose others have no score.

    Args:
        members: (N,) those whom the measure is about
    """
    if members.all():
        return measure
    table = measure.per_study
    if table is not None:
        whole = np.full((len(members), table.shape[1]), np.nan)
        whole[members] = table
        table = whole
    return replace(
        measure, score=lambda weights: measure.score(weights[:, members]), per_study=table
    )

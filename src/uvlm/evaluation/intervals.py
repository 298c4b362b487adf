"""Paired bootstrap: does one set of reports really score higher than another on the same studies?

Patients, not studies, are drawn: two scans of one patient are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError

__all__ = ["Interval", "paired_bootstrap"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference and its percentile interval."""

    difference: float
    low: float
    high: float
    confidence: float
    resamples: int


def paired_bootstrap(
    first: NDArray[Any],
    second: NDArray[Any],
    statistic: Callable[[NDArray[Any]], NDArray[Any]],
    groups: Sequence[Hashable] | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of `statistic(first) - statistic(second)` (Efron and Tibshirani 1993, chapter 13).

    Args:
        first, second: (N, K) counts per study, in one order of studies
        statistic: (..., K) counts summed over studies -> (...) scores
        groups: patient of each study; None: every study its own

    Raises:
        InputError: the rows do not match.
    """
    if first.shape != second.shape or first.ndim != 2 or not len(first):
        raise InputError(
            f"paired scores need the same studies twice, got {first.shape} and {second.shape} rows."
        )
    names = list(range(len(first))) if groups is None else list(groups)
    if len(names) != len(first):
        raise InputError(f"{len(names)} patients are named for {len(first)} studies.")
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    member = np.array([index[name] for name in names])
    per_group = [np.zeros((len(index), first.shape[1])) for _ in range(2)]
    for total, counts in zip(per_group, (first, second), strict=True):
        np.add.at(total, member, counts)
    draws = np.random.default_rng(seed).multinomial(
        len(index), np.full(len(index), 1.0 / len(index)), size=resamples
    )
    differences = statistic(draws @ per_group[0]) - statistic(draws @ per_group[1])
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(differences, [tail, 1.0 - tail])
    whole = statistic(first.sum(axis=0)) - statistic(second.sum(axis=0))
    return Interval(
        difference=float(whole),
        low=float(low),
        high=float(high),
        confidence=confidence,
        resamples=resamples,
    )

"""Bootstrap over patients: how sure a score is, and whether one system really beats another.

Patients, not studies, are drawn: two scans of one patient are not independent. A resample is a
weight per study (see `measure`), so the same resamples serve every score of every system, which is
what makes comparisons paired.

Shapes: N studies, R resamples, M scores of one measure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.measure import Measure, Weights

__all__ = [
    "CONFIDENCE",
    "Difference",
    "Interval",
    "Resamples",
    "draws_of",
    "limits",
    "paired_bootstrap",
    "paired_difference",
    "patient_resamples",
    "patient_weights",
    "resample_key",
]

CONFIDENCE = 0.95

CHUNK = 50
"""Resamples a measure scores at a time: one that sorts all studies per class and resample then
takes some 20 MB, not half a gigabyte."""


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
    draws = _draw(len(index), resamples, seed)
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Resamples:
    """Weights of R resamples, kept per patient: those of 180,000 questions would take 1.4 GB."""

    draws: NDArray[np.int32]
    """(R, P) how often each of P patients is drawn."""

    member: NDArray[np.int64]
    """(N,) patient of each study."""

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, rows: slice) -> Weights:
        """(r, N) weights of some resamples."""
        return self.draws[rows][:, self.member].astype(np.float64)


def patient_resamples(patients: Sequence[str], resamples: int = 1000, seed: int = 0) -> Resamples:
    """How often each study is drawn when patients are drawn with replacement.

    Depends on who the patients are, not on the order of the studies.

    Raises:
        InputError: there is no study.
    """
    if not patients:
        raise InputError("there is no study to score.")
    index = {name: i for i, name in enumerate(sorted(set(patients)))}
    member = np.array([index[name] for name in patients], dtype=np.int64)
    return Resamples(draws=_draw(len(index), resamples, seed), member=member)


def patient_weights(patients: Sequence[str], resamples: int = 1000, seed: int = 0) -> Weights:
    """(R, N) weights of `patient_resamples`, all at once."""
    return patient_resamples(patients, resamples, seed)[:]


def _draw(groups: int, resamples: int, seed: int) -> NDArray[np.int32]:
    """(resamples, groups) how often each group is drawn."""
    chances = np.full(groups, 1.0 / groups)
    random = np.random.default_rng(seed)
    draws = np.empty((resamples, groups), dtype=np.int32)
    for start in range(0, resamples, CHUNK):
        part = draws[start : start + CHUNK]
        part[:] = random.multinomial(groups, chances, size=len(part))
    return draws


def resample_key(ids: Sequence[str], patients: Sequence[str], resamples: int, seed: int) -> str:
    """Equal for two results exactly if their resamples are the same: 16 hexadecimal digits."""
    content = [sorted(zip(ids, patients, strict=True)), resamples, seed]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def draws_of(measure: Measure, weights: Weights | Resamples) -> NDArray[np.float64]:
    """(R, N) weights -> (R, M) scores, a few resamples at a time to bound the memory."""
    parts = [measure.score(weights[i : i + CHUNK]) for i in range(0, len(weights), CHUNK)]
    if not parts:
        return np.empty((0, len(measure.names)))
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])


def limits(draws: NDArray[np.float64], confidence: float = CONFIDENCE) -> NDArray[np.float64]:
    """(R, M) -> (2, M) percentile interval (Efron and Tibshirani 1993, section 13.3).

    A resample in which a score does not exist, such as the F1 of a class nobody of the drawn has,
    is left out; a score that fewer than half of the resamples have gets no interval (nan).
    """
    tail = (1.0 - confidence) / 2.0
    found = np.full((2, draws.shape[1]), np.nan)
    for column, values in enumerate(draws.T):
        known = values[np.isfinite(values)]
        if known.size and 2 * known.size >= values.size:
            found[:, column] = np.quantile(known, [tail, 1.0 - tail])
    return found


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One score of two systems on the same studies."""

    difference: float
    """First minus second."""

    low: float
    high: float
    p_value: float
    """Two-sided; not corrected for the number of comparisons."""


def paired_difference(
    values: tuple[float, float],
    draws: tuple[NDArray[np.float64], NDArray[np.float64]],
    confidence: float = CONFIDENCE,
) -> Difference:
    """Compare two systems scored on the same R resamples.

    The p-value is twice the smaller share of resamples on either side of no difference, which is
    the level at which the percentile interval just reaches zero (Efron and Tibshirani 1993,
    section 15.4); one is added to count and number, so that it is never zero (Davison and Hinkley
    1997, Eq. 4.11).

    Args:
        values: of first and second on all studies
        draws: (R,) of each, of the same weights
    """
    gaps = draws[0] - draws[1]
    gaps = gaps[np.isfinite(gaps)]
    low, high = (
        limits(gaps[:, None], confidence)[:, 0]
        if 2 * gaps.size >= len(draws[0])
        else (np.nan, np.nan)
    )
    p_value = float("nan")
    if np.isfinite(low):
        fewer = min(int((gaps <= 0).sum()), int((gaps >= 0).sum()))
        p_value = min(1.0, 2.0 * (fewer + 1) / (gaps.size + 1))
    return Difference(
        difference=float(values[0] - values[1]), low=float(low), high=float(high), p_value=p_value
    )

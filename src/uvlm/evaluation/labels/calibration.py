"""Do probabilities mean what they say? Calibration error, Brier score, one temperature for all.

Of the studies to which a model gives 0.3, three in ten should be positive. The expected calibration
error compares both in 15 bins of equal width, for each class on its own. With few studies in a bin
it is above 0 for perfect probabilities too; compare systems on the same studies.

Shapes: N studies, C classes, B bins, R weightings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.labels.arrays import (
    Array,
    label_array,
    probabilities_from_logits,
    probability_array,
)
from uvlm.evaluation.labels.counts import divide, nan_mean
from uvlm.evaluation.measure import Weights

__all__ = [
    "BINS",
    "CalibrationError",
    "Reliability",
    "Temperature",
    "fit_temperature",
    "reliability",
]

BINS = 15
CLIP = 1e-7
"""Probabilities of 0 and 1 have no logit; they are moved this far inside."""

COLDEST, HOTTEST = 0.01, 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """What a reliability plot shows; a bin without studies is nan."""

    names: tuple[str, ...]
    edges: Array
    """(B + 1,) a bin holds its upper edge, the first its lower one too."""

    predicted: Array
    """(C, B) mean probability."""

    observed: Array
    """(C, B) share of positive studies."""

    counts: NDArray[np.int64]
    """(C, B) studies."""

    def together(self) -> Reliability:
        """All classes as one."""
        counts = self.counts.sum(axis=0, keepdims=True)
        means = [
            divide(np.nansum(part * self.counts, axis=0, keepdims=True), counts, float("nan"))
            for part in (self.predicted, self.observed)
        ]
        return Reliability(
            names=("all classes",),
            edges=self.edges,
            predicted=means[0],
            observed=means[1],
            counts=counts,
        )


class CalibrationError:
    """Expected calibration error of any weighting (Guo et al. 2017, Eq. 5, for binary classes)."""

    def __init__(self, truth: Array, probabilities: Array, bins: int = BINS) -> None:
        """(N, C) labels, nan for unknown, and probabilities."""
        known = ~np.isnan(truth)
        self._gap = np.where(known, probabilities - np.nan_to_num(truth), 0.0)
        self._known, self._bin, self._bins = known, _bin_of(probabilities, bins), bins

    def __call__(self, weights: Weights) -> Array:
        """(R, N) -> (R, C + 2): mean over classes, all classes in one set of bins, each class."""
        each, sums, masses = [], np.zeros((len(weights), self._bins)), np.zeros(len(weights))
        for column in range(self._gap.shape[1]):
            table = np.zeros((len(self._gap), self._bins))
            table[np.arange(len(table)), self._bin[:, column]] = self._gap[:, column]
            gaps = weights @ table
            mass = weights @ self._known[:, column].astype(np.float64)
            each.append(divide(np.abs(gaps).sum(axis=1), mass, float("nan")))
            sums, masses = sums + gaps, masses + mass
        classes = np.stack(each, axis=1)
        together = divide(np.abs(sums).sum(axis=1), masses, float("nan"))
        return np.column_stack([nan_mean(classes), together, classes])


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """A number that logits are divided by: above 1 it makes a model less sure."""

    value: float
    studies: int
    """It was fitted on."""

    likelihood_before: float
    likelihood_after: float
    """Mean negative log-likelihood of a known label, in nats, on those studies."""

    ece_before: float
    ece_after: float
    """Mean over classes, on those studies."""

    def apply(self, probabilities: Any) -> Array:
        """(N, C) -> (N, C)"""
        return probabilities_from_logits(_logits(np.asarray(probabilities)) / self.value)

    @property
    def at_limit(self) -> bool:
        """Whether it was stopped by the range that is searched: labels and probabilities agree, or
        contradict each other, completely."""
        return not COLDEST * 1.01 < self.value < HOTTEST / 1.01


def fit_temperature(truth: Any, probabilities: Any, names: Sequence[str]) -> Temperature:
    """Temperature scaling (Guo et al. 2017, section 4.2) with one temperature for all classes.

    Args:
        truth: (N, C) of validation studies: 0, 1 or nan for unknown
        probabilities: (N, C)

    Raises:
        InputError: as `label_array` and `probability_array`, or no label is known.
    """
    from scipy.optimize import minimize_scalar

    labels = label_array(truth, names, "validation labels")
    values = probability_array(probabilities, names, len(labels))
    known = ~np.isnan(labels)
    if not known.any():
        raise InputError("validation labels: none is known. Give 0 or 1 in at least one class.")
    # log(1 + exp(-x)) of the logit towards the label.
    towards = np.where(labels[known] == 1, 1.0, -1.0) * _logits(values[known])

    def likelihood(log_value: float) -> float:
        return float(np.logaddexp(0.0, -towards / np.exp(log_value)).mean())

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    found = minimize_scalar(likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    value = float(np.exp(found.x))
    once = np.ones((1, len(labels)))
    after = probabilities_from_logits(_logits(values) / value)
    return Temperature(
        value=value,
        studies=len(labels),
        likelihood_before=likelihood(0.0),
        likelihood_after=likelihood(float(found.x)),
        ece_before=float(CalibrationError(labels, values)(once)[0, 0]),
        ece_after=float(CalibrationError(labels, after)(once)[0, 0]),
    )


def reliability(
    truth: Array, probabilities: Array, names: Sequence[str], bins: int = BINS
) -> Reliability:
    """The curve of each class; (N, C) labels, nan for unknown, and probabilities."""
    known, place = ~np.isnan(truth), _bin_of(probabilities, bins)
    inside = (place[..., None] == np.arange(bins)) & known[..., None]  # (N, C, B)
    counts = inside.sum(axis=0)
    predicted = (inside * probabilities[..., None]).sum(axis=0)
    observed = (inside * np.nan_to_num(truth)[..., None]).sum(axis=0)
    nan = float("nan")
    return Reliability(
        names=tuple(names),
        edges=np.linspace(0, 1, bins + 1),
        predicted=divide(predicted, counts, nan),
        observed=divide(observed, counts, nan),
        counts=counts,
    )


def _bin_of(probabilities: Array, bins: int) -> NDArray[np.intp]:
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities, side="left")


def _logits(probabilities: Array) -> Array:
    inside = np.clip(probabilities, CLIP, 1 - CLIP)
    logits: Array = np.log(inside) - np.log1p(-inside)
    return logits

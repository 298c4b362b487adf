"""How each protocol of `probabilities` is computed.

Shapes: N studies, C classes, R weightings, (..., 4, C) counts as in `label_counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uvlm.evaluation.labels.arrays import Array, listed, names_where
from uvlm.evaluation.labels.calibration import BINS, CalibrationError, Temperature
from uvlm.evaluation.labels.counts import confusion, divide, nan_mean, precision_recall_f1
from uvlm.evaluation.labels.ranking import RankedClass, in_chunks, rank
from uvlm.evaluation.labels.thresholds import corner_thresholds
from uvlm.evaluation.measure import Measure, Weights, mean_measure, sum_measure

__all__ = ["MAKERS", "ProbabilityData"]

NO_INTERVAL = (
    "No interval and no floor: resampling only adds to this error (bins with fewer different "
    "studies stray further), and a constant at the share of positives has 0 without looking."
)


@dataclass(frozen=True, kw_only=True)
class ProbabilityData:
    """What every protocol is computed from."""

    truth: Array
    probabilities: Array
    names: tuple[str, ...]
    thresholds: Array | None
    temperature: Temperature | None

    @property
    def both(self) -> Any:
        """(C,) whether a class has a positive and a negative study."""
        return (self.truth == 1).any(axis=0) & (self.truth == 0).any(axis=0)


def _ranked(
    protocol: str, data: ProbabilityData, kind: str, score: Callable[[RankedClass, Array], Array]
) -> Measure:
    """A measure of each class's order of studies and their mean."""
    both = data.both
    columns = zip(data.truth.T, data.probabilities.T, both, strict=True)
    classes = [rank(truth, values) if scored else None for truth, values, scored in columns]

    def part(weights_NR: Array) -> Array:
        nothing = np.full(weights_NR.shape[1], np.nan)
        each = [nothing if one is None else score(one, weights_NR) for one in classes]
        values = np.stack(each, axis=1)
        return np.column_stack([nan_mean(values), values])

    return Measure(
        protocol=protocol,
        names=_rows(kind, data.names),
        score=lambda weights: in_chunks(weights, part),
        notes=(*_left_out(data), *_look_like_labels(data)),
    )


def _auroc(protocol: str, data: ProbabilityData) -> Measure:
    return _ranked(protocol, data, "AUROC", RankedClass.auroc)


def _average_precision(protocol: str, data: ProbabilityData) -> Measure:
    return _ranked(protocol, data, "average precision", RankedClass.average_precision)


def _at_half(protocol: str, data: ProbabilityData) -> Measure:
    return _at(protocol, data, data.probabilities >= 0.5, ())


def _at_chosen(protocol: str, data: ProbabilityData) -> Measure:
    assert data.thresholds is not None
    missing = np.isnan(data.thresholds)
    values = np.where(missing, 0.5, data.thresholds)
    rows = [f"{name} {value:.3f}" for name, value in zip(data.names, values, strict=True)]
    notes: tuple[str, ...] = (f"Thresholds: {listed(rows, len(rows))}.",)
    if missing.any():
        without = listed(names_where(data.names, missing))
        notes = (*notes, f"No positive validation study, threshold 0.5: {without}.")
    return _at(protocol, data, data.probabilities >= values, notes)


def _at(protocol: str, data: ProbabilityData, predicted: Any, notes: tuple[str, ...]) -> Measure:
    counts = confusion(data.truth, predicted.astype(np.float64))

    def statistic(sums: Array) -> Array:
        each = sums.reshape(*sums.shape[:-1], 4, -1)
        precision, recall, f1 = (
            np.where(_has_both(each), v, np.nan) for v in precision_recall_f1(each)
        )
        means = [nan_mean(values)[..., None] for values in (f1, precision, recall)]
        return np.concatenate([*means, f1], axis=-1)

    return sum_measure(
        protocol,
        ("F1", "precision", "recall", *_rows("F1", data.names)[1:]),
        counts.reshape(len(counts), -1),
        statistic,
        per_study=False,
        notes=(*_left_out(data), *notes),
    )


def _has_both(counts: Array) -> Any:
    """(..., 4, C) -> (..., C)"""
    tp, fp, fn, tn = (counts[..., i, :] for i in range(4))
    return (tp + fn > 0) & (fp + tn > 0)


def _legacy(protocol: str, data: ProbabilityData) -> Measure:
    thresholds = corner_thresholds(data.truth, data.probabilities)
    predicted = data.probabilities > np.where(np.isnan(thresholds), 1.0, thresholds)
    counts = confusion(data.truth, predicted.astype(np.float64))

    def statistic(sums: Array) -> Array:
        each = sums.reshape(*sums.shape[:-1], 4, -1)
        tp, fp, fn, tn = (each[..., i, :] for i in range(4))
        present, absent = divide(2 * tp, 2 * tp + fp + fn), divide(2 * tn, 2 * tn + fp + fn)
        every = each.sum(axis=-2)
        weighted = divide(present * (tp + fn) + absent * (tn + fp), every)
        scores = (weighted, divide(tp + tn, every), divide(tp, tp + fp))
        known = [np.where(_has_both(each), values, np.nan) for values in scores]
        means = [nan_mean(values)[..., None] for values in known]
        return np.concatenate([*means, known[0]], axis=-1)

    return sum_measure(
        protocol,
        ("weighted F1", "accuracy", "precision", *_rows("weighted F1", data.names)[1:]),
        counts.reshape(len(counts), -1),
        statistic,
        per_study=False,
        notes=(*_left_out(data), "Too high: thresholds were chosen on the scored studies."),
    )


def _ece(protocol: str, data: ProbabilityData) -> Measure:
    return Measure(
        protocol=protocol,
        names=("ECE", "ECE, all classes together", *_rows("ECE", data.names)[1:]),
        score=CalibrationError(data.truth, data.probabilities, BINS),
        notes=(*_unknown(data), NO_INTERVAL),
        higher_is_better=False,
        interval=False,
    )


def _ece_at_temperature(protocol: str, data: ProbabilityData) -> Measure:
    found = data.temperature
    assert found is not None
    before = CalibrationError(data.truth, data.probabilities, BINS)
    after = CalibrationError(data.truth, found.apply(data.probabilities), BINS)

    def score(weights: Weights) -> Array:
        scaled = after(weights)
        return np.column_stack([scaled[:, 0], before(weights)[:, 0], scaled[:, 1:]])

    limit = " It lies at the limit of what was searched." if found.at_limit else ""
    return Measure(
        protocol=protocol,
        names=("ECE", "ECE before", "ECE, all classes together", *_rows("ECE", data.names)[1:]),
        score=score,
        notes=(
            *_unknown(data),
            NO_INTERVAL,
            f"Temperature {found.value:.3f}, fitted on {found.studies} validation studies (ECE "
            f"there {found.ece_before:.3f} before, {found.ece_after:.3f} after).{limit}",
        ),
        higher_is_better=False,
        interval=False,
    )


def _brier(protocol: str, data: ProbabilityData) -> Measure:
    squared = (data.probabilities - data.truth) ** 2
    means = mean_measure(protocol, data.names, squared)

    def score(weights: Weights) -> Array:
        values = means.score(weights)
        return np.column_stack([nan_mean(values), values])

    return Measure(
        protocol=protocol,
        names=_rows("Brier score", data.names),
        score=score,
        per_study=np.column_stack([nan_mean(squared), squared]),
        notes=_unknown(data),
        higher_is_better=False,
    )


def _rows(kind: str, names: Sequence[str]) -> tuple[str, ...]:
    """The mean's name and one per class."""
    return (kind, *(f"{kind}: {name}" for name in names))


def _left_out(data: ProbabilityData) -> tuple[str, ...]:
    one = names_where(data.names, ~data.both)
    left = (f"Not scored, positive or negative studies only: {listed(one)}.",) if one else ()
    return (*_unknown(data), *left)


def _unknown(data: ProbabilityData) -> tuple[str, ...]:
    number = int(np.isnan(data.truth).sum())
    return (f"{number} unknown labels are left out.",) if number else ()


def _look_like_labels(data: ProbabilityData) -> tuple[str, ...]:
    if np.isin(data.probabilities, (0.0, 1.0)).all():
        return ("All probabilities are 0 or 1: labels have no order to score.",)
    return ()


MAKERS: dict[str, Callable[[str, ProbabilityData], Measure]] = {
    "auroc": _auroc,
    "average_precision": _average_precision,
    "f1@0.5": _at_half,
    "f1@validation": _at_chosen,
    "f1@ctclip-legacy": _legacy,
    "ece@15": _ece,
    "ece@temperature": _ece_at_temperature,
    "brier": _brier,
}
"""Protocol -> what computes it."""

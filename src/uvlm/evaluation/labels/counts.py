"""Counts of right and wrong labels, and the ratios made of them.

Shapes: N studies, C classes, (..., 4, C) counts: true positive, false positive, false negative,
true negative. An unknown label (nan) adds to none of the four.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from uvlm.evaluation.labels.arrays import Array

__all__ = ["confusion", "crg", "divide", "nan_mean", "precision_recall_f1"]


def confusion(truth: Array, predicted: Array) -> Array:
    """(N, C) labels, nan for unknown, and predictions -> (N, 4, C) of 0 and 1."""
    yes, no, said = truth == 1, truth == 0, predicted == 1
    return np.stack([yes & said, no & said, yes & ~said, no & ~said], axis=1).astype(np.float64)


def divide(above: Any, below: Any, empty: float = 0.0) -> Array:
    """above / below, `empty` where below is 0."""
    full: Array = np.full(np.broadcast_shapes(above.shape, below.shape), empty)
    np.divide(above, below, out=full, where=below != 0)
    return full


def nan_mean(values: Array) -> Array:
    """(..., C) -> (...) mean of what is not nan; nan where all are."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1), float("nan"))


def precision_recall_f1(counts: Array, empty: float = 0.0) -> tuple[Array, Array, Array]:
    """(..., 4, C) counts -> three of (..., C); `empty` where there is nothing to divide by."""
    tp, fp, fn = (counts[..., i, :] for i in range(3))
    return (
        divide(tp, tp + fp, empty),
        divide(tp, tp + fn, empty),
        divide(2 * tp, 2 * tp + fp + fn, empty),
    )


def crg(counts: Array) -> Array:
    """(..., 4) counts summed over classes -> (...) CRG of the challenge's own formula."""
    tp, fp, fn, tn = (counts[..., i] for i in range(4))
    every, positive = tp + fp + fn + tn, tp + fn
    r = divide(every - positive, 2 * positive, float("nan"))
    u = (every - positive) / 2
    s = r * tp - r * fn - fp
    return divide(u, 2 * u - s)

"""Precision, recall and F1 of detections, with one rule for what does not exist.

- nothing true and nothing predicted: none of the three exists (nan)
- something true, nothing predicted: precision 0, recall 0, F1 0
- something predicted, nothing true: precision 0, no recall (nan), F1 0

So a class of which no study has a case does not count as failed, as `zero_division=0` would have
it, and false alarms in such a class still cost.
"""

from __future__ import annotations

import numpy as np

from uvlm.evaluation.labels.arrays import Array
from uvlm.evaluation.labels.counts import divide

__all__ = ["EMPTY", "detection_rates"]

EMPTY = (
    "Where nothing is true and nothing predicted, precision, recall and F1 do not exist; "
    "predicted and nothing true: precision and F1 are 0, recall does not exist; true and nothing "
    "predicted: all three are 0. What does not exist is left out of means."
)
"""The same for a reader."""

NAN = float("nan")


def detection_rates(true: Array, found: Array, predicted: Array, right: Array) -> Array:
    """(..., 3) F1, precision and recall; F1 is the harmonic mean of the other two.

    Args:
        true: (...) things that are there
        found: (...) how many of these were found
        predicted: (...) things that were predicted
        right: (...) how many of these are right; it may differ from `found`, for one predicted
            lesion can cover two true ones
    """
    none_right = divide(0.0 * true, true, NAN)
    precision = np.where(predicted > 0, divide(right, predicted), none_right)
    recall = divide(found, true, NAN)
    both = precision + recall
    f1 = divide(2.0 * precision * recall, both)
    f1 = np.where(np.isnan(recall), 0.0 * precision, f1)
    return np.stack([f1, precision, recall], axis=-1)

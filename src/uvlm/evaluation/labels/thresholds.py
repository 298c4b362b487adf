"""From a probability to a label: thresholds are chosen on validation studies and applied to others.

A threshold chosen on the studies that are then scored makes the score too high; only
`corner_thresholds`, which repeats a published number, does it.

Shapes: N studies, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from uvlm.errors import InputError
from uvlm.evaluation.labels.arrays import Array, label_array, listed, probability_array
from uvlm.evaluation.labels.counts import divide

__all__ = ["check_apart", "choose_thresholds", "corner_thresholds"]


def choose_thresholds(truth: Any, probabilities: Any, names: Sequence[str]) -> Array:
    """The threshold of each class with the highest F1 on validation studies.

    Candidates are the probabilities themselves (present from p >= threshold); of several with the
    same F1 the highest is taken. A class without a positive study has nan: nothing can be chosen.

    Args:
        truth: (N, C) of 0, 1 or nan for unknown
        probabilities: (N, C)

    Returns:
        (C,)

    Raises:
        InputError: as `label_array` and `probability_array`.
    """
    labels = label_array(truth, names, "validation labels")
    values = probability_array(probabilities, names, len(labels))
    columns = zip(labels.T, values.T, strict=True)
    return np.array([_best(*column) for column in columns], dtype=np.float64)


def _best(truth: Array, values: Array) -> float:
    known = ~np.isnan(truth)
    order = np.argsort(-values[known], kind="stable")
    scores, hits = values[known][order], np.cumsum(truth[known][order])
    if not len(hits) or hits[-1] == 0:
        return float("nan")
    # All studies of one score are called present together: only the last of them is a candidate.
    last = np.append(scores[1:] != scores[:-1], True)
    f1 = 2 * hits[last] / (np.flatnonzero(last) + 1 + hits[-1])
    return float(scores[last][f1.argmax()])


def corner_thresholds(truth: Array, probabilities: Array) -> Array:
    """CT-CLIP's thresholds: of 100 from 0 to 1 that nearest to the ROC curve's corner.

    Of several the highest, as `find_threshold` of CT-CLIP's bootstrap_values.py does. A class whose
    known studies are all of one kind has nan.

    Args:
        truth: (N, C) of 0, 1 or nan
        probabilities: (N, C); present above, not at, the threshold
    """
    grid = np.linspace(0, 1, 100)
    chosen = []
    for labels, values in zip(truth.T, probabilities.T, strict=True):
        shares = []
        for label in (1, 0):
            ordered = np.sort(values[labels == label])
            above = len(ordered) - np.searchsorted(ordered, grid, side="right")
            shares.append(divide(above, np.array(len(ordered)), float("nan")))
        distance = np.sqrt((1 - shares[0]) ** 2 + shares[1] ** 2)
        last = len(grid) - 1 - int(distance[::-1].argmin())
        chosen.append(float("nan") if np.isnan(distance).any() else grid[last])
    return np.array(chosen, dtype=np.float64)


def check_apart(validation: Iterable[str], test: Iterable[str], what: str = "studies") -> None:
    """Refuse to choose on the studies (or patients) that are scored.

    Args:
        what: the identifiers are of

    Raises:
        InputError: the two share an identifier.
    """
    shared = sorted(set(validation) & set(test))
    if shared:
        # Who a patient is belongs into no message.
        named = f" ({listed(shared, 3)})" if what == "studies" else ""
        raise InputError(
            f"{len(shared)} of the validation {what} are also scored{named}. Thresholds and "
            f"temperature need other {what}; give a validation file without them."
        )

"""Voxels that two label maps on one grid share, class by class.

Protocol `dice@study`: one value per study and class; a class absent from both maps has no value
(nan), a class present in one map only scores 0. Means skip nan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError

__all__ = ["Overlap", "dice", "overlaps"]


@dataclass(frozen=True)
class Overlap:
    """One class, in voxels."""

    true: int
    predicted: int
    both: int

    @property
    def dice(self) -> float:
        """2 |A and B| / (|A| + |B|); nan if both are empty."""
        size = self.true + self.predicted
        return 2.0 * self.both / size if size else float("nan")

    @property
    def iou(self) -> float:
        """|A and B| / |A or B|; nan if both are empty."""
        size = self.true + self.predicted - self.both
        return self.both / size if size else float("nan")


def dice(
    prediction: NDArray[Any], truth: NDArray[Any], classes: Mapping[str, int]
) -> dict[str, float]:
    """Class name -> Dice; see `overlaps`."""
    return {name: each.dice for name, each in overlaps(prediction, truth, classes).items()}


def overlaps(
    prediction: NDArray[Any], truth: NDArray[Any], classes: Mapping[str, int]
) -> dict[str, Overlap]:
    """Class name -> voxels in either map and in both, in one pass, slice by slice.

    Args:
        prediction, truth: integer label maps of one shape
        classes: name -> value in both maps

    Raises:
        InputError: the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise InputError(
            f"the predicted mask has shape {prediction.shape}, the true one {truth.shape}. "
            "Compare masks on one grid."
        )
    values = np.array(list(classes.values()), dtype=np.int64)
    counts = np.zeros((3, len(values)), np.int64)
    for guess, true in zip(prediction, truth, strict=True):
        for total, voxels in zip(counts, (true, guess, true[true == guess]), strict=True):
            total += _counts(voxels, int(values.max(initial=0)))[values]
    return {
        name: Overlap(int(true), int(predicted), int(both))
        for name, (true, predicted, both) in zip(classes, counts.T, strict=True)
    }


def _counts(voxels: NDArray[Any], largest: int) -> NDArray[np.int64]:
    """(at least `largest` + 1,) how often every value occurs; negative values are no class."""
    flat = voxels.ravel()
    return np.bincount(flat if flat.dtype.kind == "u" else flat[flat >= 0], minlength=largest + 1)

"""Dice per class of two label maps on one grid.

Protocol `dice@study`: one value per study and class; a class absent from both maps has no value
(nan), a class present in one map only scores 0. Means skip nan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError

__all__ = ["dice"]


def dice(
    prediction: NDArray[Any], truth: NDArray[Any], classes: Mapping[str, int]
) -> dict[str, float]:
    """Class name -> Dice, in one pass over the voxels.

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
    predicted, true, both = (
        np.bincount(voxels.ravel()[voxels.ravel() >= 0], minlength=int(values.max(initial=0)) + 1)
        for voxels in (prediction, truth, prediction[prediction == truth])
    )
    sizes = (predicted[values] + true[values]).astype(float)
    with np.errstate(invalid="ignore"):
        scores = 2.0 * both[values] / sizes
    return {name: float(score) for name, score in zip(classes, scores, strict=True)}

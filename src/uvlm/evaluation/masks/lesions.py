"""Lesions found and missed: connected pieces of a class instead of voxels.

Pieces that touch at a face, an edge or a corner are one lesion (26-connected), as in the counts of
the abdominal labels. A true lesion is found when a predicted lesion of its class shares a voxel
with it, or, with a threshold, when one predicted lesion reaches that IoU with it. A predicted
lesion is right by the same rule. Nothing is matched one to one: a prediction that covers two true
lesions finds both, and two predictions in one true lesion are both right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.errors import ConfigError, InputError

__all__ = ["LesionCounts", "lesion_counts"]

TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class LesionCounts:
    """One class of one study."""

    true: int = 0
    found: int = 0
    """True lesions that were found."""

    predicted: int = 0
    right: int = 0
    """Predicted lesions that are right."""


def lesion_counts(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], iou: float = 0.0
) -> LesionCounts:
    """Count lesions of two masks (z, y, x) of one shape.

    Args:
        iou: least intersection over union of a true and a predicted lesion; 0: any shared voxel

    Raises:
        InputError: the shapes differ.
        ConfigError: `iou` is not from 0 to 1.
    """
    if truth.shape != predicted.shape:
        raise InputError(f"masks of shapes {truth.shape} and {predicted.shape}: give one grid.")
    if not 0.0 <= iou <= 1.0:
        raise ConfigError(f"the IoU of a found lesion must be from 0 to 1, got {iou}.")
    lesions, true = ndimage.label(truth, structure=TOUCHING)
    guesses, number = ndimage.label(predicted, structure=TOUCHING)
    shared = truth & predicted
    pairs, voxels = np.unique(
        np.stack([lesions[shared], guesses[shared]]), axis=1, return_counts=True
    )
    if iou > 0.0:
        sizes, guess_sizes = np.bincount(lesions[truth]), np.bincount(guesses[predicted])
        union = sizes[pairs[0]] + guess_sizes[pairs[1]] - voxels if pairs.size else voxels
        pairs = pairs[:, voxels >= iou * union]
    return LesionCounts(
        true=int(true),
        found=len(np.unique(pairs[0])),
        predicted=int(number),
        right=len(np.unique(pairs[1])),
    )

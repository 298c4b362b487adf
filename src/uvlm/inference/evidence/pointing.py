"""The pointing test: does a heat map's peak fall on what the sentence is about?

Only for studies whose lesions are known. A lesion is grown by `REACH` voxels of the prepared
volume, for no map is finer. Beside every accuracy stands what a random voxel of the body reaches.
No torch import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.evaluation.intervals import limits, patient_weights
from uvlm.phantom.classes import label_class

__all__ = ["REACH", "Accuracy", "Pointed", "accuracy", "is_widespread", "point", "truth_class"]

REACH = 2

ONE_SIDED = 0.9
"""Share of a lesion on one half of the volume from which on it has a side."""

WIDESPREAD = (
    "Emphysema",
    "Mosaic attenuation pattern",
    "Interlobular septal thickening",
    "Cardiomegaly",
)


def truth_class(label: str) -> str:
    """Mask class of a synthetic chest study that shows a CT-RATE label."""
    return "heart" if label == "Cardiomegaly" else label_class(label)


def is_widespread(label: str) -> bool:
    """Whether a finding fills much of lung or chest, so that pointing at it is little."""
    return label in WIDESPREAD


@dataclass(frozen=True, kw_only=True)
class Pointed:
    """One heat map against one lesion mask."""

    hit: bool
    """The peak lies in the grown lesion."""

    chance: float
    """Probability that a random voxel of the body does."""

    energy: float
    """Share of the heat inside the lesion itself, 0 to 1."""

    share: float
    """Of the body that the lesion fills."""

    side: bool | None
    """More heat on the lesion's half of the volume than on the other; None if it has no side."""


def point(
    heat: NDArray[np.floating[Any]], truth: NDArray[np.bool_], body: NDArray[np.bool_]
) -> Pointed:
    """Score one heat map.

    Args:
        heat: (z, y, x) at least 0; all 0 points nowhere
        truth: (z, y, x) where the finding is
        body: (z, y, x) where a guess could fall

    Raises:
        ValueError: the shapes differ, or `truth` or `body` is empty.
    """
    if not heat.shape == truth.shape == body.shape:
        raise ValueError(f"shapes differ: heat {heat.shape}, truth {truth.shape}, {body.shape}")
    if not truth.any() or not body.any():
        raise ValueError("the truth or the body is empty; there is nothing to point at")
    grown = ndimage.binary_dilation(truth, iterations=REACH)
    total = float(heat.sum(dtype=np.float64))
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    inside = float(heat[truth].sum(dtype=np.float64))
    return Pointed(
        hit=total > 0 and bool(grown[peak]),
        chance=float((grown & body).sum() / body.sum()),
        energy=inside / total if total > 0 else 0.0,
        share=float((truth & body).sum() / body.sum()),
        side=_right_side(heat, truth),
    )


def _right_side(heat: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> bool | None:
    half = truth.shape[2] // 2
    first = truth[:, :, :half].sum() / truth.sum()
    if ONE_SIDED > first > 1 - ONE_SIDED:
        return None
    low = heat[:, :, :half].sum(dtype=np.float64)
    high = heat[:, :, half:].sum(dtype=np.float64)
    return bool(low > high if first >= ONE_SIDED else high > low)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Of many heat maps; shares from 0 to 1."""

    hits: float
    low: float
    high: float
    """95 % interval of `hits`, patients drawn with replacement."""

    chance: float
    energy: float
    share: float
    side: float
    """Of the findings with a side; nan without any. Chance is one half."""

    count: int


def accuracy(points: Sequence[Pointed], patients: Sequence[str]) -> Accuracy:
    """Means over `points`, each of the patient named beside it.

    Raises:
        InputError: there is none.
    """
    weights_RN = patient_weights(patients)
    hits_N = np.array([p.hit for p in points], dtype=float)
    # A resample may by rare chance hold no patient with a finding.
    with np.errstate(invalid="ignore"):
        draws_R1 = (weights_RN @ hits_N / weights_RN.sum(axis=1))[:, None]
    (low,), (high,) = limits(draws_R1)
    sides = [p.side for p in points if p.side is not None]
    return Accuracy(
        hits=float(hits_N.mean()),
        low=float(low),
        high=float(high),
        chance=float(np.mean([p.chance for p in points])),
        energy=float(np.mean([p.energy for p in points])),
        share=float(np.mean([p.share for p in points])),
        side=float(np.mean(sides)) if sides else float("nan"),
        count=len(points),
    )

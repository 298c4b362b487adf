"""Scores of one study's predicted mask against its reference, class by class.

Dice and IoU of voxels, HD95 and surface Dice of surfaces in mm, lesions found and missed, volumes.
Every class is looked at in the box around its voxels of both masks, so that memory goes with the
largest structure. Means over studies are made by `mask_metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.errors import ConfigError
from uvlm.evaluation.masks.grid import COVERED
from uvlm.evaluation.masks.lesions import LesionCounts, lesion_counts
from uvlm.evaluation.masks.overlap import Overlap, overlaps
from uvlm.evaluation.masks.pairs import MaskPair
from uvlm.evaluation.masks.reading import Others, class_table, read_pair
from uvlm.evaluation.masks.segmentation import kind_of
from uvlm.evaluation.masks.surfaces import hausdorff, surface_dice, surface_distances
from uvlm.evaluation.workers import each
from uvlm.imaging.geometry import is_sheared, shear_of
from uvlm.imaging.volume import Volume

__all__ = ["ClassScore", "MaskConfig", "MaskScores", "score_arrays", "score_masks", "score_pair"]

Box = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """How masks are compared."""

    classes: Mapping[str, int] | None = None
    """Class name -> value in the references. None: as a store says, or "label N" for every value
    found."""

    predicted_classes: Mapping[str, int] | None = None
    """The same of the predictions, where they are numbered otherwise; names decide."""

    lesions: Collection[str] = ()
    """Classes that are lesions beside those whose names say so (`segmentation.kind_of`)."""

    tolerance_mm: float = 2.0
    """Of surface Dice."""

    lesion_iou: float = 0.0
    """Least IoU of a found lesion; 0: any shared voxel."""

    others: Others = "refuse"
    """Values without a class: refused, or taken as background and noted."""

    covered: float = COVERED
    """Least share of the reference that a prediction on another grid must cover."""

    surfaces: bool = True
    """Whether HD95 and surface Dice are computed, which takes most of the time."""

    def __post_init__(self) -> None:
        if not self.tolerance_mm >= 0.0 or math.isinf(self.tolerance_mm):
            raise ConfigError(f"tolerance_mm must be 0 or more, got {self.tolerance_mm}.")
        for name in ("lesion_iou", "covered"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class of one study. What does not exist is nan."""

    dice: float = math.nan
    iou: float = math.nan
    hd95_mm: float = math.nan
    """inf where the class is in one mask only."""

    surface_dice: float = math.nan
    true_ml: float = 0.0
    predicted_ml: float = 0.0
    lesions: LesionCounts | None = None
    """Of a class of lesions."""


@dataclass(frozen=True, kw_only=True)
class MaskScores:
    """One study."""

    study: str
    classes: Mapping[str, ClassScore]
    diagonal_mm: float
    """Of the reference's grid, corner to corner: no two voxels are further apart."""

    tolerance_mm: float = 2.0
    lesion_iou: float = 0.0
    missing: bool = False
    """Whether there was no prediction; it is scored as an empty one."""

    notes: tuple[str, ...] = field(default=())


def score_masks(
    pairs: Sequence[MaskPair], config: MaskConfig | None = None, *, workers: int = 1
) -> list[MaskScores]:
    """Score every pair, in order, all for the same classes: those that any prediction knows.

    Args:
        workers: processes; each needs up to 2 GB for a mask of 512 x 512 x 300 voxels

    Raises:
        ImageError: a mask cannot be read or compared; says which and why.
        ConfigError: `workers` is below 1.
        MissingExtraError: `surface-distance` is not installed.
    """
    config = config or MaskConfig()
    score = partial(_score, config=config, predicted_names=_predicted_names(pairs, config))
    return each(score, pairs, workers=workers, what="comparing masks")


def _predicted_names(pairs: Sequence[MaskPair], config: MaskConfig) -> frozenset[str] | None:
    """The classes that a prediction of any study has; None where masks have no names."""
    tables = (
        config.predicted_classes
        or class_table(prediction)
        or config.classes
        or class_table(reference)
        for _, reference, prediction in pairs
        if prediction is not None
    )
    return frozenset(name for table in tables if table for name in table) or None


def _score(
    pair: MaskPair, config: MaskConfig, predicted_names: Collection[str] | None
) -> MaskScores:
    return score_pair(*pair, config, predicted_names=predicted_names)


def score_pair(
    study: str,
    reference: Path,
    prediction: Path | None,
    config: MaskConfig | None = None,
    *,
    predicted_names: Collection[str] | None = None,
) -> MaskScores:
    """Read two masks and score one against the other.

    Args:
        predicted_names: classes that are scored although this prediction does not know them

    Raises:
        ImageError: as `mask_reading.read_pair`.
        MissingExtraError: `surface-distance` is not installed.
    """
    config = config or MaskConfig()
    read = read_pair(reference, prediction, config.classes, config.predicted_classes,
                     predicted_names=predicted_names, others=config.others,
                     covered=config.covered)  # fmt: skip
    truth = read.reference
    return MaskScores(
        study=study,
        classes=score_arrays(
            truth.array,
            read.predicted,
            read.classes,
            truth.spacing,
            config,
            voxel_ml=truth.voxel_ml,
        ),
        diagonal_mm=float(np.hypot.reduce(np.multiply(truth.shape, truth.spacing))),
        tolerance_mm=config.tolerance_mm,
        lesion_iou=config.lesion_iou,
        missing=prediction is None,
        notes=(*read.notes, *_skewed(truth)),
    )


def _skewed(volume: Volume) -> tuple[str, ...]:
    """A note where voxels are no boxes, as after a gantry tilt."""
    if not is_sheared(volume.affine):
        return ()
    degrees = shear_of(volume.affine)
    return (f"Axes are {degrees:.1f} degrees off right angles; distances are along the axes.",)


def score_arrays(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    classes: Mapping[str, int],
    spacing: Sequence[float],
    config: MaskConfig | None = None,
    *,
    voxel_ml: float | None = None,
) -> dict[str, ClassScore]:
    """Class name -> scores of two label maps on one grid.

    Args:
        truth, predicted: (z, y, x) of whole numbers, 0 or more
        classes: name -> value in both
        spacing: mm along (z, y, x)
        voxel_ml: volume of a voxel; the product of the spacings if left out

    Raises:
        InputError: the shapes differ.
        MissingExtraError: `surface-distance` is not installed.
    """
    config = config or MaskConfig()
    shared = overlaps(predicted, truth, classes)
    boxes = _boxes(truth, predicted, max(classes.values(), default=0))
    ml = math.prod(spacing) / 1000.0 if voxel_ml is None else voxel_ml
    scores = {}
    for name, value in classes.items():
        overlap, box = shared[name], boxes.get(value)
        lesion = kind_of(name, config.lesions) == "lesion"
        if box is None:
            scores[name] = ClassScore(lesions=LesionCounts() if lesion else None)
            continue
        true, guess = truth[box] == value, predicted[box] == value
        hd95, surface = _surface_scores(true, guess, overlap, spacing, config)
        scores[name] = ClassScore(
            dice=overlap.dice,
            iou=overlap.iou,
            hd95_mm=hd95,
            surface_dice=surface,
            true_ml=overlap.true * ml,
            predicted_ml=overlap.predicted * ml,
            lesions=lesion_counts(true, guess, config.lesion_iou) if lesion else None,
        )
    return scores


def _surface_scores(
    true: NDArray[np.bool_],
    guess: NDArray[np.bool_],
    overlap: Overlap,
    spacing: Sequence[float],
    config: MaskConfig,
) -> tuple[float, float]:
    """HD95 in mm and surface Dice of a class that is in one mask at least."""
    if not config.surfaces:
        return math.nan, math.nan
    if not overlap.true or not overlap.predicted:
        return math.inf, 0.0
    distances = surface_distances(true, guess, spacing)
    return hausdorff(distances), surface_dice(distances, config.tolerance_mm)


def _boxes(truth: NDArray[Any], predicted: NDArray[Any], largest: int) -> dict[int, Box]:
    """Value -> the smallest box that holds all its voxels in both maps."""
    found: dict[int, Box] = {}
    for labels in (truth, predicted):
        for value, box in enumerate(ndimage.find_objects(labels, largest), 1):
            if box is not None:
                other = found.get(value, box)
                found[value] = tuple(
                    slice(min(a.start, b.start), max(a.stop, b.stop))
                    for a, b in zip(box, other, strict=True)
                )
    return found

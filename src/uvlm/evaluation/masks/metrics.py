"""From scored masks to measures: of every class, and means over organs, bones and lesions.

A mean over classes is the plain mean of the classes' means, classes without a value left out; so a
class of few studies counts as much as one of many.

Shapes: N studies, C classes, G groups of classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.labels.arrays import check_protocols, listed, names_where
from uvlm.evaluation.labels.counts import nan_mean
from uvlm.evaluation.masks.lesions import LesionCounts
from uvlm.evaluation.masks.scores import ClassScore, MaskScores
from uvlm.evaluation.masks.segmentation import KINDS, kind_of
from uvlm.evaluation.measure import Measure, mean_measure, sum_measure
from uvlm.evaluation.protocol_info import ProtocolInfo
from uvlm.evaluation.rates import EMPTY, detection_rates

__all__ = ["PROTOCOLS", "mask_measures"]

Floats = NDArray[np.float64]
Value = Callable[[ClassScore, MaskScores], float]

SOURCE = "Nikolov et al. 2018, arXiv:1809.04430; package surface-distance"
MEANS = (
    "A class in neither mask of a study has no value there and is left out of its mean; a study "
    "without a prediction counts as an empty one. A class that the predictions of no study know is "
    "scored nowhere. Means over classes are plain means of the "
    "classes' means, also over organs, bones and lesions apart, as the names of the classes say."
)
GRID = (
    "Predictions on another grid of the same space are resampled to the reference's, nearest "
    "voxel, by both affines; others are refused."
)

PROTOCOLS: tuple[ProtocolInfo, ...] = (
    ProtocolInfo(
        name="dice@study",
        task="seg",
        about="Dice of voxels, 2|A and B| / (|A| + |B|), one value per study and class, then the "
        f"mean over studies. A class in one mask only scores 0. {MEANS} {GRID}",
        source="Dice 1945; the usual practice of nnU-Net and TotalSegmentator",
    ),
    ProtocolInfo(
        name="iou@study",
        task="seg",
        about=f"Intersection over union of voxels, otherwise as dice@study. {MEANS} {GRID}",
        source="Jaccard 1912",
    ),
    ProtocolInfo(
        name="hd95@diagonal",
        task="seg",
        about="Robust Hausdorff distance in mm: within it lie 95 % of each surface's area of the "
        "other; the larger direction counts. A class in one mask only has an infinite distance "
        "and counts as the diagonal of the reference's volume, so that a structure that was not "
        f"found costs most; a note says how many there are. Lower is better. {MEANS} {GRID}",
        source=SOURCE,
        needs="the package surface-distance (extra `metrics`)",
    ),
    ProtocolInfo(
        name="hd95@both-present",
        task="seg",
        about="As hd95@diagonal, but over the studies where both masks have the class, the others "
        "left out and counted in a note. Read it beside Dice only: a model that finds nothing in "
        f"hard cases looks better by it. Lower is better. {MEANS} {GRID}",
        source=SOURCE,
        needs="the package surface-distance (extra `metrics`)",
        default=False,
    ),
    ProtocolInfo(
        name="surface_dice@2mm",
        task="seg",
        about="Share of both surfaces, by area, that lies within a tolerance of the other: 2 mm "
        "unless another is asked for, which is then in the name. 0.0001 mm are added to it, so "
        "that the rounding of spacings in files decides nothing. A class in one mask only scores "
        f"0. {MEANS} {GRID}",
        source=SOURCE,
        needs="the package surface-distance (extra `metrics`)",
    ),
    ProtocolInfo(
        name="volume_error@ml",
        task="seg",
        about="Absolute difference of predicted and true volume in ml, mean over studies where "
        f"either mask has the class. Lower is better. {MEANS} {GRID}",
        source="voxels times the voxel's volume",
    ),
    ProtocolInfo(
        name="lesions@any-voxel",
        task="seg",
        about="Precision, recall and F1 of lesions, for classes that are lesions by their names. "
        "A lesion is a 26-connected piece of a class. A true lesion is found if any predicted "
        "voxel of its class lies in it, a predicted one is right if any true voxel lies in it; "
        "nothing is matched one to one. With a threshold (lesions@iou0.1 and so on) both need one "
        "lesion of the other mask with at least that IoU. Lesions are counted over all studies. "
        f"{EMPTY} {GRID}",
        source="after LiTS (Bilic et al. 2023), which asks for an overlap of its own",
    ),
)


def mask_measures(
    rows: Sequence[MaskScores], *, protocols: Sequence[str] | None = None
) -> list[Measure]:
    """The measures of scored masks, in the order of `PROTOCOLS`.

    Those of surfaces are left out where surfaces were not scored, those of lesions where no class
    is one.

    Args:
        protocols: names from `PROTOCOLS`; None for all. The tolerance and the IoU in a name are
            those that the masks were scored with, whatever is asked for

    Raises:
        InputError: no study, no class, studies that were scored in different ways, or a protocol
            is unknown.
    """
    known = [info.name for info in PROTOCOLS]
    check_protocols(known if protocols is None else protocols, known)
    names = tuple(dict.fromkeys(name for row in rows for name in row.classes))
    if not names:
        raise InputError("no mask has a voxel: there is no class to score. Check the masks.")
    ways = {(row.tolerance_mm, row.lesion_iou) for row in rows}
    if len(ways) > 1:
        raise InputError("studies were scored with different tolerances or IoU. Score all alike.")
    tolerance, iou = next(iter(ways))
    missing = sum(row.missing for row in rows)
    what = "study" if missing == 1 else "studies"
    notes = (f"{missing} {what} without a prediction, scored as empty.",) if missing else ()
    study = _Studies(rows=rows, names=names, groups=_groups(rows, names), notes=notes)
    measures = [
        study.measure("dice@study", "Dice", lambda score, _: score.dice),
        study.measure("iou@study", "IoU", lambda score, _: score.iou),
    ]
    scores = [score for row in rows for score in row.classes.values()]
    if any(not math.isnan(score.hd95_mm) for score in scores):
        alone = sum(math.isinf(score.hd95_mm) for score in scores)
        said = f"A class in one mask only, {alone} times: "
        capped = f"{said}counted as the volume's diagonal." if alone else ""
        left_out = f"{said}left out." if alone else ""
        measures += [
            study.measure("hd95@diagonal", "HD95", _capped, capped, higher=False),
            study.measure("hd95@both-present", "HD95", _finite, left_out, higher=False),
            study.measure(
                f"surface_dice@{tolerance:g}mm", "surface Dice", lambda score, _: score.surface_dice
            ),
        ]
    measures.append(
        study.measure("volume_error@ml", "volume error", _volume_error, higher=False),
    )
    if any(score.lesions is not None for score in scores):
        measures.append(_lesion_measure(rows, names, iou, notes))
    asked = {_family(name) for name in protocols or known}
    return [measure for measure in measures if _family(measure.protocol) in asked]


def _family(protocol: str) -> str:
    """The name without its tolerance or IoU."""
    family = protocol.split("@")[0]
    return family if family in ("surface_dice", "lesions") else protocol


def _groups(rows: Sequence[MaskScores], names: Sequence[str]) -> dict[str, list[int]]:
    """What is averaged: all classes, and each kind if there are several."""
    lesions = _with_lesions(rows, names)
    kinds = ["lesion" if name in lesions else kind_of(name) for name in names]
    groups = {"": list(range(len(names)))}
    if len(set(kinds)) > 1:
        for kind in KINDS:
            if kind in kinds:
                groups[f" of {kind}s"] = [i for i, each in enumerate(kinds) if each == kind]
    return groups


def _with_lesions(rows: Sequence[MaskScores], names: Sequence[str]) -> list[str]:
    """The classes whose lesions were counted."""
    absent = ClassScore()
    return [
        name
        for name in names
        if any(row.classes.get(name, absent).lesions is not None for row in rows)
    ]


def _capped(score: ClassScore, row: MaskScores) -> float:
    return row.diagonal_mm if math.isinf(score.hd95_mm) else score.hd95_mm


def _finite(score: ClassScore, row: MaskScores) -> float:
    return math.nan if math.isinf(score.hd95_mm) else score.hd95_mm


def _volume_error(score: ClassScore, row: MaskScores) -> float:
    # Dice has no value exactly where the class is in neither mask.
    return math.nan if math.isnan(score.dice) else abs(score.predicted_ml - score.true_ml)


@dataclass(frozen=True, kw_only=True)
class _Studies:
    """What every measure of class means is made from."""

    rows: Sequence[MaskScores]
    names: tuple[str, ...]
    groups: Mapping[str, list[int]]
    notes: tuple[str, ...]

    def table(self, value: Value) -> Floats:
        """(N, C); a study in which a class was not looked at has no value of it."""
        absent = ClassScore()
        cells = [[value(row.classes.get(n, absent), row) for n in self.names] for row in self.rows]
        return np.array(cells, np.float64)

    def measure(
        self, protocol: str, what: str, value: Value, note: str = "", *, higher: bool = True
    ) -> Measure:
        """G means over groups of classes, then the C means over studies they are made of."""
        table = self.table(value)
        per_class = mean_measure(protocol, self.names, table)

        def with_means(scores: Floats) -> Floats:
            """(..., C) -> (..., G + C)"""
            means = [nan_mean(scores[..., members]) for members in self.groups.values()]
            return np.concatenate([np.stack(means, axis=-1), scores], axis=-1)

        nowhere = names_where(self.names, np.isnan(table).all(axis=0))
        absent = f"Without a value in any study: {listed(nowhere)}." if nowhere else ""
        return Measure(
            protocol=protocol,
            names=(
                *(f"{what}{group}" for group in self.groups),
                *(f"{what}: {name}" for name in self.names),
            ),
            score=lambda weights: with_means(per_class.score(weights)),
            per_study=with_means(table),
            notes=(*self.notes, *(said for said in (note, absent) if said)),
            higher_is_better=higher,
        )


def _lesion_measure(
    rows: Sequence[MaskScores], names: Sequence[str], iou: float, notes: tuple[str, ...]
) -> Measure:
    """Precision, recall and F1 of every class of lesions, and their means."""
    with_lesions = _with_lesions(rows, names)
    absent = ClassScore()
    counts = np.array(
        [[_counts(row.classes.get(name, absent)) for name in with_lesions] for row in rows]
    )

    def statistic(sums: Floats) -> Floats:
        """(..., 4 C) -> (..., 3 + 3 C)"""
        table = sums.reshape(*sums.shape[:-1], -1, 4)
        rates = np.moveaxis(detection_rates(*np.moveaxis(table, -1, 0)), -1, -2)
        flat = rates.reshape(*sums.shape[:-1], -1)
        return np.concatenate([nan_mean(rates), flat], axis=-1)

    true, found, predicted, right = counts.sum(axis=(0, 1))
    said = f"{true} true lesions, {found} found; {predicted} predicted, {right} right."
    kinds = ("F1", "precision", "recall")
    return sum_measure(
        f"lesions@iou{iou:g}" if iou else "lesions@any-voxel",
        (*kinds, *(f"{kind}: {name}" for kind in kinds for name in with_lesions)),
        counts.reshape(len(rows), -1),
        statistic,
        notes=(*notes, said),
    )


def _counts(score: ClassScore) -> tuple[int, int, int, int]:
    each = score.lesions or LesionCounts()
    return each.true, each.found, each.predicted, each.right

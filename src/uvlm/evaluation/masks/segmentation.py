"""Dice over held-out studies; organs, bones and lesions apart.

A large organ is an organ whose true volume, median over the studies that show it, is at least
`LARGE_ML`: below that a coarse grid, not the model, decides the score. Bones are no organs here:
a rib holds millilitres enough in all, and is thinner than a voxel of such a grid.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = [
    "KINDS",
    "LARGE_ML",
    "ClassDice",
    "Kind",
    "SegmentationScores",
    "kind_of",
    "plain_name",
    "segmentation_scores",
]

LARGE_ML = 100.0

Kind = Literal["organ", "bone", "lesion"]

KINDS: tuple[Kind, ...] = ("organ", "bone", "lesion")
"""In the order of the table."""

LESION_WORDS: tuple[str, ...] = ("lesion", "tumor", "tumour", "cyst", "nodule", "metasta", "pdac")
"""A class with one of these in its name is a lesion, except for what is cystic."""

BONES: tuple[str, ...] = (
    "rib",
    "spine",
    "vertebra",
    "sternum",
    "sacrum",
    "skull",
    "costalcartilage",
    "scapula",
    "clavicula",
    "humerus",
    "femur",
    "hip",
)
"""How the names of bones begin, as TotalSegmentator writes them."""


@dataclass(frozen=True, kw_only=True)
class ClassDice:
    """One class over all studies."""

    name: str
    kind: Kind
    dice: float
    """Mean over the studies in which the class is true or predicted; nan if there is none."""

    studies: int
    """How many those are."""

    volume_ml: float
    """Median true volume where present, 0 if nowhere."""

    @property
    def large(self) -> bool:
        return self.kind == "organ" and self.volume_ml >= LARGE_ML


@dataclass(frozen=True, kw_only=True)
class SegmentationScores:
    """Every class, organs first."""

    classes: tuple[ClassDice, ...]

    @property
    def large_organs(self) -> float:
        """Plain mean over the large organs."""
        return _mean([c.dice for c in self.classes if c.large])

    @property
    def organs(self) -> float:
        """Plain mean over all organs."""
        return _mean([c.dice for c in self.classes if c.kind == "organ"])

    @property
    def lesions(self) -> float:
        """Plain mean over all lesions."""
        return _mean([c.dice for c in self.classes if c.kind == "lesion"])


def segmentation_scores(
    scores: Sequence[Mapping[str, float]],
    volumes_ml: Sequence[Mapping[str, float]],
    labels: Collection[str],
) -> SegmentationScores:
    """Summarise one `dice` result and one table of true volumes per study.

    Args:
        labels: names of abnormalities, as for `kind_of`
    """
    rows = []
    for name in dict.fromkeys(name for study in scores for name in study):
        values = [study[name] for study in scores if not np.isnan(study.get(name, np.nan))]
        volumes = [study[name] for study in volumes_ml if study.get(name, 0.0) > 0.0]
        rows.append(
            ClassDice(
                name=name,
                kind=kind_of(name, labels),
                dice=_mean(values),
                studies=len(values),
                volume_ml=float(np.median(volumes)) if volumes else 0.0,
            )
        )
    return SegmentationScores(classes=tuple(sorted(rows, key=lambda row: KINDS.index(row.kind))))


def kind_of(name: str, labels: Collection[str] = ()) -> Kind:
    """What a class is, by its name.

    Args:
        labels: names of abnormalities; a class of the same name, in any spelling, is a lesion
    """
    plain = plain_name(name)
    words = any(word in plain for word in LESION_WORDS) and "cystic" not in plain
    if words or plain in {plain_name(label) for label in labels}:
        return "lesion"
    return "bone" if plain.startswith(BONES) else "organ"


def plain_name(name: str) -> str:
    """Letters and digits only, in lower case: how names of classes are told apart."""
    return "".join(c for c in name.lower() if c.isalnum())


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else float("nan")

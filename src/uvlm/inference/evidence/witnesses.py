"""What a report is held against: the class head, the mask and the heat maps. No torch import."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from uvlm.inference.evidence.structures import labels_of
from uvlm.inference.evidence.types import Lesion
from uvlm.models.bundle_files import Calibration, OperatingPoint

__all__ = ["Witnesses", "in_words", "percent"]


@dataclass(frozen=True, kw_only=True)
class Witnesses:
    """What a report is held against."""

    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Calibrated, per label."""

    calibration: Calibration | None = None
    """Without it the class head is not asked."""

    lesions: Sequence[Lesion] = ()

    lesion_classes: Collection[str] = ()
    """Of the mask, those that it can be believed about."""

    sure_classes: Collection[str] = ()
    """Of `lesion_classes`, those of which a large piece speaks against "there is none"."""

    cut_short: Collection[str] = ()
    """Of the mask, those with more pieces than `lesions` holds: what they lack is not known."""

    spacing_mm: float = 0.0
    """Largest distance between voxels of what the segmentation saw."""

    left_shares: Sequence[float | None] = ()
    """Share of the class head's heat on the patient's left per sentence; None without such heat."""

    recognised: Collection[str] = ()
    """Labels that the class head finds in this study, and found well in validation: its heat
    tells a side of these alone."""

    def point(self, label: str) -> tuple[float, OperatingPoint] | None:
        """Probability and operating point of a label, where there are both."""
        point = self.calibration.point(label) if self.calibration else None
        if point is None or label not in self.probabilities:
            return None
        return self.probabilities[label], point

    def shown(self, label: str) -> list[Lesion]:
        """Lesions of the mask that speak for a label, of classes it can be believed about."""
        return [
            lesion
            for lesion in self.lesions
            if lesion.name in self.lesion_classes and label in labels_of(lesion.name)
        ]

    def complete(self, label: str) -> bool:
        """Whether all the mask shows of a label is known."""
        return not any(label in labels_of(name) for name in self.cut_short)


def in_words(label: str) -> str:
    """A label within a sentence."""
    return label[:1].lower() + label[1:]


def percent(value: float) -> str:
    """A probability or share for a reader."""
    rounded = round(100 * value)
    if rounded in (0, 100):
        return "under 1 %" if rounded == 0 else "over 99 %"
    return f"{rounded} %"

"""What a report rests on, sentence by sentence. No torch import.

Axes are z, y, x; "left" and "right" are the patient's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.text.labelling.protocol import Section, Status

__all__ = [
    "CLASS_METHOD",
    "DECODER_METHOD",
    "Contradiction",
    "ContradictionKind",
    "HeatMap",
    "Lesion",
    "Place",
    "ReportEvidence",
    "SentenceEvidence",
    "StatedFinding",
]

ContradictionKind = Literal["denied", "unmentioned", "side", "size", "itself"]
"""Report and class head or mask deny one another's finding; the head is confident of what no
sentence mentions; heat map or mask lie on the other side; no lesion of the mask has the size; one
sentence states what another denies."""


DECODER_METHOD = "gradient of the sentence's probability"
CLASS_METHOD = "gradient of the class head's logit"
"""`HeatMap.method`: where the decoder looked while writing, and where the class head saw it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeatMap:
    """Where the model looked."""

    values: NDArray[np.float32]
    """(z, y, x) at least 0, summing to 1 (or all 0), on a grid that divides the prepared volume."""

    spec_hash: str
    """Preprocessing of the prepared volume it lies on."""

    method: str
    """How it was computed."""

    peak: tuple[int, int, int] | None = None
    """(z, y, x) voxel of the input's own grid where it is hottest; None where it is 0."""

    peak_mm: tuple[float, float, float] | None = None
    """The same in LPS millimetres (x, y, z)."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A structure of the mask in which a heat map falls."""

    structure: str
    """Class of the segmentation."""

    share: float
    """Of the heat that falls in it, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """A connected piece of a lesion class of the mask."""

    name: str
    """Class of the segmentation."""

    number: int
    """1 is the largest of its class."""

    volume_ml: float
    diameter_mm: float
    """Largest distance between two of its voxels within one axial slice, edges included."""

    mean_hu: float
    side: Literal["left", "right", "both"] | None
    """None where the mask does not tell."""

    structure: str | None
    """The organ, lobe or segment it lies in or touches most; None where the mask does not tell."""

    centre: tuple[int, int, int]
    """(z, y, x) voxel of it nearest to its centre of mass, on the input's own grid."""

    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    """[start, stop) along z, y, x on the input's own grid."""


@dataclass(frozen=True, kw_only=True)
class StatedFinding:
    """A class of which a sentence speaks."""

    label: str
    status: Status
    words: str
    """What decided."""

    start: int
    end: int
    """Characters of the sentence's text."""

    sides: tuple[str, ...]
    """Of "left" and "right", in this order; () where no side is named."""

    probability: float | None
    """Of the class head, calibrated where the bundle holds a calibration; None without a head or
    where it does not know the class."""


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Something that does not fit."""

    kind: ContradictionKind
    message: str
    """One sentence for a reader."""

    sentence: int | None = None
    """Index of the sentence; None where none speaks of it."""

    label: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceEvidence:
    """One sentence of the report and what it rests on."""

    text: str
    section: Section
    findings: tuple[StatedFinding, ...] = ()
    heat: HeatMap | None = None
    """None where the sentence was not looked into."""

    places: tuple[Place, ...] = ()
    """Structures the heat falls in, most first; only for sentences that state something present."""

    lesions: tuple[int, ...] = ()
    """Indices in `ReportEvidence.lesions` of those it may speak of."""

    sizes_mm: tuple[float, ...] = ()
    """Lengths it names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportEvidence:
    """Everything a reader needs to check a report."""

    sentences: tuple[SentenceEvidence, ...]
    lesions: tuple[Lesion, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    doubted: Mapping[str, str] = field(default_factory=dict)
    """Class of the mask -> why its lesions are not to be believed, for a reader."""

    details: Mapping[str, Any] = field(default_factory=dict)
    """Name of the labeller, pieces of lesions left out per class, distance to training studies."""

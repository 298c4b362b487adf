"""Measurements, structured and narrative report of an abdominal study, as in AbdomenAtlas 3.0.

Every number is measured on the finished image and mask. Sizes are the largest axial diameter and
the one perpendicular to it (WHO), images are counted from 1 upwards from the bottom of the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvlm.phantom.abdomen import ABDOMEN_CLASSES, AbdomenStudy
from uvlm.phantom.abdomen_lesions import Lesion

__all__ = [
    "Measured",
    "narrative_report",
    "organ_lesions",
    "organ_ml",
    "stage",
    "structured_report",
]

ORGAN_PREFIX = {
    "liver": "liver_segment_",
    "pancreas": "pancreas_",
    "kidney": "kidney_",
    "spleen": "spleen",
}

# Volumes in ml between which an organ is called normal.
NORMAL_ML = {
    "spleen": (50, 315),
    "liver": (1000, 1900),
    "pancreas": (30, 130),
    "kidney": (180, 420),
}


@dataclass(frozen=True, eq=False)
class Measured:
    """One lesion in numbers."""

    lesion: Lesion
    ml: float
    mean: float
    spread: float
    image: int
    """Axial slice of its centre, counted from 1 at the bottom."""
    attenuation: str
    """Against its organ: "hypoattenuating", "isoattenuating" or "hyperattenuating"."""

    @property
    def place(self) -> str:
        """Segment number, part of the pancreas, or side of the kidney."""
        return self.lesion.location.rsplit("_", 1)[1]

    @property
    def where(self) -> str:
        """`place` in words."""
        organ = self.lesion.organ
        if organ == "liver":
            return f"hepatic segment {self.place}"
        return f"pancreas {self.place}" if organ == "pancreas" else f"{self.place} kidney"


def _values(prefix: str) -> list[int]:
    names = [n for n in ABDOMEN_CLASSES if n.startswith(prefix) and not n.endswith("lesion")]
    return [ABDOMEN_CLASSES[name] for name in names]


def organ_ml(study: AbdomenStudy, prefix: str) -> float:
    """Volume in ml of the structures whose name starts with `prefix`, lesions included."""
    return float(np.isin(study.organs, _values(prefix)).sum()) * study.grid.voxel_mm3 / 1000


def _parenchyma(study: AbdomenStudy, organ: str) -> NDArray[np.int16]:
    return study.hu[np.isin(study.mask, _values(ORGAN_PREFIX[organ]))]


def organ_lesions(study: AbdomenStudy, organ: str) -> list[Measured]:
    """Lesions of an organ, largest first."""
    tissue = _parenchyma(study, organ)
    normal = float(np.median(tissue)) if tissue.size else 0.0
    measured = []
    for lesion in study.lesions:
        if lesion.organ != organ:
            continue
        hu = study.hu[lesion.box][lesion.inside]
        mean = float(hu.mean())
        change = mean - normal
        word = (
            "isoattenuating"
            if abs(change) < 10
            else "hypoattenuating"
            if change < 0
            else "hyperattenuating"
        )
        slice_at = round((lesion.centre[0] - study.grid.origin[0]) / study.grid.spacing[0]) + 1
        ml = float(lesion.inside.sum()) * study.grid.voxel_mm3 / 1000
        measured.append(Measured(lesion, ml, mean, float(hu.std()), slice_at, word))
    return sorted(measured, key=lambda m: -m.lesion.diameters_mm[0])


def _size_words(organ: str, ml: float) -> str:
    low, high = NORMAL_ML[organ]
    return "Normal size" if low <= ml <= high else "Enlarged" if ml > high else "Small"


def structured_report(study: AbdomenStudy, drawable: frozenset[str]) -> str:
    """Organ by organ, with volumes in cc and HU; organs with undrawable lesions say none."""
    lines = [f"CT {study.body.phase} Phase", "", "FINDINGS:"]
    for organ in ("spleen", "liver", "pancreas", "kidney"):
        ml = organ_ml(study, ORGAN_PREFIX[organ])
        hu = _parenchyma(study, organ)
        lines += [f"{organ.capitalize()}:", f"{_size_words(organ, ml)} (volume: {ml:.1f} cc)."]
        if organ == "kidney":
            right, left = organ_ml(study, "kidney_right"), organ_ml(study, "kidney_left")
            lines.append(f"Right kidney volume: {right:.1f} cc. Left kidney volume: {left:.1f} cc.")
        if hu.size:
            lines.append(f"Mean HU value: {hu.mean():.1f} +/- {hu.std():.1f}.")
        lines.append("")
        if f"{organ.capitalize()} lesion" in drawable:
            lines += _lesion_lines(organ, organ_lesions(study, organ))
    lines += ["IMPRESSION:", *_impression(study, drawable)]
    return "\n".join(lines)


def _lesion_lines(organ: str, found: Sequence[Measured]) -> list[str]:
    if not found:
        return []
    lines = [f"{organ.capitalize()} lesions:"]
    for k, m in enumerate(found, start=1):
        a, b = (d / 10 for d in m.lesion.diameters_mm)
        lines += [
            f"{organ.capitalize()} lesion {k}:",
            f"Location: {m.where}.",
            f"Size: {a:.1f} x {b:.1f} cm (image {m.image}). Volume: {m.ml:.1f} cc.",
            f"Enhancement relative to {organ}: {m.attenuation.capitalize()} "
            f"(HU value is {m.mean:.1f}+/-{m.spread:.1f}).",
            "",
        ]
    return lines


def stage(m: Measured) -> str:
    """T stage of a pancreatic tumour by its size alone (AJCC 8: 2 and 4 cm)."""
    cm = m.lesion.diameters_mm[0] / 10
    return "T1" if cm <= 2 else "T2" if cm <= 4 else "T3"


def _impression(study: AbdomenStudy, drawable: frozenset[str]) -> list[str]:
    lines = []
    for organ in ("liver", "pancreas", "kidney"):
        if f"{organ.capitalize()} lesion" not in drawable:
            continue
        for m in organ_lesions(study, organ):
            kind = "malignant tumor" if m.lesion.kind == "tumor" else m.lesion.kind
            small = "Small " if m.lesion.diameters_mm[0] <= 20 else ""
            text = f"{small}{m.attenuation} lesion".capitalize()
            lines.append(f"{text} in the {m.where}, appearance consistent with {kind}.")
            if kind in ("PDAC", "PNET"):
                lines.append(f"Clinical stage: {stage(m)}NxMx.")
    if lines:
        return lines
    names = {"liver": "liver", "pancreas": "pancreas", "kidney": "kidneys"}
    organs = [text for o, text in names.items() if f"{o.capitalize()} lesion" in drawable]
    *some, last = organs or ["organs described"]
    return [f"No lesion of the {', '.join(some)}{' or ' if some else ''}{last}."]


def narrative_report(
    study: AbdomenStudy, rng: np.random.Generator, drawable: frozenset[str]
) -> str:
    """The same in running text."""
    said = []
    for organ, noun in (("liver", "liver"), ("pancreas", "pancreas"), ("kidney", "kidneys")):
        if f"{organ.capitalize()} lesion" not in drawable:
            continue
        found = organ_lesions(study, organ)
        if not found:
            usual = rng.random() < 0.65
            said.append(
                f"No focal lesion is seen in the {noun}."
                if usual
                else f"Normal {noun} without lesion."
            )
        for m in found:
            a, b = (d / 10 for d in m.lesion.diameters_mm)
            article = "An" if m.attenuation.startswith("iso") else "A"
            size = f"{a:.1f} x {b:.1f} cm"
            said.append(f"{article} {m.attenuation} lesion of {size} is seen in the {m.where}.")
    words = _size_words("spleen", organ_ml(study, "spleen")).lower()
    said.append(f"The spleen is {'of normal size' if words == 'normal size' else words}.")
    return " ".join([*said, "Impression:", *_impression(study, drawable)])

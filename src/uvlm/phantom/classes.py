"""Names and numbers shared by everything that draws, writes or describes a chest phantom."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from uvlm.registry import CT_RATE_LABELS

__all__ = ["CHEST_CLASSES", "LOBES", "LOBE_WORDS", "Finding", "label_class", "stream"]

LOBES: dict[str, int] = {
    "lung_upper_lobe_left": 1,
    "lung_lower_lobe_left": 2,
    "lung_upper_lobe_right": 3,
    "lung_middle_lobe_right": 4,
    "lung_lower_lobe_right": 5,
}
"""Lobes, named as by TotalSegmentator, with their mask values."""

LOBE_WORDS: dict[int, str] = {
    1: "the upper lobe of the left lung",
    2: "the lower lobe of the left lung",
    3: "the upper lobe of the right lung",
    4: "the middle lobe of the right lung",
    5: "the lower lobe of the right lung",
}
"""How a report names the lobe of a mask value."""

_ORGANS = ("trachea", "heart", "aorta", "esophagus", "spine", "ribs", "liver")


def label_class(label: str) -> str:
    """Mask class of a CT-RATE label: 'Lung nodule' -> 'lung_nodule'."""
    return label.lower().replace(" ", "_")


CHEST_CLASSES: dict[str, int] = dict(LOBES)
"""Mask class -> value. Cardiomegaly has no class of its own: its extent is the heart."""
for _name in (*_ORGANS, *(label_class(n) for n in CT_RATE_LABELS if n != "Cardiomegaly")):
    CHEST_CLASSES[_name] = len(CHEST_CLASSES) + 1


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One abnormality as it was drawn; the report says nothing else."""

    label: str
    """One of `CT_RATE_LABELS`."""

    kind: str = ""
    """Which of the label's forms: "linear" or "passive" atelectasis, "pacemaker", ..."""

    side: str = ""
    """"left", "right", "bilateral" or "" where it has none."""

    lobes: tuple[int, ...] = ()
    """Mask values of the lobes it lies in, largest part first."""

    place: str = ""
    """Station or vessel, in report words."""

    size_mm: float = 0.0
    """The size the report states: largest diameter, thickness or short axis by label."""

    count: int = 1
    """How many were drawn."""

    severity: str = ""
    """"mild", "moderate" or "severe" where it is graded."""


def stream(seed: int, study: int, what: str) -> np.random.Generator:
    """Random numbers of one part of one study, untouched by how much any other part draws."""
    return np.random.default_rng((seed, study, zlib.crc32(what.encode())))

"""A made-up study of known shapes, with evidence, for tests of its page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from uvlm.imaging.measure import measure
from uvlm.imaging.preprocess import Grid, grid_of, preset
from uvlm.imaging.volume import Provenance, Volume
from uvlm.inference.evidence.lesions import lesions_of
from uvlm.inference.evidence.types import (
    Contradiction,
    HeatMap,
    Place,
    ReportEvidence,
    SentenceEvidence,
    StatedFinding,
)
from uvlm.inference.findings import Findings

SPEC = preset("paper", shape=(12, 24, 24))
CLASSES = {"lung_left": 1, "lung_right": 2, "heart": 3, "lung_nodule": 4, "pleural_effusion": 5}
NODULE = (slice(10, 13), slice(20, 24), slice(60, 66))
"""In the left lung, (z, y, x) of a volume in LPS order."""

TEXTS = ("The heart is normal.", "A nodule of 6 mm is seen in the left lung.", "Lung nodule.")


def make_mask() -> np.ndarray[Any, Any]:
    mask = np.zeros((24, 48, 80), np.uint8)
    mask[2:22, 8:40, 8:32] = CLASSES["lung_right"]
    mask[2:22, 8:40, 48:72] = CLASSES["lung_left"]
    mask[6:16, 12:32, 32:48] = CLASSES["heart"]
    mask[NODULE] = CLASSES["lung_nodule"]
    return mask


def make_volume(mask: np.ndarray[Any, Any] | None = None) -> Volume:
    """5 mm slices of 2 mm pixels."""
    mask = make_mask() if mask is None else mask
    hu = np.full(mask.shape, 30, np.int16)
    hu[(mask == 1) | (mask == 2)] = -850
    hu[:, :3], hu[:, -3:], hu[:, :, :3], hu[:, :, -3:] = -1000, -1000, -1000, -1000
    source = Provenance(path="ct.nii.gz", format="nifti", checksum="0")
    return Volume(array=hu, affine=np.diag([2.0, 2.0, 5.0, 1.0]), provenance=source)


def stated(text: str, words: str, label: str, **fields: Any) -> StatedFinding:
    start = text.index(words)
    known = StatedFinding(
        label=label,
        status="present",
        words=words,
        start=start,
        end=start + len(words),
        sides=(),
        probability=0.83,
    )
    return replace(known, **fields)


def heat_at(voxel: tuple[int, int, int]) -> HeatMap:
    """All heat in one cell (z, y, x) of a 6 x 12 x 12 division of the prepared volume."""
    values = np.zeros((6, 12, 12), np.float32)
    values[voxel] = 1.0
    return HeatMap(values=values, spec_hash=SPEC.hash, method="made up")


def make_findings(**fields: Any) -> Findings:
    volume, mask = make_volume(), make_mask()
    lesions = lesions_of(mask, volume, CLASSES)
    evidence = ReportEvidence(
        sentences=(
            SentenceEvidence(text=TEXTS[0], section="findings"),
            SentenceEvidence(
                text=TEXTS[1],
                section="findings",
                findings=(stated(TEXTS[1], "nodule", "Lung nodule"),),
                heat=heat_at((2, 5, 9)),
                places=(Place(structure="lung_left", share=0.7),),
                lesions=(0,),
            ),
            SentenceEvidence(
                text=TEXTS[2],
                section="impression",
                findings=(stated(TEXTS[2], "Lung nodule", "Lung nodule"),),
                lesions=(0,),
            ),
        ),
        lesions=lesions,
        contradictions=(
            Contradiction(
                kind="size", message="No nodule is 6 mm large.", sentence=1, label="Lung nodule"
            ),
            Contradiction(kind="unmentioned", message="Nobody speaks of fluid."),
        ),
    )
    own = Volume(array=mask, affine=volume.affine, provenance=volume.provenance)
    names = {value: name for name, value in CLASSES.items()}
    known = Findings(
        study="one",
        generated="Findings: " + " ".join(TEXTS),
        sentences=TEXTS,
        probabilities={"Lung nodule": 0.83, "Pleural effusion": 0.02},
        calibrated=True,
        review=("It looks like no other study.",),
        evidence=evidence,
        mask=mask,
        affine=volume.affine,
        grids=make_grids(volume),
        classes=CLASSES,
        measures=tuple(measure(volume, own, names)),
        flags=("Another body region.",),
        notes=("Slices are thick.",),
        timings={"read": 0.5},
        manifest={"sha256": "ab" * 32},
        model={"parts": {"report": {"trained_on": "made-up studies"}}},
    )
    return replace(known, **fields)


def make_grids(volume: Volume) -> dict[str, Grid]:
    return {SPEC.hash: grid_of(volume, SPEC)}

"""Write a set of chest studies in the layout of CT-RATE v2."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uvlm.phantom.chest import ChestStudy, draw_chest
from uvlm.phantom.classes import CHEST_CLASSES, stream
from uvlm.phantom.plan import ChestPlan, is_valid
from uvlm.phantom.report import write_report
from uvlm.phantom.storage import ORIENTATIONS, write_volume
from uvlm.registry import CT_RATE_LABELS

__all__ = ["Row", "make_study", "write_tables"]

METADATA_COLUMNS: tuple[str, ...] = (
    "VolumeName",
    "Manufacturer",
    "SeriesDescription",
    "ManufacturerModelName",
    "PatientSex",
    "PatientAge",
    "ReconstructionDiameter",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "GantryDetectorTilt",
    "TableHeight",
    "RotationDirection",
    "ExposureTime",
    "XRayTubeCurrent",
    "Exposure",
    "FilterType",
    "GeneratorPower",
    "FocalSpots",
    "ConvolutionKernel",
    "PatientPosition",
    "RevolutionTime",
    "SingleCollimationWidth",
    "TotalCollimationWidth",
    "TableSpeed",
    "TableFeedPerRotation",
    "SpiralPitchFactor",
    "DataCollectionCenterPatient",
    "ReconstructionTargetCenterPatient",
    "ExposureModulationType",
    "CTDIvol",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "XYSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "NumberofSlices",
    "ZSpacing",
    "StudyDate",
)
"""Columns of CT-RATE's metadata tables, in order."""

REPORT_COLUMNS = (
    "VolumeName",
    "ClinicalInformation_EN",
    "Technique_EN",
    "Findings_EN",
    "Impressions_EN",
)


@dataclass(frozen=True)
class Row:
    """What the tables say about one volume."""

    split: str
    report: tuple[str, ...]
    labels: tuple[str, ...]
    metadata: Mapping[str, object]


def volume_name(study: int) -> tuple[str, str]:
    """Split and file name: the k-th patient of a split has one scan and one reconstruction."""
    earlier = sum(is_valid(i) for i in range(study % 20)) + 3 * (study // 20)
    if is_valid(study):
        return "valid", f"valid_{earlier + 1}_a_1.nii.gz"
    return "train", f"train_{study - earlier + 1}_a_1.nii.gz"


def volume_path(split: str, name: str) -> Path:
    """`train_fixed/train_1/train_1_a/train_1_a_1.nii.gz`."""
    scan = name[: -len("_1.nii.gz")]
    return Path(f"{split}_fixed") / scan[: -len("_a")] / scan / name


def make_study(
    root: Path,
    seed: int,
    study: int,
    shape: tuple[int, int, int],
    plan: ChestPlan,
    sizes: Mapping[str, tuple[float, float]],
) -> Row:
    """Draw one study, write its image and mask under `root`, return its table rows."""
    drawn = draw_chest(seed, study, shape, plan.labels, sizes, vascular=plan.vascular)
    split, name = volume_name(study)
    rng = stream(seed, study, "storage")
    orientation = str(rng.choice(list(ORIENTATIONS), p=list(ORIENTATIONS.values())))
    for array, folder in ((drawn.hu, Path()), (drawn.mask, Path("ts_seg"))):
        path = root / "dataset" / folder / volume_path(split, name)
        write_volume(path, array, drawn.grid, drawn.body.shift, orientation)
    findings, impression = write_report(drawn, stream(seed, study, "report"), frozenset(sizes))
    contrast = "Contrast-enhanced" if drawn.body.contrast else "Non-contrast"
    present = {finding.label for finding in drawn.findings}
    labels = (str(int(n in present)) if n in sizes else "" for n in CT_RATE_LABELS)
    return Row(
        split,
        (name, "Not given.", f"{contrast} thorax CT, axial images.", findings, impression),
        (name, *labels),
        _metadata(drawn, name, siemens=study % 4 == 1),
    )


def _metadata(study: ChestStudy, name: str, *, siemens: bool) -> dict[str, object]:
    """What is true of the series as version 1 has it: raw values in LPS order.

    Args:
        siemens: the scanners whose intercept is -8192, a quarter of the real studies.
    """
    grid, body = study.grid, study.body
    z, y, x = (o + s for o, s in zip(grid.origin, body.shift, strict=True))
    rows, columns = grid.shape[1:]
    return {
        "VolumeName": name,
        "Manufacturer": "Siemens Healthineers" if siemens else "Phantom",
        "SeriesDescription": "THORAX",
        "PatientSex": body.sex,
        "PatientAge": f"{body.age:03d}Y",
        "ReconstructionDiameter": round(columns * grid.spacing[2], 1),
        "PatientPosition": "HFS",
        "ImagePositionPatient": f"[{x:.4f}, {y:.4f}, {z:.4f}]",
        "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "XYSpacing": f"[{grid.spacing[2]}, {grid.spacing[1]}]",
        "RescaleIntercept": -8192 if siemens else -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "NumberofSlices": grid.shape[0],
        "ZSpacing": grid.spacing[0],
    }


def write_tables(root: Path, rows: Sequence[Row]) -> None:
    """Reports, labels, metadata and the names of the mask classes, in CT-RATE's folders."""
    folder = root / "dataset"
    for split, long in (("train", "train"), ("valid", "validation")):
        mine = [row for row in rows if row.split == split]
        tables: dict[str, tuple[Sequence[str], list[Sequence[object]]]] = {
            f"radiology_text_reports/{long}_reports.csv": (
                REPORT_COLUMNS,
                [r.report for r in mine],
            ),
            f"multi_abnormality_labels/{split}_predicted_labels.csv": (
                ("VolumeName", *CT_RATE_LABELS),
                [r.labels for r in mine],
            ),
            f"metadata/{long}_metadata.csv": (
                METADATA_COLUMNS,
                [[r.metadata.get(c, "") for c in METADATA_COLUMNS] for r in mine],
            ),
        }
        for path, (header, lines) in tables.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / path, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(header)
                writer.writerows(lines)
    names = {str(value): name for name, value in CHEST_CLASSES.items()}
    text = json.dumps(names, indent=1) + "\n"
    (folder / "ts_seg").mkdir(exist_ok=True)
    (folder / "ts_seg" / "labels.json").write_text(text, encoding="utf-8")
    # Carried by the ingest into every model card and report: nobody may take these for patients.
    (folder / "source.txt").write_text("synthetic chest studies\n", encoding="utf-8")

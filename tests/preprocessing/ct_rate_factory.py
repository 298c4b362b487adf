"""A few chest studies in CT-RATE's layout, version 2, or turned into version 1."""

import csv
import json

import numpy as np

from tests.imaging.bodies import chest
from uvlm.imaging.nifti import read_nifti, write_nifti
from uvlm.registry import CT_RATE_LABELS

SERIES = ("train_1_a_1", "train_1_b_2", "train_10_a_1", "train_2_a_1", "valid_1_a_1")


def volume_path(root, series, folder="", end="_fixed"):
    split = series.split("_")[0]
    patient = "_".join(series.split("_")[:2])
    scan = series.rsplit("_", 1)[0]
    return root / "dataset" / folder / f"{split}{end}" / patient / scan / f"{series}.nii.gz"


def make_ct_rate(root, series=SERIES, masks=True):
    """Body and lungs; in the masks lung is 10 and the rest of the body 200."""
    body = chest(20, 15)
    array = body.array[:, ::2, ::2]
    affine = body.affine @ np.diag([2, 2, 1, 1])
    for name in series:
        path = volume_path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, array, affine)
        if masks:
            path = volume_path(root, name, "ts_seg")
            path.parent.mkdir(parents=True, exist_ok=True)
            lung = (array < -500) & (array > -950)
            write_nifti(path, np.where(lung, 10, (array > -500) * 200).astype(np.uint8), affine)
    if masks:
        names = json.dumps({"10": "lung", "200": "body", "7": "heart"})
        (root / "dataset" / "ts_seg" / "labels.json").write_text(names)
    write_tables(root, series)
    return root


def write_metadata(root, series, **cells):
    """Rows that are true of `make_ct_rate`'s volumes; `cells` are other values, for every row."""
    for split, long in (("train", "train"), ("valid", "validation")):
        rows = [
            {
                "VolumeName": f"{name}.nii.gz",
                "ImagePositionPatient": "[0.0, 0.0, 0.0]",
                "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
                "Rows": "48",
                "Columns": "48",
                "XYSpacing": "[8.0, 8.0]",
                "RescaleIntercept": "-1024",
                "RescaleSlope": "1",
                "NumberofSlices": "20",
                "ZSpacing": "5.0",
                **cells,
            }
            for name in series
            if name.startswith(split)
        ]
        write(root / f"dataset/metadata/{long}_metadata.csv", rows)


def to_version_1(root, series=SERIES, intercept=-1024):
    """Move volumes of version 2 to the folders of version 1, with stored values and no header."""
    for name in series:
        path = volume_path(root, name)
        raw = (read_nifti(path).array.astype(int) - intercept).astype(np.int16)
        path.unlink()
        path = volume_path(root, name, end="")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, raw, np.diag([-1.0, -1.0, 1.0, 1.0]))


def write_tables(root, series, **cells):
    """`cells`: values of columns, by name with _ for space, for every row."""
    for split, long in (("train", "train"), ("valid", "validation")):
        mine = [name for name in series if name.startswith(split)]
        reports = [
            {
                "VolumeName": f"{name}.nii.gz",
                "ClinicalInformation_EN": "Not given.",
                "Technique_EN": "CT.",
                "Findings_EN": f"Lungs of {name} are clear.",
                "Impressions_EN": "Not given.",
            }
            for name in mine
        ]
        labels = [
            {"VolumeName": f"{name}.nii.gz", **dict.fromkeys(CT_RATE_LABELS, "0")} for name in mine
        ]
        for row in reports + labels:
            row.update({k: cells[k.replace(" ", "_")] for k in row if k.replace(" ", "_") in cells})
        write(root / f"dataset/radiology_text_reports/{long}_reports.csv", reports)
        write(root / f"dataset/multi_abnormality_labels/{split}_predicted_labels.csv", labels)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else ["VolumeName"])
        writer.writeheader()
        writer.writerows(rows)

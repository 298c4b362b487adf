"""A few chest studies in CT-RATE's layout."""

import csv
import json

import numpy as np

from tests.imaging.bodies import chest
from uvlm.imaging.nifti import write_nifti
from uvlm.registry import CT_RATE_LABELS

SERIES = ("train_1_a_1", "train_1_b_2", "train_10_a_1", "train_2_a_1", "valid_1_a_1")


def volume_path(root, series, folder=""):
    split = series.split("_")[0]
    patient = "_".join(series.split("_")[:2])
    scan = series.rsplit("_", 1)[0]
    return root / "dataset" / folder / f"{split}_fixed" / patient / scan / f"{series}.nii.gz"


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

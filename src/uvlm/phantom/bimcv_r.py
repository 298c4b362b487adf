"""Chest studies in the layout of BIMCV-R.

    CT1/ct/sub-S00001_ses-E00001_run-1_bp-chest_ct.nii.gz      three to a folder: CT1, CT2, ...
    bimcv_r.csv                                                one row per volume
    source.txt                                                 says that they are synthetic

Every third patient has two sessions. The Spanish report is a list of the findings; the English one
is the study's own.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np

from uvlm.phantom.source import SourceStudy, read_source_folder

__all__ = ["write"]

COLUMNS = (
    "PatientID",
    "ReportID",
    "Report",
    "Labels",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "labelCUIS",
    "LocalizationsCUIS",
    "num",
    "path",
    "Report_en",
    "ct_path",
)

SPANISH = {
    "Medical material": "material medico",
    "Arterial wall calcification": "calcificacion de la pared arterial",
    "Cardiomegaly": "cardiomegalia",
    "Pericardial effusion": "derrame pericardico",
    "Coronary artery wall calcification": "calcificacion coronaria",
    "Hiatal hernia": "hernia de hiato",
    "Lymphadenopathy": "adenopatias",
    "Emphysema": "enfisema",
    "Atelectasis": "atelectasia",
    "Lung nodule": "nodulo pulmonar",
    "Lung opacity": "opacidad pulmonar",
    "Pulmonary fibrotic sequela": "secuelas fibroticas",
    "Pleural effusion": "derrame pleural",
    "Mosaic attenuation pattern": "patron en mosaico",
    "Peribronchial thickening": "engrosamiento peribronquial",
    "Consolidation": "consolidacion",
    "Bronchiectasis": "bronquiectasias",
    "Interlobular septal thickening": "engrosamiento septal",
}

PER_FOLDER = 3
PLACES = ("loc right", "loc left", "loc upper lobe", "loc lower lobe")


def write(source: Path, out: Path, seed: int) -> None:
    """Write the studies of `source` (CT-RATE v2's layout) to `out`; `seed` draws the numbers."""
    studies = read_source_folder(source)
    rng = np.random.default_rng((seed, len(studies)))
    patients = rng.choice(99_999, len(studies), replace=False) + 1
    sessions = rng.choice(99_999, len(studies), replace=False) + 1
    with (out / "bimcv_r.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, study in enumerate(studies):
            same = number - (number % 3 == 1)
            patient, session = f"sub-S{patients[same]:05d}", f"ses-E{sessions[number]:05d}"
            name = f"{patient}_{session}_run-1_bp-chest_ct.nii.gz"
            folder = out / f"CT{number // PER_FOLDER + 1}" / "ct"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(study.image, folder / name)
            writer.writerow(_row(study, patient, session, name))
    shutil.copyfile(source / "dataset" / "source.txt", out / "source.txt")


def _row(study: SourceStudy, patient: str, session: str, name: str) -> list[object]:
    found = [label for label, value in study.labels.items() if value == "1" and label in SPANISH]
    spanish = ", ".join(SPANISH[label] for label in found)
    # As in the release, words after the first of a group begin with a space.
    labels = [("" if k == 0 else " ") + label.lower() for k, label in enumerate(found)]
    words = study.findings.lower()
    places = [place for place in PLACES if place.removeprefix("loc ") in words]
    folder = f"covid19_posi/{patient}/{session}/mod-rx"
    return [
        patient,
        session,
        f"tc toracico .  se aprecia {spanish} ." if found else "tc toracico sin hallazgos .",
        str(labels or ["normal"]),
        str(places),
        str([*labels, *places] or ["normal"]),
        "[C0205307]",
        "[C1522601]",
        1.0,
        folder,
        f"{study.findings} Conclusion {study.impression}",
        f"data/BIMCV_CT/{folder}/{name}",
    ]

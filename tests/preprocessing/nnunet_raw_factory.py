"""Chest studies as an nnU-Net raw dataset with the 49 classes of ReXGroundingCT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.readers import read_volume
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.preprocessing.sources.rexgrounding_classes import CLASSES

BECOMES = {
    "lung_upper_lobe_left": "Lung upper lobe L",
    "lung_lower_lobe_left": "Lung lower lobe L",
    "lung_upper_lobe_right": "Lung upper lobe R",
    "lung_middle_lobe_right": "Lung middle lobe R",
    "lung_lower_lobe_right": "Lung lower lobe R",
    "trachea": "Trachea and Airway",
    "heart": "Heart",
    "aorta": "Aorta",
    "esophagus": "Esophagus",
    "spine": "Spine",
    "ribs": "Ribs",
    "liver": "Liver",
    "emphysema": "Emphysema",
    "atelectasis": "Atelectasis and consolidation",
    "consolidation": "Atelectasis and consolidation",
    "lung_nodule": "Pulmonary nodules and masses",
    "lung_opacity": "Groundglass opacity",
    "pleural_effusion": "Pleural effusion or thickening",
    "bronchiectasis": "Bronchiectasis",
}
"""What has no counterpart becomes background."""


def make_chest_raw(made: Path, out: Path) -> Path:
    """Write studies that `uvlm phantom make` made to `out`/Dataset141_ReXGroundingCT."""
    table = np.zeros(256, np.uint8)
    for name, new in BECOMES.items():
        table[CHEST_CLASSES[name]] = CLASSES[new]
    dataset = out / "Dataset141_ReXGroundingCT"
    root = made / "dataset"
    for split, suffix in (("train", "Tr"), ("valid", "Val")):
        images, labels = dataset / f"images{suffix}", dataset / f"labels{suffix}"
        images.mkdir(parents=True)
        labels.mkdir()
        for path in sorted((root / f"{split}_fixed").rglob("*.nii.gz")):
            series = path.name[: -len(".nii.gz")]
            image = read_volume(path)
            mask = read_volume(root / "ts_seg" / path.relative_to(root), labels=True)
            write_nifti(images / f"{series}_0000.nii.gz", image.array, image.affine)
            write_nifti(labels / f"{series}.nii.gz", table[mask.array], mask.affine)
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **CLASSES},
        "numTraining": len(list((dataset / "labelsTr").iterdir())),
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(described))
    return out

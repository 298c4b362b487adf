"""Chest studies as an nnU-Net raw dataset: six merged organs, held-out studies as its test set.

dataset.json
imagesTr/train_1_a_1_0000.nii.gz   labelsTr/train_1_a_1.nii.gz
imagesTs/valid_1_a_1_0000.nii.gz   labelsTs/valid_1_a_1.nii.gz
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from uvlm.imaging.nifti import read_nifti, write_nifti
from uvlm.phantom.source import class_names, read_source_folder

__all__ = ["ORGANS", "write"]

ORGANS: dict[str, tuple[str, ...]] = {
    "lung_left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "lung_right": (
        "lung_upper_lobe_right",
        "lung_middle_lobe_right",
        "lung_lower_lobe_right",
    ),
    "heart": ("heart",),
    "aorta": ("aorta",),
    "spine": ("spine",),
    "liver": ("liver",),
}
"""Class -> structures it gathers; the first has the value 1."""

PARTS = {"train": "Tr", "valid": "Ts"}


def write(source: Path, out: Path, seed: int) -> None:
    """Write the studies of `source`, in CT-RATE v2's layout, to the empty folder `out`.

    `seed` is not needed: nothing is drawn.
    """
    values = class_names(source)
    table = np.zeros(1 + max(values.values()), np.uint8)
    for value, structures in enumerate(ORGANS.values(), start=1):
        table[[values[name] for name in structures]] = value
    studies = [study for study in read_source_folder(source) if study.mask is not None]
    for study in studies:
        part = PARTS[study.split]
        images, labels = out / f"images{part}", out / f"labels{part}"
        images.mkdir(exist_ok=True)
        labels.mkdir(exist_ok=True)
        shutil.copyfile(study.image, images / f"{study.series_id}_0000.nii.gz")
        assert study.mask is not None
        mask = read_nifti(study.mask, labels=True)
        write_nifti(labels / f"{study.series_id}.nii.gz", table[mask.array], mask.affine)
    described = {
        "name": "synthetic chest studies",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: i for i, name in enumerate(ORGANS, start=1)}},
        "numTraining": sum(study.split == "train" for study in studies),
        "file_ending": ".nii.gz",
    }
    (out / "dataset.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

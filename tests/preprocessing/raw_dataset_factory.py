"""nnU-Net raw datasets written case by case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.readers import read_volume
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.phantom.rexgrounding import LESIONS as DRAWN
from uvlm.preprocessing.sources.rexgrounding_classes import CLASSES, LESIONS, STRUCTURES

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def chest_raw(chest: Path, folder: Path) -> Path:
    """`chest`, as `uvlm phantom make` writes it, with the 48 classes of ReXGroundingCT."""
    root = folder / "Dataset141_ReXGroundingCT"
    values = np.zeros(max(CHEST_CLASSES.values()) + 1, np.uint8)
    others = {"spine": "vertebrae_T5", "ribs": "rib_left_5"}
    for name, value in CHEST_CLASSES.items():
        structure = others.get(name, name)
        values[value] = LESIONS[DRAWN[name][0]] if name in DRAWN else STRUCTURES.get(structure, 0)
    for image in sorted((chest / "dataset").glob("*_fixed/**/*.nii.gz")):
        mask = chest / "dataset/ts_seg" / image.relative_to(chest / "dataset")
        labels, volume = read_volume(mask, labels=True), read_volume(image)
        part = "Tr" if image.name.startswith("train") else "Val"
        series = image.name.removesuffix(".nii.gz")
        write_case(root, part, series, volume.array, values[labels.array], volume.affine)
    write_description(root, {"background": 0, **CLASSES})
    return folder


def write_case(
    root: Path,
    part: str,
    series: str,
    image: NDArray[Any],
    mask: NDArray[Any] | None,
    affine: NDArray[Any] = AFFINE,
) -> None:
    for folder in (f"images{part}", f"labels{part}"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_nifti(root / f"images{part}/{series}_0000.nii.gz", image, affine)
    if mask is not None:
        write_nifti(root / f"labels{part}/{series}.nii.gz", mask, affine)


def write_description(root: Path, labels: Mapping[str, Any], **others: Any) -> None:
    described = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps({**described, **others}))

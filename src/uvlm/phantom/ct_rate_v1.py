"""Chest studies in the layout of CT-RATE v1: raw values under a header that says nothing true.

The values are HU minus the intercept of the metadata table; slope, position, orientation and
spacing stand in that table only. Tables and masks are those of v2.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np

from uvlm.imaging.geometry import to_lps
from uvlm.imaging.nifti import read_nifti, write_nifti

__all__ = ["write"]

HEADER = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Voxel to LPS mm: spacing 1, no rotation, as a NIfTI writer that is told nothing writes it."""


def write(source: Path, out: Path, seed: int) -> None:
    """Write the studies of `source`, in CT-RATE v2's layout, to the empty folder `out` as v1.

    `seed` is not needed: nothing is drawn.
    """
    root = source / "dataset"
    for folder in ("radiology_text_reports", "multi_abnormality_labels", "metadata", "ts_seg"):
        shutil.copytree(root / folder, out / "dataset" / folder)
    shutil.copy(root / "source.txt", out / "dataset")
    intercepts = _intercepts(root / "metadata")
    for split in ("train", "valid"):
        fixed = root / f"{split}_fixed"
        for path in sorted(fixed.rglob("*.nii.gz")):
            intercept = intercepts[path.name]
            hu = to_lps(read_nifti(path))[0].array
            # Scanners that store unsigned values use the larger offset.
            raw = (hu.astype(np.int32) - intercept).astype(
                np.uint16 if intercept == -8192 else np.int16
            )
            target = out / "dataset" / split / path.relative_to(fixed)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(target, raw, HEADER)


def _intercepts(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in sorted(folder.glob("*_metadata.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found |= {r["VolumeName"]: int(r["RescaleIntercept"]) for r in csv.DictReader(file)}
    return found

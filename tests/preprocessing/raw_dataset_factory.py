"""nnU-Net raw datasets written case by case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.nifti import write_nifti

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


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

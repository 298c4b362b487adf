"""ReXGroundingCT studies: made ones with true anatomy, and a body of three materials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.volume import Provenance, Volume
from uvlm.phantom.make import make_chest
from uvlm.phantom.rexgrounding import write

SHAPE = (24, 48, 60)
SPACING = 6.0
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
AFFINE[:3, 3] = (-180.0, -120.0, 300.0)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

Array = NDArray[Any]


def make(folder: Path) -> tuple[Path, Path]:
    """(studies in CT-RATE's layout, the same in ReXGroundingCT's)"""
    chest, rex = folder / "chest", folder / "rex"
    make_chest(chest, studies=8, seed=3, shape=(32, 64, 64), min_prevalence=0.3)
    rex.mkdir()
    write(chest, rex, seed=3)
    return chest, rex


def ball(z: float, y: float, x: float, radius: float) -> Array:
    """Voxels within `radius` voxels of a place in `SHAPE`; (z, y, x), LPS."""
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    distance = sum((axis - centre) ** 2 for axis, centre in zip(axes, (z, y, x), strict=True))
    return np.asarray(distance <= radius**2)


def body(**lesions: tuple[Array, float]) -> Volume:
    """Air, a body, two lungs, and lesions of given HU; x runs to the left."""
    rng = np.random.default_rng(0)
    _, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    hu = np.full(SHAPE, -1000.0)
    hu[np.broadcast_to(((y - 24) / 20) ** 2 + ((x - 30) / 27) ** 2 <= 1, SHAPE)] = 40
    for side in (-1, 1):
        lung = ((y - 25) / 13) ** 2 + ((x - 30 - 13 * side) / 9) ** 2 <= 1
        hu[np.broadcast_to(lung, SHAPE)] = -860
    for inside, value in lesions.values():
        hu[inside] = value
    noisy = np.rint(hu + rng.normal(0, 12, SHAPE)).astype(np.int16)
    source = Provenance(path="ct.nii.gz", format="nifti", checksum="0")
    return Volume(array=noisy, affine=AFFINE, provenance=source)


def write_stack(
    path: Path,
    masks: Sequence[Array],
    *,
    affine: Array | None = AFFINE,
    turned: bool = False,
    last: bool = False,
) -> Path:
    """Masks (z, y, x) as a stack; without an affine the identity, as in the released files."""
    stored = [mask.astype(np.uint8).transpose(2, 1, 0) for mask in masks]
    stack = np.stack([each[::-1, ::-1] if turned else each for each in stored], -1 if last else 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(stack, np.eye(4) if affine is None else LPS_TO_RAS @ affine), path)
    return path

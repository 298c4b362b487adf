"""Volume and mean density of every class of a mask, on the grid of its CT.

Volume is voxels times the voxel's volume; density is the mean of the CT's own values over the
class. Nothing is resampled, so image and mask must lie on one grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from uvlm.errors import ImageError
from uvlm.imaging.volume import Volume

__all__ = ["ClassMeasure", "measure", "require_same_grid"]

GRID_TOLERANCE_MM = 0.05
"""Corners of the two grids may lie this far apart: headers store float32 and rounded spacings."""


@dataclass(frozen=True)
class ClassMeasure:
    """One class of a mask."""

    name: str
    label: int
    volume_ml: float
    mean_hu: float | None
    """None when the class has no voxel."""
    voxels: int


def measure(
    image: Volume, mask: Volume, names: Mapping[int, str] | None = None
) -> list[ClassMeasure]:
    """Measure each label of `mask` (z, y, x) over `image` (z, y, x, HU), by ascending label.

    `names` gives label -> name; labels it names are measured even when absent from the mask
    (0 ml, no density), labels it does not name are called "label N". Background 0 is left out.

    Raises:
        ImageError: the two grids differ in shape or place.
    """
    require_same_grid(image, mask)
    names = names or {}
    counts, sums = _totals(image, mask)
    labels = sorted({*counts, *names} - {0})
    return [
        ClassMeasure(
            name=names.get(label, f"label {label}"),
            label=label,
            volume_ml=counts.get(label, 0) * mask.voxel_ml,
            mean_hu=sums[label] / counts[label] if label in counts else None,
            voxels=counts.get(label, 0),
        )
        for label in labels
    ]


def require_same_grid(image: Volume, mask: Volume) -> None:
    """Raise `ImageError` naming both files unless their voxels coincide to 0.05 mm."""
    where, other = mask.provenance.path, image.provenance.path
    remedy = "Resample the mask to the CT, or give the CT it was drawn on."
    if image.shape != mask.shape:
        found = f"the mask has {mask.shape} voxels (z, y, x), the image {other} has {image.shape}"
        raise ImageError.about(where, found, remedy)
    z, y, x = (n - 1 for n in image.shape)
    corners = np.array([(i, j, k, 1) for i in (0, x) for j in (0, y) for k in (0, z)]).T
    apart = np.linalg.norm(((image.affine - mask.affine) @ corners)[:3], axis=0).max()
    if apart > GRID_TOLERANCE_MM:
        found = f"the mask lies up to {apart:.2f} mm away from the image {other}"
        raise ImageError.about(where, found, remedy)


def _totals(image: Volume, mask: Volume) -> tuple[dict[int, int], dict[int, float]]:
    """(voxels per label, sum of HU per label), slab by slab so that no copy of the CT is made."""
    counts: dict[int, int] = {}
    sums: dict[int, float] = {}
    for hu, labels in zip(image.array, mask.array, strict=True):
        found, place = np.unique(labels, return_inverse=True)
        place = place.ravel()
        voxels = np.bincount(place)
        totals = np.bincount(place, weights=hu.ravel().astype(np.float64))
        for label, n, total in zip(found.tolist(), voxels, totals, strict=True):
            counts[label] = counts.get(label, 0) + int(n)
            sums[label] = sums.get(label, 0.0) + float(total)
    return counts, sums

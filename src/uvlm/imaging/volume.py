"""The one in-memory form of a CT volume or a mask.

Axes and coordinates:
    array     (z, y, x): the file's slowest axis first; after `reorient` z runs to Superior,
              y to Posterior, x to Left
    affine    4x4, maps a voxel index (x, y, z, 1) to millimetres in LPS: x to the patient's Left,
              y to Posterior, z to Superior, as in DICOM and ITK (NIfTI's own affine is RAS)
    spacing   millimetres per voxel along (z, y, x)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError

__all__ = ["Provenance", "Volume"]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a volume came from. Holds no patient identifier except what the path itself says."""

    path: str
    """File or folder, as given."""

    format: str
    """"nifti", "dicom", "nrrd", "metaimage" or "b2nd"."""

    checksum: str
    """SHA-256 of the file's bytes; of a DICOM series, of its files' bytes in slice order."""

    notes: tuple[str, ...] = ()
    """What the reader had to decide or repair, one sentence each."""

    details: dict[str, Any] = field(default_factory=dict)
    """Technical facts worth showing (series number, modality, kernel, dtype, slope)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A 3D array with its place in space.

    Raises:
        ImageError: not three axes, an empty axis, or an affine that is singular or not finite.
    """

    array: NDArray[Any]
    """(z, y, x). HU, int16 or float32, for an image; integers for a mask."""

    affine: NDArray[np.float64]
    """(4, 4), voxel index (x, y, z) to LPS millimetres."""

    provenance: Provenance

    def __post_init__(self) -> None:
        where = self.provenance.path
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise ImageError.about(
                where,
                f"found an array of shape {self.array.shape}",
                "Give one 3D volume; of a 4D file extract one time point or channel first.",
            )
        matrix = self.affine[:3, :3]
        if not np.isfinite(self.affine).all() or abs(np.linalg.det(matrix)) < 1e-9:
            raise ImageError.about(
                where,
                f"the spacing or direction is unusable (column lengths "
                f"{np.linalg.norm(matrix, axis=0).round(6).tolist()} mm)",
                "Export the file again with its true voxel spacing.",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        z, y, x = self.array.shape
        return z, y, x

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel along (z, y, x)."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

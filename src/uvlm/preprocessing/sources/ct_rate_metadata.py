"""A row of CT-RATE's metadata table: what makes stored values HU, and where the voxels lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SeriesMetadata", "parse_metadata"]

COLUMNS = {
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
    "XYSpacing": 2,
    "ZSpacing": 1,
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
}
"""Column to how many numbers its cells hold."""

TILT_DEG = 0.5
"""A gantry tilt below it moves the ends of a chest by less than 3 mm."""


@dataclass(frozen=True, kw_only=True)
class SeriesMetadata:
    """What the metadata table says of one series."""

    slope: float
    intercept: float
    """HU = slope x stored value + intercept."""

    spacing: tuple[float, float, float]
    """mm along (z, y, x)."""

    position: tuple[float, float, float]
    """Centre of the first voxel, LPS mm."""

    orientation: tuple[float, float, float, float, float, float]
    """Directions of a row and of a column, LPS."""

    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    """Slices, rows and columns; None where the table is empty."""

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4), voxel index (x, y, z) to LPS mm."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        axes = np.stack([row, column, np.cross(row, column)], axis=1)
        affine = np.eye(4)
        affine[:3, :3] = axes / np.linalg.norm(axes, axis=0) * self.spacing[::-1]
        affine[:3, 3] = self.position
        return affine


def parse_metadata(cells: Mapping[str, str]) -> SeriesMetadata | str:
    """A row of the metadata table, or what is wrong with it."""
    found: dict[str, tuple[float, ...]] = {}
    for column, count in COLUMNS.items():
        if column not in cells:
            return f"the metadata table has no column {column!r}"
        values = _numbers(cells[column])
        if len(values) != count:
            return f"the metadata table's {column} is {cells[column][:60]!r}"
        found[column] = values
    # "XY" is taken as it says; in every row of the archive the two are equal.
    (x, y), (z,) = found["XYSpacing"], found["ZSpacing"]
    slope, orientation = found["RescaleSlope"][0], found["ImageOrientationPatient"]
    if min(x, y, z) <= 0:
        return f"the metadata table's spacing is {z:g} x {y:g} x {x:g} mm"
    if slope == 0:
        return "the metadata table's RescaleSlope is 0"
    row, column_direction = orientation[:3], orientation[3:]
    across = sum(a * b for a, b in zip(row, column_direction, strict=True))
    if max(abs(math.hypot(*row) - 1), abs(math.hypot(*column_direction) - 1), abs(across)) > 0.01:
        return f"the metadata table's ImageOrientationPatient is {list(orientation)}"
    tilt = max(map(abs, _numbers(cells.get("GantryDetectorTilt", ""))), default=0.0)
    upright = abs(row[0] * column_direction[1] - row[1] * column_direction[0])
    if tilt > TILT_DEG and upright < math.cos(math.radians(TILT_DEG)):
        # The slices are stacked along the table, not along their normal; by how much is not said.
        return f"the metadata table's GantryDetectorTilt is {tilt:g} degrees"
    return SeriesMetadata(
        slope=slope,
        intercept=found["RescaleIntercept"][0],
        spacing=(z, y, x),
        position=found["ImagePositionPatient"],  # type: ignore[arg-type]
        orientation=orientation,  # type: ignore[arg-type]
        shape=(
            _count(cells.get("NumberofSlices", "")),
            _count(cells.get("Rows", "")),
            _count(cells.get("Columns", "")),
        ),
    )


def _numbers(cell: str) -> tuple[float, ...]:
    """`1.5`, `[0.68, 0.68]` or `[0.68 0.68]`; nothing if it is none of these."""
    text = cell.strip()
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1]
    try:
        values = tuple(map(float, text.replace(",", " ").split()))
    except ValueError:
        return ()
    return values if all(map(math.isfinite, values)) else ()


def _count(cell: str) -> int | None:
    numbers = _numbers(cell)
    return int(numbers[0]) if len(numbers) == 1 and numbers[0] >= 1 else None

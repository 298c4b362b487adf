"""Lesions of a mask in numbers: is there one, how many, how large.

    present      the authors' rule: resampled to 1 mm (nearest voxel) and eroded by 3x3x3, a voxel
                 is left; specks and sheets thinner than 3 mm are no lesion
    volume       all voxels of the class, before any erosion
    count        connected pieces, touching at a corner counts as touching
    diameter     of the largest piece, the longest straight line within one axial slice from edge
                 to edge (the Feret diameter that RECIST asks for), on the mask's own grid; not
                 the extent along an axis, which a slanted lesion exceeds

Only boxes around what is there are touched, so the cost goes with the lesions, not the scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.imaging.geometry import to_lps
from uvlm.imaging.volume import Volume
from uvlm.preprocessing.masks import bounding_box

__all__ = [
    "LesionMeasure",
    "axial_diameter",
    "eroded_mm3",
    "measure_lesions",
    "survives_erosion",
]

Spacing = tuple[float, float, float]

TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, kw_only=True)
class LesionMeasure:
    """One lesion class of one study."""

    present: bool
    """By the rule of the labels; a speck has a volume and yet is not present."""

    volume_ml: float = 0.0
    largest_diameter_mm: float = 0.0
    """Axial, of the piece with the most voxels; 0 without any."""

    count: int = 0


def measure_lesions(mask: Volume, value: int) -> LesionMeasure:
    """Measure the voxels of `mask` that hold `value`."""
    turned, _ = to_lps(mask)
    box = bounding_box((turned.array == value).view(np.uint8))
    if box is None:
        return LesionMeasure(present=False)
    inside = np.ascontiguousarray(turned.array[box] == value)
    start = (box[0].start, box[1].start, box[2].start)
    pieces, count = ndimage.label(inside, structure=TOUCHING)
    largest = int(np.bincount(pieces[inside]).argmax())
    return LesionMeasure(
        present=survives_erosion(inside, turned.spacing, start, turned.shape),
        volume_ml=int(inside.sum()) * mask.voxel_ml,
        largest_diameter_mm=axial_diameter(pieces == largest, turned.spacing),
        count=int(count),
    )


def survives_erosion(
    inside: NDArray[np.bool_],
    spacing: Spacing,
    start: tuple[int, int, int] = (0, 0, 0),
    shape: tuple[int, int, int] | None = None,
) -> bool:
    """Whether a voxel is left of a lesion at 1 mm after eroding it by 3x3x3; see `eroded_mm3`."""
    return eroded_mm3(inside, spacing, start, shape) > 0


def eroded_mm3(
    inside: NDArray[np.bool_],
    spacing: Spacing,
    start: tuple[int, int, int] = (0, 0, 0),
    shape: tuple[int, int, int] | None = None,
) -> int:
    """Voxels, and so mm^3, left of a lesion at 1 mm after eroding it by 3x3x3.

    Args:
        inside: part of a grid that holds all of the lesion, (z, y, x).
        spacing: mm (z, y, x).
        start, shape: where that part begins in its grid, and the grid's shape; the whole grid if
            left out.
    """
    picks = [
        _millimetre_samples(full, mm, first, size)
        for full, mm, first, size in zip(
            shape or inside.shape, spacing, start, inside.shape, strict=True
        )
    ]
    left = inside[np.ix_(*picks)]
    for axis in range(3):
        if left.shape[axis] < 3:
            return 0
        first, middle, last = (
            np.take(left, np.arange(at, left.shape[axis] - 2 + at), axis) for at in range(3)
        )
        left = first & middle & last
    return int(left.sum())


def _millimetre_samples(full: int, mm: float, first: int, size: int) -> NDArray[np.intp]:
    """Nearest voxel of every 1 mm step along an axis, those within first .. first + size."""
    steps = max(1, round(full * mm))
    nearest = ((np.arange(steps) + 0.5) * (full / steps)).astype(np.intp)
    return nearest[(nearest >= first) & (nearest < first + size)] - first


def axial_diameter(inside: NDArray[np.bool_], spacing: Spacing) -> float:
    """Longest straight line in mm within one slice, from voxel edge to voxel edge.

    Args:
        inside: (z, y, x), z along the body.
        spacing: mm (z, y, x).
    """
    _, dy, dx = spacing
    rows, columns = (_extents(np.asarray(inside.any(axis=axis))) for axis in (2, 1))
    bounds = np.hypot(rows * dy, columns * dx)
    longest = 0.0
    for z in np.argsort(-bounds, kind="stable"):
        # No line is longer than the diagonal of the box around the slice.
        if bounds[z] <= longest:
            break
        longest = max(longest, _feret(inside[z], dy, dx))
    return longest


def _extents(lines: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Voxels from the first to the last, for every slice of (slices, n)."""
    n = lines.shape[1]
    length = n - lines[:, ::-1].argmax(axis=1) - lines.argmax(axis=1)
    return np.asarray(np.where(lines.any(axis=1), length, 0), np.intp)


def _feret(plane: NDArray[np.bool_], dy: float, dx: float) -> float:
    """Largest distance between corners of the pixels of a plane (y, x) that holds any."""
    rows = np.flatnonzero(plane.any(axis=1))
    left = plane[rows].argmax(axis=1)
    right = plane.shape[1] - plane[rows, ::-1].argmax(axis=1)
    # The outermost corners of every row contain those of the convex hull.
    y = np.concatenate([rows, rows + 1, rows, rows + 1]) * dy
    x = np.concatenate([left, left, right, right]) * dx
    squares = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    return float(squares.max() ** 0.5)

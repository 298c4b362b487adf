"""Store studies in the axis orders that scanners and archives use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.nifti import write_nifti
from uvlm.phantom.canvas import Grid, Triple

__all__ = ["ORIENTATIONS", "stored", "write_volume"]

ORIENTATIONS: dict[str, float] = {
    "LPS": 0.60,
    "RAS": 0.15,
    "LAS": 0.08,
    "RPI": 0.05,
    "LPI": 0.06,
    "PIR": 0.03,
    "SAL": 0.03,
}
"""Direction in which each axis of a file runs, fastest first, and how often it is used."""

DIRECTIONS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


def stored(
    array: NDArray[Any], grid: Grid, shift: Triple, orientation: str
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """`array` (z, y, x to S, P, L) with its axes in the order and direction of `orientation`.

    Returns the array, its fastest axis last, and its affine to LPS mm. `shift` (z, y, x) moves
    the patient in the scanner; the anatomy keeps its place in the world.
    """
    size = array.shape[::-1]
    column = np.diag(grid.spacing[::-1])
    origin = np.add(grid.origin, shift)[::-1].copy()
    data = array.transpose(2, 1, 0)
    affine = np.eye(4)
    order = [DIRECTIONS[letter] for letter in orientation]
    for k, (axis, sign) in enumerate(order):
        affine[:3, k] = sign * column[axis]
        if sign < 0:
            origin += (size[axis] - 1) * column[axis]
            data = np.flip(data, axis)
    affine[:3, 3] = origin
    return data.transpose([axis for axis, _ in order]).transpose(2, 1, 0), affine


def write_volume(
    path: Path, array: NDArray[Any], grid: Grid, shift: Triple, orientation: str
) -> None:
    """Write a NIfTI file, making its folder; equal volumes give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, *stored(array, grid, shift, orientation))

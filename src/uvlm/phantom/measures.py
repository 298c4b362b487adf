"""Sizes of drawn shapes in millimetres, for the report."""

from __future__ import annotations

import numpy as np

from uvlm.phantom.canvas import Floats, Grid, Patch, Triple

__all__ = ["extent", "graded", "thickest", "widest"]


def extent(patch: Patch, grid: Grid) -> Triple:
    """Size along (z, y, x) of the voxels at least half filled, mm."""
    solid = patch.filled >= 0.5
    counts = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(solid.any(axis=others))
        counts.append(0 if len(hit) == 0 else int(hit[-1] - hit[0]) + 1)
    z, y, x = (n * s for n, s in zip(counts, grid.spacing, strict=True))
    return z, y, x


def widest(patch: Patch, grid: Grid) -> float:
    """Largest axial diameter along y or x, mm."""
    _, y, x = extent(patch, grid)
    return max(y, x)


def thickest(filled: Floats, grid: Grid, axis: int = 1) -> float:
    """Greatest thickness along `axis`, mm, counting partly filled voxels by their part."""
    return float(filled.sum(axis=axis).max(initial=0.0)) * grid.spacing[axis]


def graded(value: float, mild: float, severe: float) -> str:
    """ "mild" below the first limit, "severe" from the second, "moderate" between."""
    return "mild" if value < mild else "moderate" if value < severe else "severe"

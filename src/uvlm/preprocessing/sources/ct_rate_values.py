"""Are the values of a CT-RATE file HU, or what the scanner stored, and how do those become HU?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.volume import Volume
from uvlm.preprocessing.sources.ct_rate_metadata import SeriesMetadata

if TYPE_CHECKING:
    from uvlm.imaging.audit import Audit

__all__ = ["INTERCEPT_TOLERANCE", "hu_of", "known_offset", "like_hu", "sample_of", "scaled"]

SAMPLE_VOXELS = 250_000
"""To tell 0 from 1024 or 8192 above HU needs no more; the whole volume is audited afterwards."""

AIR_HU = (-1100, -600)
TISSUE_HU = (-100, 150)
LEAST_SHARE = 0.01
"""Of the voxels in each of the two; values off by 1024 or more have next to none in one of them."""

KNOWN_INTERCEPTS = (1024.0, 8192.0)
INTERCEPT_TOLERANCE = 30.0
"""The audit's own: patients differ by this."""

INT16 = np.iinfo(np.int16)


def sample_of(volume: Volume) -> Volume:
    """Every n-th voxel along each axis, so that about `SAMPLE_VOXELS` remain."""
    step = max(1, int((volume.array.size / SAMPLE_VOXELS) ** (1 / 3)))
    steps = np.diag([step, step, step, 1.0])
    return replace(volume, array=volume.array[::step, ::step, ::step], affine=volume.affine @ steps)


def hu_of(stored: NDArray[Any], meta: SeriesMetadata) -> NDArray[np.int16]:
    """HU of stored values; int16 ones may be changed in place.

    Slab by slab: no copy of the volume in a wider type.
    """
    whole = meta.slope == 1.0 and meta.intercept.is_integer()
    if stored.dtype == np.int16 and whole and abs(meta.intercept) <= INT16.max:
        ends = (int(stored.min()) + meta.intercept, int(stored.max()) + meta.intercept)
        if INT16.min <= ends[0] and ends[1] <= INT16.max:
            # Every real study comes this way.
            stored += np.int16(meta.intercept)
            return stored
    hu = np.empty(stored.shape, np.int16)
    for z, slab in enumerate(stored):
        hu[z] = np.rint(scaled(slab, meta)).clip(INT16.min, INT16.max)
    return hu


def scaled(stored: NDArray[Any], meta: SeriesMetadata) -> NDArray[np.float32]:
    """Slope and intercept applied, not yet rounded."""
    return stored.astype(np.float32) * np.float32(meta.slope) + np.float32(meta.intercept)


def like_hu(values: NDArray[Any]) -> bool:
    """Whether there is air or lung, and soft tissue, where HU have them."""
    inside = (np.mean((values > low) & (values < high)) for low, high in (AIR_HU, TISSUE_HU))
    return all(share >= LEAST_SHARE for share in inside)


def known_offset(found: Audit) -> float | None:
    """How far above HU the values are, if it is by an intercept in use."""
    if found.verdict != "shifted" or found.offset is None:
        return None
    near = (abs(found.offset - known) <= INTERCEPT_TOLERANCE for known in KNOWN_INTERCEPTS)
    return found.offset if any(near) else None

"""The box around what is not background: all voxels above a volume's lowest value.

It is MONAI's `CropForeground` on a volume scaled to 0..1. Noise in the air around a patient is
above the lowest value too, so that mostly only padding and air below the window are cropped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.resample import Slices
from uvlm.imaging.route import Box

__all__ = ["foreground_box"]


def foreground_box(
    array: Slices, shape: tuple[int, int, int], clip: tuple[float, float] | None
) -> Box | None:
    """First voxel and the one after the last along z, y, x; None if all have one value.

    Args:
        array: a volume (z, y, x), asked for one slice at a time, each once, in order
        shape: of it
        clip: limits applied to its values first
    """
    depth, height, width = shape
    lowest = np.empty(depth)
    above = np.zeros((depth, 4), np.intp)
    for z in range(depth):
        (plane,) = array[z : z + 1]
        if clip is not None:
            plane = np.clip(plane, *clip)
        lowest[z] = plane.min()
        inside = plane > lowest[z]
        above[z] = (*_extent(inside.any(axis=1)), *_extent(inside.any(axis=0)))
    # A plane without a voxel of the volume's lowest value lies above it everywhere.
    above[lowest > lowest.min()] = (0, height, 0, width)
    planes = _extent(above[:, 1] > 0)
    if planes == (0, 0):
        return None
    kept = above[above[:, 1] > 0]
    (top, left), (bottom, right) = kept[:, ::2].min(axis=0), kept[:, 1::2].max(axis=0)
    return planes, (int(top), int(bottom)), (int(left), int(right))


def _extent(found: NDArray[np.bool_]) -> tuple[int, int]:
    """The first that is found and the one after the last; (0, 0) for none."""
    places = np.flatnonzero(found)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)

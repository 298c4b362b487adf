"""Axial pictures of a prepared volume, for an encoder of single slices.

A prepared volume lies in LPS order, so that its first axis is the patient's long axis whatever the
scanner's was, and whichever axis has most voxels. The first slice is the nearest to the feet; in
each the patient's right is on the left and the front is on top, as radiologists look at them.

Letters: Z Y X voxels of the volume, S slices, P pixels along both sides of a slice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ConfigError
from uvlm.imaging.resample import AxisMap, resample

__all__ = ["cut_slices"]


def cut_slices(
    array_ZYX: NDArray[Any], *, slices: int, size: int, window: tuple[float, float]
) -> NDArray[np.uint8]:
    """Slices spread evenly from the first plane to the last; a single one is the middle plane.

    Where there are at least as many planes as slices, each slice is the plane nearest to its
    place; where there are fewer, it is interpolated between two. Planes are resized to a square
    whatever their sides, averaging what a pixel covers.

    Args:
        array_ZYX: HU of a prepared volume, z towards the head
        slices: S
        size: P
        window: HU that become 0 and 255, the same in every slice: air is as dark in a slice of
            lungs as in one without

    Returns:
        (S, P, P), from the feet to the head.

    Raises:
        ConfigError: no slices, no pixels, or an empty window.
    """
    low, high = window
    if min(slices, size) < 1:
        raise ConfigError(f"slices and size must be at least 1, got {slices} and {size}.")
    if not low < high:
        raise ConfigError(f"the window must be (black, white) with black lower, got {window}.")
    planes, rows, columns = array_ZYX.shape
    places = np.linspace(0, planes - 1, slices) if slices > 1 else np.array([(planes - 1) / 2])
    if planes >= slices:
        array_ZYX = array_ZYX[np.rint(places).astype(np.intp)]
        along_z = AxisMap(slices, slices, 1.0, 0.0)
    else:
        along_z = AxisMap(planes, slices, (planes - 1) / (slices - 1), 0.0)
    maps = (along_z, _stretched(rows, size), _stretched(columns, size))
    cut_SPP = resample(array_ZYX, maps, antialias=True, fill=low, clip=(low, high))
    shades_SPP = (cut_SPP - np.float32(low)) * np.float32(255 / (high - low))
    rounded: NDArray[np.uint8] = np.rint(shades_SPP).astype(np.uint8)
    return rounded


def _stretched(pixels: int, size: int) -> AxisMap:
    """Outer edges onto outer edges."""
    scale = pixels / size
    return AxisMap(pixels, size, scale, (scale - 1) / 2)

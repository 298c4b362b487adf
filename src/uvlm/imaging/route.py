"""The geometric way of one volume: turn to LPS, straighten skewed axes, map axis by axis.

The same route is computed from the source's shape and affine when going and when coming back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.geometry import Reorientation, is_sheared, to_lps
from uvlm.imaging.resample import AxisMap
from uvlm.imaging.straighten import Straighten, plan_straighten
from uvlm.imaging.volume import Provenance, Volume

__all__ = ["Box", "Route", "plan_route"]

Shape = tuple[int, int, int]

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First voxel and the one after the last, along z, y and x of a turned and straightened source."""


@dataclass(frozen=True, eq=False)
class Route:
    """How a source grid becomes a prepared one."""

    turn: Reorientation
    straighten: Straighten | None
    maps: tuple[AxisMap, AxisMap, AxisMap]
    """Axes (z, y, x), from the turned and straightened grid to the prepared one."""

    affine: NDArray[np.float64]
    """(4, 4) of the prepared grid, index (x, y, z) to LPS mm."""


def plan_route(
    shape: Shape,
    affine: NDArray[np.float64],
    target: Shape,
    spacing: tuple[float, float, float] | None,
    align_corners: bool,
    crop: Box | None = None,
) -> Route:
    """The route from a source grid to `target` voxels (z, y, x).

    With `spacing` (mm) the voxels get that size and the volume is cropped or padded around its
    centre; without, it is stretched to `target`. With `crop` that box takes the volume's place: it
    is a window into the source, and voxels at its faces still mix with what lies behind them.
    """
    # Only the geometry matters: one value seen as a whole volume costs no memory.
    outline = Volume(
        array=np.broadcast_to(np.int8(0), shape),
        affine=affine,
        provenance=Provenance(path="", format="", checksum=""),
    )
    turned, turn = to_lps(outline)
    straighten = None
    straight_shape, base = turned.shape, turned.affine
    if is_sheared(turned.affine):
        straighten = plan_straighten(turned.shape, turned.affine)
        straight_shape, base = straighten.straight, straighten.affine
    sizes = np.linalg.norm(base[:3, :3], axis=0)[::-1]
    box = crop or tuple((0, n) for n in straight_shape)
    axes = []
    for i, (n, m, (first, end)) in enumerate(zip(straight_shape, target, box, strict=True)):
        if spacing is None:
            axis = _stretch(end - first, m, align_corners)
        else:
            axis = _respace(end - first, m, spacing[i] / sizes[i])
        axes.append(replace(axis, source=n, offset=axis.offset + first))
    step = np.eye(4)
    for column, axis in enumerate(reversed(axes)):
        step[column, column], step[column, 3] = axis.scale, axis.offset
    return Route(turn, straighten, (axes[0], axes[1], axes[2]), base @ step)


def _stretch(n: int, m: int, align_corners: bool) -> AxisMap:
    if align_corners and n > 1 and m > 1:
        return AxisMap(n, m, (n - 1) / (m - 1), 0.0)
    scale = n / m
    return AxisMap(n, m, scale, (scale - 1) / 2)


def _respace(n: int, m: int, scale: float) -> AxisMap:
    whole = max(1, round(n / scale))
    first = (n - 1) / 2 - scale * (whole - 1) / 2
    # Cropping or padding moves by whole voxels, so that equal spacings copy voxels unchanged.
    return AxisMap(n, m, scale, first + scale * ((whole - m) // 2))

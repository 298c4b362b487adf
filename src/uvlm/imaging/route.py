"""The geometric way of one volume: turn to LPS, straighten skewed axes, map axis by axis.

The same route is computed from the source's shape and affine when going and when coming back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.imaging.geometry import Reorientation, is_sheared, to_lps
from uvlm.imaging.resample import AxisMap
from uvlm.imaging.volume import Provenance, Volume

__all__ = ["Route", "Straighten", "plan_route"]

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Straighten:
    """From a grid with skewed axes (gantry tilt) to one with right angles, and back.

    The slices stay where they are: their plane spans the new x and y, its normal is the new z, and
    each slice is shifted within its plane. The new grid holds the whole of the old one.
    """

    skewed: Shape
    straight: Shape
    matrix: NDArray[np.float64]
    """(3, 3), index (z, y, x) on the straight grid to index on the skewed one, without offset."""

    offset: NDArray[np.float64]
    """(3,), skewed index of straight voxel (0, 0, 0)."""

    affine: NDArray[np.float64]
    """(4, 4) of the straight grid."""

    def apply(self, array: NDArray[Any], fill: float) -> NDArray[np.float32]:
        values = array.astype(np.float32)
        return self._warp(values, self.matrix, self.offset, self.straight, 1, fill)

    def undo(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._warp(array, *self._inverse, self.skewed, 1, 0.0)

    def apply_labels(self, array: NDArray[Any]) -> NDArray[Any]:
        return self._warp(array, self.matrix, self.offset, self.straight, 0, 0.0)

    def undo_labels(self, array: NDArray[Any]) -> NDArray[Any]:
        return self._warp(array, *self._inverse, self.skewed, 0, 0.0)

    @property
    def _inverse(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        matrix = np.linalg.inv(self.matrix).astype(np.float64)
        return matrix, -matrix @ self.offset

    @staticmethod
    def _warp(
        array: NDArray[Any],
        matrix: NDArray[np.float64],
        offset: NDArray[np.float64],
        shape: Shape,
        order: int,
        fill: float,
    ) -> NDArray[Any]:
        result: NDArray[Any] = ndimage.affine_transform(
            array, matrix, offset, shape, order=order, cval=fill, mode="grid-constant"
        )
        return result


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
) -> Route:
    """The route from a source grid to `target` voxels (z, y, x).

    With `spacing` (mm) the voxels get that size and the volume is cropped or padded around its
    centre; without, it is stretched to `target`.
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
        straighten = _plan_straighten(turned.shape, turned.affine)
        straight_shape, base = straighten.straight, straighten.affine
    sizes = np.linalg.norm(base[:3, :3], axis=0)[::-1]
    axes = [
        _stretch(n, m, align_corners) if spacing is None else _respace(n, m, spacing[i] / sizes[i])
        for i, (n, m) in enumerate(zip(straight_shape, target, strict=True))
    ]
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


def _plan_straighten(shape: Shape, affine: NDArray[np.float64]) -> Straighten:
    q, r = np.linalg.qr(affine[:3, :3])
    signs = np.sign(np.diag(r))
    q, r = q * signs, r * signs[:, None]
    sizes = np.diag(r)
    # Index (x, y, z) on the skewed grid to the same point's index on the straight one.
    shear = r / sizes[:, None]
    depth, height, width = shape
    corners = np.array(
        [(x, y, z) for x in (0, width - 1) for y in (0, height - 1) for z in (0, depth - 1)]
    )
    placed = corners @ shear.T
    low = np.floor(placed.min(axis=0) + 1e-6)
    high = np.ceil(placed.max(axis=0) - 1e-6)
    width, height, depth = (int(n) for n in high - low + 1)
    straight = np.eye(4)
    straight[:3, :3] = q * sizes
    straight[:3, 3] = affine[:3, 3] + straight[:3, :3] @ low
    back = np.linalg.inv(shear).astype(np.float64)
    return Straighten(
        skewed=shape,
        straight=(depth, height, width),
        matrix=back[::-1, ::-1].copy(),
        offset=(back @ low)[::-1].copy(),
        affine=straight,
    )

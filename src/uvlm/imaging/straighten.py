"""From a grid with skewed axes (gantry tilt) to one with right angles, slice by slice, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Planes", "Straighten", "plan_straighten"]

Shape = tuple[int, int, int]

ALIKE = 1e-9
"""Voxels that a row of a slice may be off per row and still move as its neighbours do."""


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

    def apply(
        self, array: NDArray[Any], fill: float, clip: tuple[float, float] | None = None
    ) -> Planes:
        """`array`, limited to `clip`, on the straight grid; made where it is sliced along z."""
        return Planes(array, self._there, fill, clip)

    def undo(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        return Planes(array, self._back, 0.0)[:]

    def apply_labels(self, array: NDArray[Any]) -> NDArray[Any]:
        return self._there.all_nearest(array)

    def undo_labels(self, array: NDArray[Any]) -> NDArray[Any]:
        return self._back.all_nearest(array)

    @property
    def _there(self) -> _Shift:
        return _Shift(self.matrix, self.offset, self.straight)

    @property
    def _back(self) -> _Shift:
        matrix = np.linalg.inv(self.matrix).astype(np.float64)
        return _Shift(matrix, -matrix @ self.offset, self.skewed)


def plan_straighten(shape: Shape, affine: NDArray[np.float64]) -> Straighten:
    """The straight grid around a skewed one of `shape` (z, y, x) and `affine`."""
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


@dataclass(frozen=True, eq=False)
class Planes:
    """A straightened volume whose slices are made when they are asked for: `planes[first:last]`."""

    array: NDArray[Any]
    shift: _Shift
    fill: float
    clip: tuple[float, float] | None = None

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        numbers = range(*part.indices(len(self.array)))
        result = np.empty((len(numbers), *self.shift.shape[1:]), np.float32)
        for place, z in enumerate(numbers):
            plane = np.array(self.array[z], np.float32, order="C")
            if self.clip is not None:
                np.clip(plane, *self.clip, out=plane)
            # Counted from the value outside, what lies outside is 0.
            plane -= np.float32(self.fill)
            np.add(self.shift.linear(plane, z), np.float32(self.fill), out=result[place])
        return result


@dataclass(frozen=True, eq=False)
class _Shift:
    """Each slice shifted within its plane, row by row; slices keep their number.

    Positions: y' = y + a z + c, x' = x + b y + d z + e. A gantry tilt has b = 0, so that all rows
    of a slice move alike.
    """

    matrix: NDArray[np.float64]
    """(3, 3), index (z, y, x) of the result to index of the source."""

    offset: NDArray[np.float64]
    shape: Shape
    """Of the result."""

    def _rows(self, z: int) -> NDArray[np.float64]:
        """(h,) source row of every row of slice `z`."""
        first = float(self.matrix[1, 0] * z + self.offset[1])
        return first + np.arange(self.shape[1], dtype=np.float64)

    def _columns(self, z: int) -> NDArray[np.float64]:
        """(h, w) source column of every voxel of slice `z`; (1, w) where all rows are alike."""
        rows = np.arange(self.shape[1]) if abs(self.matrix[2, 1]) > ALIKE else np.zeros(1)
        first = self.matrix[2, 1] * rows + (self.matrix[2, 0] * z + self.offset[2])
        columns = np.arange(self.shape[2], dtype=np.float64)
        return columns + np.asarray(first, np.float64)[:, None]

    def linear(self, plane: NDArray[np.float32], z: int) -> NDArray[np.float32]:
        """Slice `z` of the result from that of the source; 0 outside the source."""
        return _mixed(_mixed(plane, self._rows(z)[:, None], 0), self._columns(z), 1)

    def all_nearest(self, array: NDArray[Any]) -> NDArray[Any]:
        """Labels, by the nearest voxel; 0 outside."""
        result = np.zeros(self.shape, array.dtype)
        for z, plane in enumerate(array):
            rows, columns = (
                np.floor(places + 0.5).astype(np.intp)
                for places in (self._rows(z)[:, None], self._columns(z))
            )
            result[z] = _taken(_taken(plane, rows, 0), columns, 1)
        return result


def _mixed(
    plane: NDArray[np.float32], places: NDArray[np.float64], axis: int
) -> NDArray[np.float32]:
    """Two neighbours along `axis` mixed at `places`, which broadcast against the result."""
    first = np.floor(places)
    share = (places - first).astype(np.float32)
    low = first.astype(np.intp)
    result = _taken(plane, low, axis)
    result *= 1 - share
    if share.any():
        result += _taken(plane, low + 1, axis) * share
    return result


def _taken(plane: NDArray[Any], places: NDArray[np.intp], axis: int) -> NDArray[Any]:
    """A copy of the voxels at `places` along `axis`; 0 outside the plane."""
    size = plane.shape[axis]
    within = np.clip(places, 0, size - 1)
    if places.shape[1 - axis] == 1:
        result: NDArray[Any] = plane.take(within.ravel(), axis)
    else:
        result = np.take_along_axis(plane, within, axis)
    outside = places != within
    if outside.any():
        result[np.broadcast_to(outside, result.shape)] = 0
    return result

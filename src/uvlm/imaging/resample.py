"""Separable linear resampling of volumes, and of label maps by a vote among their classes.

Every axis is described by an `AxisMap`: source index = scale * target index + offset. Interpolation
along an axis is a banded matrix, applied block by block with the linear algebra library, so that a
512x512x300 volume takes well under a second and little memory.

The weights are those of the triangle filter. With `antialias` its support grows with the scale
when shrinking, as in PyTorch's antialiased interpolation; without, two neighbours are mixed.

Letters: n source voxels, m target voxels along an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["AxisMap", "Slices", "resample", "resample_labels"]

Maps = Sequence["AxisMap"]
"""One map per axis (z, y, x)."""

BLOCK = 16
"""Target voxels per matrix product: small enough to skip most of the zeros of the band."""

SLAB = 4
"""Source slices held as float32 at a time: few enough for the processor's cache."""

VOTE_SLAB = 16
"""Target slices of labels that are decided at a time."""

ON_EDGE = 1e-4
"""Rounding allowed when asking whether a position lies inside the volume, in voxels."""


class Slices(Protocol):
    """A volume (z, y, x), or what makes its slices when they are asked for."""

    def __getitem__(self, part: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class AxisMap:
    """Where the voxels of a target axis lie on a source axis."""

    source: int
    """n"""

    target: int
    """m"""

    scale: float
    """Source voxels per target voxel."""

    offset: float
    """Source index of target voxel 0."""

    @property
    def inverse(self) -> AxisMap:
        return AxisMap(self.target, self.source, 1 / self.scale, -self.offset / self.scale)

    @property
    def is_identity(self) -> bool:
        return self.source == self.target and self.scale == 1 and self.offset == 0

    @property
    def centres(self) -> NDArray[np.float64]:
        """(m,) source index of every target voxel."""
        return self.scale * np.arange(self.target, dtype=np.float64) + self.offset

    @property
    def nearest(self) -> NDArray[np.intp]:
        """(m,) the source voxel nearest to every target voxel."""
        rounded = np.floor(self.centres + 0.5 + ON_EDGE)
        return np.clip(rounded, 0, self.source - 1).astype(np.intp)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """(m,) whether a target voxel's centre lies in the source volume, to its outer edges."""
        centres = self.centres
        return (centres > -0.5 - ON_EDGE) & (centres < self.source - 0.5 + ON_EDGE)


class _Weights:
    """The banded matrix (m, n) of one axis; a row outside the volume is zero."""

    def __init__(self, axis: AxisMap, shrinking: Literal["two", "triangle", "area"]) -> None:
        """`shrinking`: what a target voxel reads where the axis shrinks; otherwise always two."""
        support = max(1.0, axis.scale) if shrinking == "triangle" else 1.0
        # Two neighbours at most: in the outer half voxel that is the border's value alone.
        centres = axis.centres if support > 1 else np.clip(axis.centres, 0, axis.source - 1)
        distance = np.abs(centres[:, None] - np.arange(axis.source))
        if shrinking == "area" and axis.scale > 1:
            matrix = np.clip((axis.scale + 1) / 2 - distance, 0, 1)
        else:
            matrix = np.maximum(0, 1 - distance / support)
        matrix[~axis.inside] = 0
        total = matrix.sum(axis=1, keepdims=True)
        self.matrix = (matrix / np.where(total > 0, total, 1)).astype(np.float32)
        self.axis = axis

    @cached_property
    def bands(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(m,) first source voxel a target voxel reads, and the one after the last."""
        reads = self.matrix > 0
        first = reads.argmax(axis=1)
        last = self.axis.source - reads[:, ::-1].argmax(axis=1)
        return first, np.where(reads.any(axis=1), last, first)

    def blocks(self, rows: slice, columns: slice) -> Iterator[tuple[slice, slice]]:
        """Pieces of `rows` with the part of `columns` that they read."""
        first, last = self.bands
        for start in range(rows.start, rows.stop, BLOCK):
            stop = min(start + BLOCK, rows.stop)
            reading = last[start:stop] > first[start:stop]
            low = int(first[start:stop][reading].min(initial=columns.stop))
            high = int(last[start:stop][reading].max(initial=columns.start))
            yield (
                slice(start, stop),
                slice(max(low, columns.start), max(min(high, columns.stop), columns.start)),
            )

    def rows_reading(self, columns: slice, within: slice) -> slice:
        """The target voxels of `within` that read any of `columns`."""
        first, last = self.bands
        reading = (last > columns.start) & (first < columns.stop) & (last > first)
        found = np.flatnonzero(reading[within]) + within.start
        return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)

    def columns_read(self, rows: slice, within: slice) -> slice:
        """The source voxels of `within` that any of `rows` reads."""
        first, last = self.bands
        return slice(
            max(within.start, int(first[rows].min())), min(within.stop, int(last[rows].max()))
        )

    def apply(
        self, array: NDArray[np.float32], axis: int, rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """Interpolate `rows` of `axis` from `array`, which holds `columns` of the source."""
        shape = list(array.shape)
        shape[axis] = rows.stop - rows.start
        result = np.zeros(shape, np.float32)
        for part, reads in self.blocks(rows, columns):
            if reads.stop <= reads.start:
                continue
            matrix = self.matrix[part, reads]
            taken = slice(reads.start - columns.start, reads.stop - columns.start)
            put = slice(part.start - rows.start, part.stop - rows.start)
            if axis == 0:
                flat = array[taken].reshape(taken.stop - taken.start, -1)
                np.matmul(matrix, flat, out=result[put].reshape(put.stop - put.start, -1))
            elif axis == 1:
                np.matmul(matrix, array[:, taken], out=result[:, put])
            else:
                np.matmul(array[:, :, taken], matrix.T, out=result[:, :, put])
        return result

    def apply_all(self, array: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        if self.axis.is_identity:
            return array
        return self.apply(array, axis, slice(0, self.axis.target), slice(0, self.axis.source))


def resample(
    array: Slices,
    maps: Maps,
    *,
    antialias: bool,
    fill: float,
    clip: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Linear interpolation of `array` (z, y, x) onto the grid of `maps`.

    Args:
        array: asked for a few slices along z at a time, each at most once, in order
        fill: value of target voxels outside the source volume.
        clip: limits applied to the source's values before they are mixed.

    Returns:
        float32 of the maps' target shape.
    """
    z, y, x = (_Weights(axis, "triangle" if antialias else "two") for axis in maps)

    def planes(first: int, last: int) -> NDArray[np.float32]:
        slab = np.array(array[first:last], np.float32, order="C")
        if clip is not None:
            np.clip(slab, *clip, out=slab)
        return y.apply_all(x.apply_all(slab, 2), 1)

    result = np.zeros((z.axis.target, y.axis.target, x.axis.target), np.float32)
    _mix_planes(z, planes, result)
    for axis, line in enumerate(maps):
        if not line.inside.all():
            np.moveaxis(result, axis, 0)[~line.inside] = fill
    return result


def _mix_planes(
    z: _Weights, planes: Callable[[int, int], NDArray[np.float32]], result: NDArray[np.float32]
) -> None:
    """Fill `result` (z, y, x), holding only the source planes that a block of its slices reads.

    `planes(first, last)` makes these; it is asked for each once, in order.
    """
    blocks = list(z.blocks(slice(0, z.axis.target), slice(0, z.axis.source)))
    most = max(0, *(reads.stop - reads.start for _, reads in blocks))
    held = np.empty((most, *result.shape[1:]), np.float32)
    first = last = 0  # the source planes in `held`
    for rows, reads in blocks:
        if reads.stop <= reads.start:
            continue
        kept = max(0, last - reads.start)
        held[:kept] = held[last - first - kept : last - first]
        first, last = reads.start, reads.stop
        for start in range(first + kept, last, SLAB):
            stop = min(start + SLAB, last)
            held[start - first : stop - first] = planes(start, stop)
        mixed = result[rows].reshape(rows.stop - rows.start, -1)
        np.matmul(z.matrix[rows, reads], held[: last - first].reshape(last - first, -1), out=mixed)


def resample_labels(array: NDArray[Any], maps: Maps, *, vote: bool) -> NDArray[Any]:
    """Bring a label map (z, y, x) onto the grid of `maps`; 0 outside the source volume.

    Args:
        vote: the class with the largest share of a target voxel wins: of the area it covers where
            an axis shrinks, of the linear mixture of two neighbours where it grows. Otherwise the
            nearest voxel counts.

    Returns:
        Labels of the maps' target shape; the values and the type are those of `array`.
    """
    if vote:
        return _vote(array, maps)
    result: NDArray[Any] = array[np.ix_(*(axis.nearest for axis in maps))]
    for number, axis in enumerate(maps):
        np.moveaxis(result, number, 0)[~axis.inside] = 0
    return result


def _vote(array: NDArray[Any], maps: Maps) -> NDArray[Any]:
    weights = [_Weights(axis, "area") for axis in maps]
    z, y, x = (axis.target for axis in maps)
    result = np.zeros((z, y, x), array.dtype)
    boxes = [(value, box) for value, box in enumerate(ndimage.find_objects(array), 1) if box]
    for start in range(0, z, VOTE_SLAB):
        slab = slice(start, min(start + VOTE_SLAB, z))
        best = np.zeros((slab.stop - start, y, x), np.float32)
        taken = np.zeros_like(best)
        for value, box in boxes:
            rows = [
                w.rows_reading(columns, within)
                for w, columns, within in zip(
                    weights, box, (slab, slice(0, y), slice(0, x)), strict=True
                )
            ]
            if any(r.stop == r.start for r in rows):
                continue
            reads = (weights[0].columns_read(rows[0], box[0]), box[1], box[2])
            share = (array[reads] == value).astype(np.float32)
            for axis in range(3):
                share = weights[axis].apply(share, axis, rows[axis], reads[axis])
            where = (slice(rows[0].start - start, rows[0].stop - start), rows[1], rows[2])
            taken[where] += share
            wins = share > best[where]
            best[where][wins] = share[wins]
            result[rows[0], rows[1], rows[2]][wins] = value
        # What no class took is background; on a tie the structure stays.
        result[slab][1 - taken > best + 1e-5] = 0
    return result

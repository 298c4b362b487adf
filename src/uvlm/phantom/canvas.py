"""Paint structures given in millimetres onto a voxel grid with true partial volume.

Two ways, chosen by size. A shape large against a voxel is given as an implicit field F
(negative inside); the part of a voxel it covers follows from F over its change across the voxel.
A shape that may be thinner than a voxel is given by sample points, each standing for a small
volume, which are counted per voxel: a 3 mm wall in a 5 mm voxel then fills 3/5 of it.

Axes: z to Superior, y to Posterior, x to Left (LPS), arrays and points ordered (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

__all__ = ["Canvas", "Floats", "Grid", "Patch", "Triple", "around", "coverage", "sheet"]

Floats = NDArray[np.float32]
Box = tuple[slice, slice, slice]
Triple = tuple[float, float, float]
Field = Callable[[Floats, Floats, Floats], Floats]


@dataclass(frozen=True)
class Grid:
    """Voxel centres in the patient's millimetres."""

    shape: tuple[int, int, int]
    """Voxels along (z, y, x)."""

    spacing: Triple
    """Millimetres per voxel along (z, y, x)."""

    origin: Triple
    """Centre of voxel (0, 0, 0), (z, y, x)."""

    @cached_property
    def axes(self) -> tuple[Floats, Floats, Floats]:
        """Coordinates along z, y, x, shaped to broadcast to `shape`."""
        lines = [
            (np.arange(n) * s + o).astype(np.float32)
            for n, s, o in zip(self.shape, self.spacing, self.origin, strict=True)
        ]
        return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]

    def box(self, low: Triple, high: Triple) -> Box:
        """Slices of the voxels that touch the cuboid from `low` to `high`; may be empty."""
        slices = []
        for n, s, o, a, b in zip(self.shape, self.spacing, self.origin, low, high, strict=True):
            start = min(n, max(0, int((a - o) / s - 0.5)))
            slices.append(slice(start, max(start, min(n, ceil((b - o) / s + 0.5) + 1))))
        return slices[0], slices[1], slices[2]

    def local(self, box: Box) -> tuple[Floats, Floats, Floats]:
        """The axes inside `box`."""
        z, y, x = self.axes
        return z[box[0]], y[:, box[1]], x[:, :, box[2]]

    @property
    def voxel_mm3(self) -> float:
        z, y, x = self.spacing
        return z * y * x


@dataclass(frozen=True, eq=False)
class Patch:
    """Part of a grid and how much of each voxel a structure fills there, 0 to 1."""

    box: Box
    filled: Floats

    def most(self, share: float) -> float:
        """`share` of the greatest filling: the limit of a mask of what is thinner than a voxel."""
        return share * max(1e-3, float(self.filled.max(initial=0.0)))


def _across(field: Floats) -> Floats:
    """Change of `field` across each voxel: along each axis the larger of both one-voxel steps."""
    width = np.full(field.shape, 1e-6, dtype=np.float32)
    for axis in range(3):
        along, total = field.swapaxes(0, axis), width.swapaxes(0, axis)
        if len(along) > 1:
            step = np.subtract(along[1:], along[:-1])
            np.abs(step, out=step)
            total[0] += step[0]
            total[-1] += step[-1]
            total[1:-1] += np.maximum(step[1:], step[:-1])
    return width


def coverage(field: Floats) -> Floats:
    """Part of each voxel where the implicit `field` is negative."""
    filled = field / _across(field)
    np.subtract(0.5, filled, out=filled)
    return np.clip(filled, 0.0, 1.0, out=filled)


def sheet(field: Floats, thickness: float | Floats) -> Floats:
    """Part of each voxel within half a `thickness` of the surface field = 0.

    Exact for plane sheets, however thin; `field` is a signed distance in mm.
    """
    width = _across(field)
    half = np.float32(0.5) * np.asarray(thickness, dtype=np.float32)
    outer = np.clip(0.5 - (field - half) / width, 0.0, 1.0)
    inner = np.clip(0.5 - (field + half) / width, 0.0, 1.0)
    return np.asarray(outer - inner, dtype=np.float32)


class Canvas:
    """HU and class of every voxel while a study is being painted; later paint covers earlier."""

    def __init__(self, grid: Grid, background: float = -1000.0) -> None:
        self.grid = grid
        self.hu: Floats = np.full(grid.shape, background, dtype=np.float32)
        self.mask: NDArray[np.uint8] = np.zeros(grid.shape, dtype=np.uint8)

    def paint(
        self, patch: Patch, hu: float | Floats, label: int | None = None, at_least: float = 0.5
    ) -> None:
        """Mix `hu` in by the filled part; give voxels filled `at_least` so far the class."""
        region = self.hu[patch.box]
        region += patch.filled * (hu - region)
        if label is not None:
            self.mask[patch.box][patch.filled >= at_least] = label

    def shape(self, low: Triple, high: Triple, field: Field) -> Patch:
        """The implicit shape `field(z, y, x)` inside a bounding box in mm."""
        box = self.grid.box(low, high)
        z, y, x = self.grid.local(box)
        if 0 in (z.size, y.size, x.size):
            return Patch(box, np.zeros((z.size, y.size, x.size), dtype=np.float32))
        return Patch(box, coverage(field(z, y, x)))

    def ellipsoid(
        self, centre: Triple, radii: Triple, turn: NDArray[np.float64] | None = None
    ) -> Patch:
        """An ellipsoid; rows of `turn` are its axes in (z, y, x)."""
        reach = max(radii) if turn is not None else None
        span = radii if reach is None else (reach, reach, reach)
        low, high = around(centre, span)
        matrix = (np.eye(3) if turn is None else turn) / np.asarray(radii)[:, None]
        return self.shape(low, high, lambda z, y, x: _radius(matrix, centre, z, y, x) - 1)

    def capsule(self, start: Triple, end: Triple, radius: float) -> Patch:
        """A straight round bar with round ends."""
        a, b = np.asarray(start), np.asarray(end)
        low, high = np.minimum(a, b) - radius, np.maximum(a, b) + radius
        d = (b - a).astype(np.float32)
        length2 = float(d @ d)

        def field(z: Floats, y: Floats, x: Floats) -> Floats:
            z, y, x = z - np.float32(a[0]), y - np.float32(a[1]), x - np.float32(a[2])
            t = np.clip((z * d[0] + y * d[1] + x * d[2]) / length2, 0, 1)
            away = (z - t * d[0]) ** 2 + (y - t * d[1]) ** 2 + (x - t * d[2]) ** 2
            return np.asarray(np.sqrt(away) - np.float32(radius), dtype=np.float32)

        return self.shape(_triple(low), _triple(high), field)

    def fine(self, low: Triple, high: Triple, field: Field, step: float) -> Patch:
        """As `shape`, for shapes thinner than a voxel: counts samples at most `step` mm apart."""
        box = self.grid.box(low, high)
        n = [s.stop - s.start for s in box]
        if 0 in n:
            return Patch(box, np.zeros(n, dtype=np.float32))
        k = [min(8, ceil(s / step)) for s in self.grid.spacing]
        lines = []
        for axis in range(3):
            s, o = self.grid.spacing[axis], self.grid.origin[axis]
            steps = (np.arange(n[axis] * k[axis]) + 0.5) / k[axis] - 0.5 + box[axis].start
            lines.append((steps * s + o).astype(np.float32))
        inside = field(lines[0][:, None, None], lines[1][None, :, None], lines[2]) < 0
        cells = inside.reshape(n[0], k[0], n[1], k[1], n[2], k[2])
        return Patch(box, cells.mean(axis=(1, 3, 5), dtype=np.float32))

    def small_ellipsoid(self, centre: Triple, radii: Triple) -> Patch:
        """An upright ellipsoid that may be smaller than a voxel."""
        c, r = centre, radii

        def field(z: Floats, y: Floats, x: Floats) -> Floats:
            away = ((z - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((x - c[2]) / r[2]) ** 2
            return np.asarray(away - 1, dtype=np.float32)

        return self.fine(*around(c, r), field, min(2.0, min(r) / 2.5))

    def splat(self, points: NDArray[np.floating], mm3: NDArray[np.floating] | float) -> Patch:
        """Sample points (N, 3), each standing for `mm3` of material, counted per voxel."""
        spacing, origin = np.asarray(self.grid.spacing), np.asarray(self.grid.origin)
        index = np.floor((points.reshape(-1, 3) - origin) / spacing + 0.5).astype(np.int64)
        weight = np.broadcast_to(np.asarray(mm3), points.shape[:-1]).reshape(-1)
        kept = ((index >= 0) & (index < self.grid.shape)).all(axis=1)
        index, weight = index[kept], weight[kept]
        if len(index) == 0:
            return Patch((slice(0, 0),) * 3, np.zeros((0, 0, 0), dtype=np.float32))
        low = index.min(axis=0)
        size = index.max(axis=0) - low + 1
        index -= low
        flat = (index[:, 0] * size[1] + index[:, 1]) * size[2] + index[:, 2]
        counts = np.bincount(flat, weights=weight, minlength=int(size.prod()))
        filled = np.minimum(counts / self.grid.voxel_mm3, 1.0).astype(np.float32)
        z, y, x = (slice(int(a), int(a + n)) for a, n in zip(low, size, strict=True))
        return Patch((z, y, x), filled.reshape(size))


def _triple(values: NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def around(centre: Triple, reach: Triple | float) -> tuple[Triple, Triple]:
    """Corners of the cuboid reaching `reach` mm from `centre`."""
    c, r = np.asarray(centre), np.asarray(reach)
    return _triple(c - r), _triple(c + r)


def _radius(matrix: NDArray[np.float64], centre: Triple, z: Floats, y: Floats, x: Floats) -> Floats:
    """|matrix (p - centre)|."""
    m = matrix.astype(np.float32)
    z, y, x = (c - np.float32(o) for c, o in zip((z, y, x), centre, strict=True))
    if not np.any(matrix - np.diag(np.diag(matrix))):
        total = (z * m[0, 0]) ** 2 + (y * m[1, 1]) ** 2 + (x * m[2, 2]) ** 2
    else:
        total = sum((row[0] * z + row[1] * y + row[2] * x) ** 2 for row in m)
    return np.asarray(np.sqrt(total), dtype=np.float32)

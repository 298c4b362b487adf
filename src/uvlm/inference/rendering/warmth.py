"""A heat map on the planes of the study's own CT, without ever filling the CT's grid with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.imaging.preprocess import Grid
from uvlm.imaging.volume import Volume
from uvlm.inference.evidence.types import HeatMap
from uvlm.inference.rendering.views import Plane

__all__ = ["Warmth", "warmth_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Warmth:
    """A heat map and the way to it."""

    values: NDArray[np.float32]
    """(z, y, x), the greatest is 1."""

    way: NDArray[np.float64]
    """(4, 4), voxel (x, y, z) of the CT turned to LPS to index (x, y, z) in `values`."""

    shape: tuple[int, int, int]
    """Of the CT turned to LPS."""

    @property
    def peak(self) -> tuple[int, int, int]:
        """Voxel (z, y, x) of the CT nearest to the middle of the warmest place."""
        cell = np.unravel_index(int(self.values.argmax()), self.values.shape)
        place = np.linalg.inv(self.way) @ np.array([*cell[::-1], 1.0])
        z, y, x = (
            min(max(round(float(at)), 0), n - 1)
            for at, n in zip(place[2::-1], self.shape, strict=True)
        )
        return z, y, x

    def on(self, plane: Plane) -> NDArray[np.float32]:
        """(rows, columns) of a plane; 0 beyond what the model saw."""
        voxels = np.stack(
            [np.broadcast_to(index, self.shape)[plane.cut] for index in np.ogrid[_all(self.shape)]]
        ).astype(np.float64)
        z, y, x = (self.way[2 - k, :3] @ voxels[::-1].reshape(3, -1) for k in range(3))
        places = np.stack([at + self.way[2 - k, 3] for k, at in enumerate((z, y, x))])
        ends = np.array(self.values.shape)[:, None] - 0.5
        seen = ((places >= -0.5) & (places <= ends)).all(axis=0)
        sampled = ndimage.map_coordinates(self.values, places, order=1, mode="nearest") * seen
        return np.asarray(sampled.reshape(voxels.shape[1:]), np.float32)


def warmth_of(heat: HeatMap, grid: Grid, volume: Volume) -> Warmth | None:
    """`heat` over `volume`, which is turned to LPS; None if it is 0 throughout.

    Args:
        grid: of the prepared volume that the heat map divides.
    """
    most = float(heat.values.max(initial=0.0))
    if most <= 0:
        return None
    shrink = np.eye(4)
    for axis, (n, full) in enumerate(zip(heat.values.shape, grid.spec.shape, strict=True)):
        # Cells and voxels share their outer edges, not the middles of the outermost.
        shrink[2 - axis, 2 - axis] = n / full
        shrink[2 - axis, 3] = 0.5 * n / full - 0.5
    way = shrink @ np.linalg.inv(np.array(grid.affine)) @ volume.affine
    return Warmth(values=heat.values / most, way=way, shape=volume.shape)


def _all(shape: tuple[int, int, int]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)

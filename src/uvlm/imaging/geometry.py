"""Which way a volume lies, how to turn it to LPS and back, and whether its axes are skewed.

A voxel axis is named for the patient's side it runs towards: L left or R right, P posterior or
A anterior, S superior or I inferior. "LPS" means x runs to the left, y to the back, z to the head.
Turning only permutes and flips axes; an oblique rotation or a gantry tilt stays in the affine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.volume import Volume

__all__ = ["Reorientation", "is_sheared", "orientation_code", "shear_of", "to_lps"]

SHEAR_TOLERANCE_DEG = 0.1
"""Below this, departure from right angles is rounding in the file, not a tilt."""


@dataclass(frozen=True)
class Reorientation:
    """A permutation and flips of voxel axes. `apply` and `undo` return views, not copies."""

    order: tuple[int, int, int]
    """Source axis, in (z, y, x) numbering, that becomes result axis 0, 1, 2."""

    flip: tuple[bool, bool, bool]
    """Whether result axis 0, 1, 2 runs against its source axis."""

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """From the source grid to the turned one."""
        return array.transpose(self.order)[self._steps]

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """From the turned grid back to the source's: the exact inverse of `apply`."""
        back = tuple(int(axis) for axis in np.argsort(self.order))
        return array[self._steps].transpose(back)

    def affine(
        self, affine: NDArray[np.float64], shape: tuple[int, int, int]
    ) -> NDArray[np.float64]:
        """(4, 4) of the turned grid, from that of a source grid of `shape` (z, y, x)."""
        turned = affine.copy()
        for axis, (source, flip) in enumerate(zip(self.order, self.flip, strict=True)):
            # Affine columns count x, y, z; array axes count z, y, x.
            column = affine[:, 2 - source]
            turned[:, 2 - axis] = -column if flip else column
            if flip:
                turned[:, 3] += column * (shape[source] - 1)
        return turned

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flip)


def to_lps(volume: Volume) -> tuple[Volume, Reorientation]:
    """The volume with its axes turned to the closest LPS order, and how to turn results back.

    The returned array is a view of the source's. Every voxel keeps its place in millimetres.
    """
    axes, signs = _closest_axes(volume.affine)
    voxel_of_world = {world: voxel for voxel, world in enumerate(axes)}
    order = tuple(2 - voxel_of_world[world] for world in (2, 1, 0))
    flip = tuple(signs[voxel_of_world[world]] < 0 for world in (2, 1, 0))
    turn = Reorientation((order[0], order[1], order[2]), (flip[0], flip[1], flip[2]))
    turned = replace(
        volume,
        array=turn.apply(volume.array),
        affine=turn.affine(volume.affine, volume.shape),
    )
    return turned, turn


def orientation_code(affine: NDArray[np.float64]) -> str:
    """Three letters, the sides towards which voxel axes x, y and z run, such as "LPS"."""
    axes, signs = _closest_axes(affine)
    return "".join(("RL", "AP", "IS")[a][s > 0] for a, s in zip(axes, signs, strict=True))


def _closest_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """World axis (0 L, 1 P, 2 S) nearest to each of voxel axes x, y, z, and its sign.

    Of the six assignments the one with the largest sum of cosines, so that no axis is given twice
    however oblique the volume is.
    """
    cosines = _directions(affine)
    best = max(
        permutations(range(3)),
        key=lambda order: sum(abs(cosines[world, voxel]) for voxel, world in enumerate(order)),
    )
    return best, tuple(float(np.sign(cosines[world, voxel])) for voxel, world in enumerate(best))


def shear_of(affine: NDArray[np.float64]) -> float:
    """Largest departure of two voxel axes from a right angle, in degrees; a gantry tilt's angle."""
    unit = _directions(affine)
    cosines = (unit[:, 0] @ unit[:, 1], unit[:, 0] @ unit[:, 2], unit[:, 1] @ unit[:, 2])
    return float(np.degrees(np.arcsin(min(1.0, max(abs(float(c)) for c in cosines)))))


def is_sheared(affine: NDArray[np.float64]) -> bool:
    """Whether the axes are more than 0.1 degrees from right angles."""
    return shear_of(affine) > SHEAR_TOLERANCE_DEG


def _directions(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3), columns of unit length along voxel axes x, y, z."""
    matrix = affine[:3, :3]
    return np.asarray(matrix / np.linalg.norm(matrix, axis=0), dtype=np.float64)

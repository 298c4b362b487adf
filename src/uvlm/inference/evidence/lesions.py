"""Every lesion of a mask in numbers: where it lies, how large and how dense it is.

A lesion is a connected piece of a lesion class; pieces that touch at a corner are one. Diameters
are measured in axial slices, those of the voxel axis nearest to the patient's z axis: of an oblique
scan its own slices, as a reader sees them. Nothing is resampled.

Left out are specks (fewer than `LEAST_VOXELS` voxels or less than `LEAST_ML`, a ball of 2 mm)
and, of a class in very many pieces, all but the largest `MOST`; `find_lesions` counts them.

Only boxes around what is there are touched, and nothing is copied to floating point, so the cost
goes with the lesions, not the scan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.imaging.geometry import Reorientation, to_lps
from uvlm.imaging.volume import Volume
from uvlm.inference.evidence.midline import Box, left_share, middle_of, midline_of
from uvlm.inference.evidence.structures import is_frame, is_lesion, side_of_class
from uvlm.inference.evidence.types import Lesion
from uvlm.preprocessing.lesions import TOUCHING, axial_diameter

__all__ = ["FoundLesions", "find_lesions", "lesions_of"]

LEAST_VOXELS = 2
LEAST_ML = 0.004
MOST = 25

REACH = 3
"""Voxels around a lesion in which the structure it belongs to is looked for, nearest first."""

ONE_SIDED = 0.9
"""Share of a lesion, or of what it touches, on one side that makes it one-sided."""

Side = Literal["left", "right", "both"]


@dataclass(frozen=True, kw_only=True)
class FoundLesions:
    """The lesions of a mask, and how many pieces were left out."""

    lesions: tuple[Lesion, ...]
    """Classes in the order of their values, largest first within a class."""

    left_out: Mapping[str, int]
    """Class -> specks, and pieces beyond the largest `MOST`; only classes with any."""

    midline: float | None
    """Position of the patient's middle, LPS mm to the left; None where nothing tells."""

    @property
    def cut_short(self) -> frozenset[str]:
        """Classes with `MOST` pieces in `lesions` and others left out, which may be specks."""
        counts = Counter(lesion.name for lesion in self.lesions)
        return frozenset(name for name in self.left_out if counts[name] == MOST)


@dataclass(frozen=True, eq=False)
class _Scene:
    """A mask and its CT, axes turned to LPS."""

    mask: NDArray[Any]
    volume: Volume
    organs: Mapping[int, str]
    """Value -> name of the classes a lesion can touch."""

    midline: float | None
    turn: Reorientation


def lesions_of(
    mask: NDArray[Any], volume: Volume, classes: Mapping[str, int]
) -> tuple[Lesion, ...]:
    """The lesions of `mask`, without specks; see the module.

    Args:
        mask: (z, y, x) integers on the grid of `volume`.
        volume: the CT in HU.
        classes: value in `mask` of each class name.

    Raises:
        ValueError: mask and volume differ in shape.
    """
    return find_lesions(mask, volume, classes).lesions


def find_lesions(mask: NDArray[Any], volume: Volume, classes: Mapping[str, int]) -> FoundLesions:
    """As `lesions_of`, with the number of pieces left out."""
    if mask.shape != volume.shape:
        raise ValueError(f"the mask has {mask.shape} voxels (z, y, x), the CT {volume.shape}")
    turned, turn = to_lps(volume)
    labels = turn.apply(mask)
    boxes = ndimage.find_objects(labels)
    scene = _Scene(
        mask=labels,
        volume=turned,
        organs={v: n for n, v in classes.items() if not is_lesion(n)},
        midline=midline_of(labels, turned, classes, boxes),
        turn=turn,
    )
    lesions: list[Lesion] = []
    left_out: dict[str, int] = {}
    for name, value in sorted(classes.items(), key=lambda item: item[1]):
        box = boxes[value - 1] if 0 < value <= len(boxes) else None
        if box is None or not is_lesion(name):
            continue
        pieces, rest = _pieces(labels[box] == value, box, turned.voxel_ml)
        if rest:
            left_out[name] = rest
        lesions += [
            _lesion(name, number, inside, where, scene)
            for number, (inside, where) in enumerate(pieces, 1)
        ]
    return FoundLesions(lesions=tuple(lesions), left_out=left_out, midline=scene.midline)


def _pieces(
    inside: NDArray[np.bool_], box: Box, voxel_ml: float
) -> tuple[Iterator[tuple[NDArray[np.bool_], Box]], int]:
    """(each piece, largest first, with its box in the whole grid; how many were left out)."""
    numbered, count = ndimage.label(inside, structure=TOUCHING)
    sizes = np.bincount(numbered[inside], minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    kept = [n for n in order if sizes[n] >= LEAST_VOXELS and sizes[n] * voxel_ml >= LEAST_ML][:MOST]
    parts = ndimage.find_objects(numbered)
    pieces = ((numbered[parts[n]] == n + 1, _shifted(parts[n], box)) for n in kept)
    return pieces, int(count) - len(kept)


def _shifted(part: Box, box: Box) -> Box:
    z, y, x = (
        slice(inner.start + outer.start, inner.stop + outer.start)
        for inner, outer in zip(part, box, strict=True)
    )
    return z, y, x


def _lesion(name: str, number: int, inside: NDArray[np.bool_], box: Box, scene: _Scene) -> Lesion:
    """`inside` fills `box` of the turned grid."""
    volume = scene.volume
    touched = _touched(inside, box, scene)
    lesion = Lesion(
        name=name,
        number=number,
        volume_ml=int(np.count_nonzero(inside)) * volume.voxel_ml,
        diameter_mm=axial_diameter(inside, volume.spacing),
        mean_hu=float(volume.array[box][inside].mean(dtype=np.float64)),
        side=_side(inside, box, touched, scene),
        structure=_structure(touched),
        centre=_nearest_voxel(inside, box),
        box=tuple((part.start, part.stop) for part in box),  # type: ignore[arg-type]
    )
    return _on_own_grid(lesion, scene)


def _structure(touched: Mapping[str, int]) -> str | None:
    """What is touched most; bone and muscle only where nothing else is."""
    soft = {name: voxels for name, voxels in touched.items() if not is_frame(name)}
    counted = soft or touched
    return max(counted, key=lambda name: counted[name], default=None)


def _touched(inside: NDArray[np.bool_], box: Box, scene: _Scene) -> dict[str, int]:
    """Voxels of each organ around a lesion, in the nearest shell that holds any."""
    room: list[slice] = []
    margins = []
    for part, n in zip(box, scene.mask.shape, strict=True):
        start, stop = max(0, part.start - REACH), min(n, part.stop + REACH)
        room.append(slice(start, stop))
        margins.append((part.start - start, stop - part.stop))
    around = scene.mask[tuple(room)]
    reached = np.pad(inside, margins)
    for _ in range(REACH):
        grown = _grown(reached)
        counts = np.bincount(around[grown & ~reached])
        found = {
            scene.organs[value]: int(counts[value])
            for value in np.flatnonzero(counts).tolist()
            if value in scene.organs
        }
        if found:
            return found
        reached = grown
    return {}


def _grown(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Dilated by 3x3x3, axis by axis."""
    result = inside.copy()
    for axis in range(3):
        source = result.copy()
        one = [slice(None)] * 3
        other = [slice(None)] * 3
        one[axis], other[axis] = slice(1, None), slice(None, -1)
        result[tuple(one)] |= source[tuple(other)]
        result[tuple(other)] |= source[tuple(one)]
    return result


def _side(
    inside: NDArray[np.bool_], box: Box, touched: Mapping[str, int], scene: _Scene
) -> Side | None:
    """By the paired organs it touches, if they are most of what it touches; else by position."""
    of_side = {"left": 0, "right": 0}
    for name, voxels in touched.items():
        side = side_of_class(name)
        if side is not None:
            of_side[side] += voxels
    paired = sum(of_side.values())
    if paired and 2 * paired > sum(touched.values()):
        return _of_share(of_side["left"] / paired)
    if scene.midline is None:
        return None
    return _of_share(left_share(inside, box, scene.volume.affine, scene.midline))


def _of_share(left: float) -> Side:
    return "left" if left >= ONE_SIDED else "right" if left <= 1 - ONE_SIDED else "both"


def _nearest_voxel(inside: NDArray[np.bool_], box: Box) -> tuple[int, int, int]:
    """The voxel of a lesion nearest to its centre of mass: that of a ring lies outside of it."""
    middle = np.asarray(middle_of(inside, box))
    start = np.array([part.start for part in box])
    centre = np.rint(middle).astype(int)
    if not inside[tuple(centre - start)]:
        voxels = np.argwhere(inside) + start
        centre = voxels[np.square(voxels - middle).sum(axis=1).argmin()]
    z, y, x = (int(at) for at in centre)
    return z, y, x


def _on_own_grid(lesion: Lesion, scene: _Scene) -> Lesion:
    """`centre` and `box` as indices of the grid before it was turned."""
    centre = [0, 0, 0]
    box = [(0, 0), (0, 0), (0, 0)]
    for axis, (source, flip) in enumerate(zip(scene.turn.order, scene.turn.flip, strict=True)):
        n = scene.mask.shape[axis]
        at, (start, stop) = lesion.centre[axis], lesion.box[axis]
        centre[source] = n - 1 - at if flip else at
        box[source] = (n - stop, n - start) if flip else (start, stop)
    return replace(lesion, centre=(centre[0], centre[1], centre[2]), box=(box[0], box[1], box[2]))

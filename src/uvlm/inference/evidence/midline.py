"""Where the patient's middle lies, and how much of something lies on either side of it.

Sides are the patient's; positions are millimetres along LPS, so they grow to the left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.volume import Volume
from uvlm.inference.evidence.structures import is_lesion, plain, side_of_class

__all__ = ["Box", "left_mm", "left_share", "middle_of", "midline_of"]

Box = tuple[slice, slice, slice]

CENTRAL = ("spine", "spinal_cord", "sternum")
"""Classes, or beginnings of them, that lie in the middle of the body."""

BODY_HU = -300
STEP = 4
"""Every fourth voxel along each axis is enough to find the middle of the body."""

LEAST_BODY = 0.01
"""Share of body in the volume below which its middle tells nothing."""


def midline_of(
    mask: NDArray[Any], volume: Volume, classes: Mapping[str, int], boxes: list[Box | None]
) -> float | None:
    """Position of the patient's middle, LPS mm to the left; None where nothing tells.

    From the spine (or cord, vertebrae, sternum); else from pairs of left and right organs; else
    from the body in the CT, for which it must be in the picture from side to side.

    Args:
        mask: (z, y, x) on the grid of `volume`.
        boxes: box of each value of `mask` from 1, as `scipy.ndimage.find_objects` gives them.
    """
    middles = {
        name: left_mm(middle_of(mask[box] == value, box), volume.affine)
        for name, value in classes.items()
        if (box := _box(boxes, value)) is not None and _tells(name)
    }
    central = [at for name, at in middles.items() if side_of_class(name) is None]
    if central:
        return float(np.median(central))
    paired = [
        [at for name, at in middles.items() if side_of_class(name) == side]
        for side in ("left", "right")
    ]
    if all(paired):
        return float(np.mean([np.mean(side) for side in paired]))
    return _middle_of_body(volume)


def left_share(
    weights: NDArray[Any], box: Box, affine: NDArray[np.float64], midline: float
) -> float:
    """Share of `weights`, which fill `box`, to the left of `midline`, 0 to 1.

    Every axis counts: those of an oblique grid all lead to a side.

    Args:
        weights: (z, y, x) at least 0, or whether a voxel counts
        affine: of the whole grid, to LPS millimetres
    """
    step_x, step_y, step_z, start = affine[0]
    rows = np.arange(box[1].start, box[1].stop)[:, None] * step_y
    plane = rows + np.arange(box[2].start, box[2].stop) * step_x + start
    left = whole = 0.0
    for z, layer in enumerate(weights, box[0].start):
        left += float(layer[plane + z * step_z > midline].sum(dtype=np.float64))
        whole += float(layer.sum(dtype=np.float64))
    return left / whole if whole else 0.0


def middle_of(inside: NDArray[np.bool_], box: Box) -> tuple[float, float, float]:
    """Centre of mass (z, y, x) of `inside`, which fills `box`, as indices of the whole grid."""
    z, y, x = (
        float(np.average(np.arange(part.start, part.stop), weights=inside.sum(axis=others)))
        for part, others in zip(box, ((1, 2), (0, 2), (0, 1)), strict=True)
    )
    return z, y, x


def left_mm(voxel: tuple[float, float, float], affine: NDArray[np.float64]) -> float:
    """Position of a voxel (z, y, x) along the axis to the patient's left, LPS mm."""
    z, y, x = voxel
    return float(affine[0] @ (x, y, z, 1.0))


def _tells(name: str) -> bool:
    """Whether a class lies in the middle, or is one of a pair whose middle is the body's."""
    if is_lesion(name):
        return False
    words = plain(name)
    if words.startswith(CENTRAL) or words.startswith("vertebra"):
        return True
    return side_of_class(name) is not None and words.startswith(("lung", "kidney"))


def _box(boxes: list[Box | None], value: int) -> Box | None:
    return boxes[value - 1] if 0 < value <= len(boxes) else None


def _middle_of_body(volume: Volume) -> float | None:
    body = volume.array[::STEP, ::STEP, ::STEP] > BODY_HU
    if body.mean() < LEAST_BODY:
        return None
    whole = slice(0, body.shape[0]), slice(0, body.shape[1]), slice(0, body.shape[2])
    z, y, x = (STEP * at for at in middle_of(body, whole))
    return left_mm((z, y, x), volume.affine)

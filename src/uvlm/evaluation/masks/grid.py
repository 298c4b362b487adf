"""A predicted mask on the grid of its reference, or a refusal.

Grids that hold the same voxels, in whatever axis order, are compared as they are. A prediction on
another grid of the same space (a model's own spacing, an oblique one) is read at the centre of
every voxel of the reference, nearest voxel, by both files' affines. It is refused where its place
is unknown, where it covers too little of the reference, and where its shape differs although its
affine is the reference's: then the header was copied, or the array cropped, and no voxel is where
the file says.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError, InputError
from uvlm.imaging.measure import GRID_TOLERANCE_MM
from uvlm.imaging.volume import Volume
from uvlm.preprocessing.masks import align

__all__ = ["COVERED", "covered_share", "on_grid_of"]

COVERED = 0.95
"""Least share of the reference's volume that a prediction must cover to be resampled."""

SAMPLES = 33
"""Positions along each axis at which cover is looked at."""

ON_EDGE = 1e-4
"""Rounding allowed when asking for the nearest voxel, in voxels; as in `imaging.resample`."""

Matrix = NDArray[np.float64]


def on_grid_of(
    mask: Volume, reference: Volume, covered: float = COVERED
) -> tuple[Volume, tuple[str, ...]]:
    """The mask on the reference's grid, and a note for what had to be decided.

    Raises:
        ImageError: it cannot be compared; names both files and says why.
    """
    try:
        return align(mask, reference)
    except ImageError:
        _refuse_doubtful(mask, reference)
    share = covered_share(mask, reference)
    if share < covered:
        found = f"covers {100 * share:.0f} % of the space of {reference.provenance.path}"
        raise _refused(mask, f"{found}; at least {100 * covered:.0f} % is needed")
    note = (
        f"The prediction of {_grid(mask)} was resampled to {_grid(reference)}, nearest voxel "
        f"({100 * share:.0f} % of the reference covered)."
    )
    array = _nearest(mask, reference)
    return replace(mask, array=array, affine=reference.affine), (note,)


def covered_share(mask: Volume, reference: Volume) -> float:
    """Share, 0 to 1, of the reference's grid that lies inside the mask's."""
    axes = [np.linspace(0, n - 1, min(n, SAMPLES)) for n in reference.shape[::-1]]
    places = np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones([len(a) for a in axes])])
    there = np.tensordot(_between(mask, reference)[:3], places, axes=1)
    size = np.array(mask.shape[::-1])[:, None, None, None]
    inside = ((there > -0.5 - ON_EDGE) & (there < size - 0.5 + ON_EDGE)).all(axis=0)
    return float(inside.mean())


def _refuse_doubtful(mask: Volume, reference: Volume) -> None:
    """Raise where one of two different grids is not known."""
    other = reference.provenance.path
    sizes = f"{mask.shape} voxels (z, y, x), the reference {other} has {reference.shape}"
    for volume in (mask, reference):
        if not _has_place(volume):
            found = f"its position and orientation are unknown; it has {sizes}"
            if volume is reference:
                found = f"the position and orientation of {other} are unknown; the mask has {sizes}"
            raise _refused(mask, found)
    same = np.allclose(mask.affine, reference.affine, atol=GRID_TOLERANCE_MM / max(mask.shape))
    if same and mask.shape != reference.shape:
        raise _refused(mask, f"it has {sizes}, but both have one affine")


def _has_place(volume: Volume) -> bool:
    """Whether the file says where its voxels are."""
    details = volume.provenance.details
    if volume.provenance.format == "nifti":
        return bool(details.get("sform_code", 1) > 0 or details.get("qform_code", 1) > 0)
    # A store without metadata is read with this affine.
    return not (volume.provenance.format == "b2nd" and np.array_equal(volume.affine, np.eye(4)))


def _refused(mask: Volume, found: str) -> InputError:
    return ImageError.about(
        mask.provenance.path,
        found,
        "Bring the prediction to the grid of its reference, with that file's affine.",
    )


def _between(mask: Volume, reference: Volume) -> Matrix:
    """(4, 4) from voxel (x, y, z, 1) of the reference to voxel of the mask."""
    return np.asarray(np.linalg.solve(mask.affine, reference.affine), np.float64)


def _nearest(mask: Volume, reference: Volume) -> NDArray[np.generic]:
    """The mask's values at the reference's voxels, (z, y, x); 0 outside the mask."""
    steps = _between(mask, reference)[:3]
    _, y, x = reference.shape
    plane = [
        row[0] * np.arange(x) + row[1] * np.arange(y)[:, None] + row[3] + 0.5 + ON_EDGE
        for row in steps
    ]
    result = np.zeros(reference.shape, mask.array.dtype)
    sizes = mask.shape[::-1]
    for number, part in enumerate(result):
        places = [np.floor(at + row[2] * number) for at, row in zip(plane, steps, strict=True)]
        inside = np.ones((y, x), bool)
        for place, size in zip(places, sizes, strict=True):
            inside &= (place >= 0) & (place < size)
        i, j, k = (place[inside].astype(np.intp) for place in places)
        part[inside] = mask.array[k, j, i]
    return result


def _grid(volume: Volume) -> str:
    voxels = " x ".join(map(str, volume.shape))
    return f"{voxels} voxels of {' x '.join(f'{mm:.2f}' for mm in volume.spacing)} mm"

"""A prediction on another grid is brought to the reference's, or refused with both names."""

from __future__ import annotations

import numpy as np
import pytest

from uvlm.errors import ImageError
from uvlm.evaluation.masks.grid import covered_share, on_grid_of
from uvlm.imaging.volume import Provenance, Volume

RNG = np.random.default_rng(0)


def volume(array, affine, name="m.nii.gz", kind="nifti", **details):
    source = Provenance(path=name, format=kind, checksum="0", details=details)
    return Volume(array=np.asarray(array), affine=np.asarray(affine, float), provenance=source)


def grid(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    """Affine of spacing (x, y, z) mm."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def rotated(affine, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return turn @ affine


def slowly(mask, reference):
    """Voxel by voxel: the value at the nearest centre, 0 outside."""
    result = np.zeros(reference.shape, mask.array.dtype)
    for z, y, x in np.ndindex(reference.shape):
        place = np.linalg.solve(mask.affine, reference.affine @ [x, y, z, 1])[:3]
        i, j, k = np.floor(place + 0.5 + 1e-4).astype(int)
        inside = all(0 <= p < n for p, n in zip((k, j, i), mask.shape, strict=True))
        result[z, y, x] = mask.array[k, j, i] if inside else 0
    return result


REFERENCE = volume(np.zeros((6, 8, 10), np.uint8), grid((1.0, 1.2, 2.0), (3.0, -4.0, 5.0)), "r.nii")


def test_the_same_grid_is_left_as_it_is():
    array = RNG.integers(0, 3, REFERENCE.shape, np.uint8)
    found, notes = on_grid_of(volume(array, REFERENCE.affine), REFERENCE)
    np.testing.assert_array_equal(found.array, array)
    assert notes == ()


def test_axes_in_another_order_lose_no_voxel():
    array = RNG.integers(0, 3, REFERENCE.shape, np.uint8)
    flipped = REFERENCE.affine.copy()
    flipped[:3, 3] += flipped[:3, 0] * 9
    flipped[:3, 0] *= -1
    found, notes = on_grid_of(volume(array[:, :, ::-1], flipped), REFERENCE)
    np.testing.assert_array_equal(found.array, array)
    assert len(notes) == 1


@pytest.mark.parametrize("degrees", [0, 7])
def test_another_spacing_is_read_at_the_nearest_voxel(degrees):
    affine = rotated(grid((0.9, 0.8, 1.1), (1.5, -5.0, 4.0)), degrees)
    mask = volume(RNG.integers(0, 5, (13, 17, 16), np.uint8), affine)
    found, notes = on_grid_of(mask, REFERENCE, covered=0.5)
    np.testing.assert_array_equal(found.array, slowly(mask, REFERENCE))
    assert found.shape == REFERENCE.shape
    assert "was resampled" in notes[0]
    assert "13 x 17 x 16" in notes[0]


def test_halving_the_resolution_keeps_a_box_in_its_place():
    affine = grid((2.4, 2.4, 4.0), REFERENCE.affine[:3, 3] + [0.5, 0.6, 1.0])
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1, 2, 3] = 1
    wide = grid((2.0, 2.4, 4.0), REFERENCE.affine[:3, 3] + [0.5, 0.6, 1.0])
    found, _ = on_grid_of(volume(mask, wide), REFERENCE)
    assert np.argwhere(found.array).tolist() == [
        [z, y, x] for z in (2, 3) for y in (4, 5) for x in (6, 7)
    ]
    assert covered_share(volume(mask, affine), REFERENCE) == 1.0


def test_a_mask_of_another_place_is_refused_with_the_share():
    half = volume(np.zeros((6, 8, 5), np.uint8), grid((1.0, 1.2, 2.0), (8.0, -4.0, 5.0)))
    assert covered_share(half, REFERENCE) == 0.5
    with pytest.raises(ImageError, match=r"m\.nii\.gz: covers 50 % of the space of r\.nii"):
        on_grid_of(half, REFERENCE)
    on_grid_of(half, REFERENCE, covered=0.5)


def test_another_shape_under_the_same_affine_is_refused():
    with pytest.raises(ImageError, match=r"\(6, 8, 12\) voxels.*\(6, 8, 10\), but both have one"):
        on_grid_of(volume(np.zeros((6, 8, 12), np.uint8), REFERENCE.affine), REFERENCE)


@pytest.mark.parametrize(
    "unplaced",
    [
        volume(np.zeros((6, 8, 12), np.uint8), grid(), "u.nii", sform_code=0, qform_code=0),
        volume(np.zeros((6, 8, 10), np.uint8), np.eye(4), "u.b2nd", "b2nd"),
    ],
)
def test_a_mask_of_unknown_place_is_refused(unplaced):
    with pytest.raises(ImageError, match="position and orientation are unknown"):
        on_grid_of(unplaced, REFERENCE)
    with pytest.raises(ImageError, match=r"orientation of u\..* are unknown"):
        on_grid_of(REFERENCE, unplaced)


def test_two_masks_of_unknown_place_and_one_shape_are_compared():
    mask = volume(np.ones((6, 8, 10), np.uint8), np.eye(4), "u.b2nd", "b2nd")
    assert on_grid_of(mask, mask)[1] == ()

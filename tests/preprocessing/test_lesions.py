"""Lesions in numbers, against the slow and obvious way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uvlm.imaging.geometry import Reorientation
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.lesions import axial_diameter, measure_lesions, survives_erosion

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.8, 0.6, 1.3), (2.5, 1.5, 0.9)]


def mask_of(inside, spacing=(1.0, 1.0, 1.0), value=3) -> Volume:
    source = Provenance(path="m.nii.gz", format="nifti", checksum="0")
    affine = np.diag([*spacing[::-1], 1.0])
    array = np.asarray(inside).astype(np.uint8) * value
    return Volume(array=array, affine=affine, provenance=source)


def blobs(seed, shape=(8, 14, 12)):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.6, 2.0)) > 0.12


def ball(radius_mm, spacing, shape):
    grids = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) for n in shape], indexing="ij")
    distance = sum((grid * mm) ** 2 for grid, mm in zip(grids, spacing, strict=True))
    return distance <= radius_mm**2


def survives_slowly(inside, spacing) -> bool:
    """The whole volume at 1 mm, then scipy's erosion."""
    fine = inside
    for axis, mm in enumerate(spacing):
        n = inside.shape[axis]
        steps = max(1, round(n * mm))
        places = [min(n - 1, int((step + 0.5) * n / steps)) for step in range(steps)]
        fine = fine.take(places, axis)
    return bool(ndimage.binary_erosion(fine, np.ones((3, 3, 3))).any())


def diameter_slowly(inside, spacing) -> float:
    _, dy, dx = spacing
    longest = 0.0
    for plane in inside:
        corners = [
            ((y + a) * dy, (x + b) * dx)
            for y, x in np.argwhere(plane)
            for a, b in itertools.product((0, 1), repeat=2)
        ]
        for one, other in itertools.combinations(corners, 2):
            longest = max(longest, float(np.hypot(one[0] - other[0], one[1] - other[1])))
    return longest


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SPACINGS))
def test_presence_equals_the_whole_volume_rule(seed, spacing):
    inside = blobs(seed)
    measured = measure_lesions(mask_of(inside, spacing), 3)
    assert measured.present == survives_slowly(inside, spacing)
    assert survives_erosion(inside, spacing) == measured.present


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SPACINGS))
def test_the_diameter_equals_that_of_all_pairs_of_corners(seed, spacing):
    inside = blobs(seed, (3, 7, 6))
    assert axial_diameter(inside, spacing) == pytest.approx(diameter_slowly(inside, spacing))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SPACINGS))
def test_volume_count_and_largest_piece_equal_the_slow_way(seed, spacing):
    inside = blobs(seed)
    measured = measure_lesions(mask_of(inside, spacing), 3)
    pieces, count = ndimage.label(inside, np.ones((3, 3, 3)))
    sizes = [int((pieces == piece).sum()) for piece in range(1, count + 1)]
    assert measured.count == count
    assert measured.volume_ml == pytest.approx(inside.sum() * np.prod(spacing) / 1000)
    wanted = diameter_slowly(pieces == 1 + int(np.argmax(sizes)), spacing) if count else 0.0
    assert measured.largest_diameter_mm == pytest.approx(wanted)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_ball_measures_its_diameter(spacing):
    shape = tuple(int(40 / mm) for mm in spacing)
    measured = measure_lesions(mask_of(ball(12, spacing, shape), spacing), 3)
    assert measured.largest_diameter_mm == pytest.approx(24, abs=2 * max(spacing[1:]))
    assert measured.volume_ml == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.06)
    assert (measured.present, measured.count) == (True, 1)


def test_a_slanted_line_is_longer_than_its_extent():
    inside = np.zeros((3, 30, 30), bool)
    inside[1, np.arange(20), np.arange(20)] = True
    assert axial_diameter(inside, (1, 1, 1)) == pytest.approx(20 * 2**0.5)


def test_a_lesion_along_the_body_is_measured_across():
    inside = np.zeros((30, 8, 8), bool)
    inside[:, 2:5, 2:6] = True
    assert axial_diameter(inside, (1, 1, 1)) == pytest.approx(5)


def test_thin_sheets_and_specks_are_no_lesion_but_have_a_volume():
    inside = np.zeros((10, 20, 20), bool)
    inside[4:6, 2:18, 2:18] = True
    measured = measure_lesions(mask_of(inside), 3)
    assert not measured.present
    assert measured.volume_ml == pytest.approx(0.512)


def test_one_thick_slice_is_enough():
    inside = np.zeros((4, 20, 20), bool)
    inside[2, 5:10, 5:10] = True
    assert measure_lesions(mask_of(inside, (5, 1, 1)), 3).present
    assert not measure_lesions(mask_of(inside, (2, 1, 1)), 3).present


def test_a_lesion_at_the_border_loses_its_outer_layer_there_too():
    inside = np.zeros((10, 10, 10), bool)
    inside[:2, :, :] = True
    assert not measure_lesions(mask_of(inside), 3).present
    inside[:3, :, :] = True
    assert measure_lesions(mask_of(inside), 3).present


def test_other_values_do_not_count():
    array = np.zeros((6, 6, 6), np.uint8)
    array[1:5, 1:5, 1:5] = 2
    mask = mask_of(array, value=1)
    assert measure_lesions(mask, 3).count == 0
    assert not measure_lesions(mask, 3).present
    assert measure_lesions(mask, 2).count == 1


def test_pieces_that_touch_at_a_corner_are_one():
    inside = np.zeros((6, 6, 6), bool)
    inside[1, 1, 1] = inside[2, 2, 2] = inside[4, 4, 4] = True
    assert measure_lesions(mask_of(inside), 3).count == 2


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_way_a_file_is_stored_changes_nothing(order):
    mask = mask_of(blobs(7), (2.5, 0.7, 0.9))
    turn = Reorientation(order, (True, False, True))
    stored = Volume(
        array=turn.apply(mask.array),
        affine=turn.affine(mask.affine, mask.shape),
        provenance=mask.provenance,
    )
    assert measure_lesions(stored, 3) == measure_lesions(mask, 3)

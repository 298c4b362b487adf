"""Turning a volume to LPS keeps every voxel in its place and can be undone exactly."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes
from scipy.spatial.transform import Rotation

from uvlm.imaging.geometry import is_sheared, orientation_code, shear_of, to_lps
from uvlm.imaging.volume import Provenance, Volume

AXES = [
    (order, signs) for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
]
SOURCE = Provenance(path="made.nii.gz", format="nifti", checksum="0")


def volume_of(matrix) -> Volume:
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = (-11.5, 7.25, 30.0)
    return Volume(array=array, affine=affine, provenance=SOURCE)


def permuted(order, signs) -> np.ndarray:
    """Voxel axes x, y, z along world axes `order`, 0.5, 1 and 2.5 mm apart."""
    matrix = np.zeros((3, 3))
    for voxel, (world, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[world, voxel] = sign * (0.5, 1.0, 2.5)[voxel]
    return matrix


def world_of_values(volume: Volume) -> dict[int, tuple[float, ...]]:
    """Where each voxel value lies, in millimetres; the values of these volumes are unique."""
    places = {}
    for z, y, x in np.ndindex(volume.shape):
        world = volume.affine @ (x, y, z, 1)
        places[int(volume.array[z, y, x])] = tuple((world[:3].round(6) + 0.0).tolist())
    return places


@pytest.mark.parametrize(("order", "signs"), AXES)
def test_all_48_axis_orders_turn_to_lps_and_back(order, signs):
    source = volume_of(permuted(order, signs))
    turned, turn = to_lps(source)
    assert orientation_code(turned.affine) == "LPS"
    np.testing.assert_array_equal(turn.undo(turned.array), source.array)
    assert world_of_values(turned) == world_of_values(source)
    assert turn.undo(turned.array).shape == source.shape


@pytest.mark.parametrize(("order", "signs"), AXES)
def test_codes_agree_with_nibabel(order, signs):
    affine = volume_of(permuted(order, signs)).affine
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    assert orientation_code(affine) == "".join(aff2axcodes(ras))


@settings(deadline=None, max_examples=60)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    axes=st.sampled_from(AXES),
    shear=st.floats(-0.3, 0.3),
)
def test_oblique_and_sheared_volumes_keep_their_place(angles, axes, shear):
    matrix = Rotation.from_euler("zyx", angles, degrees=True).as_matrix() @ permuted(*axes)
    matrix[:, 2] += shear * matrix[:, 1]
    source = volume_of(matrix)
    turned, turn = to_lps(source)
    np.testing.assert_array_equal(turn.undo(turned.array), source.array)
    places, kept = world_of_values(source), world_of_values(turned)
    np.testing.assert_allclose([kept[v] for v in places], list(places.values()), atol=2e-6)
    assert np.sign(np.linalg.det(turned.affine)) in (-1, 1)
    assert shear_of(turned.affine) == pytest.approx(shear_of(source.affine), abs=1e-4)


@given(st.floats(-44, 44))
def test_a_rotation_under_45_degrees_is_no_turn(angle):
    matrix = Rotation.from_euler("x", angle, degrees=True).as_matrix()
    turned, turn = to_lps(volume_of(matrix))
    assert (turn.order, turn.flip) == ((0, 1, 2), (False, False, False))
    np.testing.assert_array_equal(turned.affine[:3, :3], matrix)


def test_turning_copies_nothing():
    source = volume_of(permuted((2, 0, 1), (-1.0, 1.0, -1.0)))
    assert np.shares_memory(to_lps(source)[0].array, source.array)


def test_apply_follows_the_volume():
    source = volume_of(permuted((2, 0, 1), (-1.0, 1.0, -1.0)))
    turned, turn = to_lps(source)
    np.testing.assert_array_equal(turn.apply(source.array), turned.array)


@pytest.mark.parametrize("degrees", [0.0, 0.05, 5.0, 20.0, -20.0])
def test_shear_is_the_angle_of_the_tilt(degrees):
    matrix = np.diag([0.7, 0.7, 2.5])
    matrix[1, 2] = 2.5 * np.tan(np.radians(degrees))
    affine = volume_of(matrix).affine
    assert shear_of(affine) == pytest.approx(abs(degrees), abs=1e-6)
    assert is_sheared(affine) == (abs(degrees) > 0.1)


def test_a_reflection_is_no_shear():
    assert not is_sheared(volume_of(permuted((0, 1, 2), (1.0, 1.0, -1.0))).affine)

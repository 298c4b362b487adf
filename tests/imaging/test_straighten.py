"""Skewed volumes are straightened slice by slice, as SciPy's affine transform would do it whole."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from uvlm.imaging.preprocess import PreprocessSpec, prepare
from uvlm.imaging.straighten import plan_straighten
from uvlm.imaging.volume import Provenance, Volume

SHAPE = (7, 12, 15)
SHEARS = {
    "gantry tilt": (0.0, 0.0, 0.31),
    "to the other side": (0.0, 0.0, -0.8),
    "slices moved along x": (0.0, 0.4, 0.0),
    "all axes skewed": (0.17, -0.45, 0.31),
}
"""x moved by y, x by z, y by z; mm per mm."""


def affine_of(shear: tuple[float, float, float]) -> np.ndarray:
    """Voxels of 0.8 x 0.8 x 2 mm."""
    affine = np.diag([0.8, 0.8, 2.0, 1.0])
    xy, xz, yz = shear
    affine[0, 1], affine[0, 2], affine[1, 2] = xy * 0.8, xz * 2, yz * 2
    return affine


@pytest.fixture(params=SHEARS.values(), ids=SHEARS)
def plan(request):
    return plan_straighten(SHAPE, affine_of(request.param))


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 3000, SHAPE).astype(np.int16)


def whole(plan, array, order, fill):
    values = array.astype(np.float64 if order else array.dtype)
    return ndimage.affine_transform(
        values, plan.matrix, plan.offset, plan.straight, order=order, cval=fill,
        mode="grid-constant",
    )  # fmt: skip


def test_images_agree_with_scipy(plan, array):
    found = plan.apply(array, -1024.0)[:]
    np.testing.assert_allclose(found, whole(plan, array, 1, -1024.0), atol=2e-3)
    assert found.dtype == np.float32


def test_labels_agree_with_scipy(plan, array):
    labels = (array > 0).astype(np.uint8) + (array > 2000)
    found = plan.apply_labels(labels)
    np.testing.assert_array_equal(found, whole(plan, labels, 0, 0))
    assert found.dtype == np.uint8


def test_values_are_limited_before_they_are_mixed(plan, array):
    found = plan.apply(array, 0.0, clip=(0, 100))[:]
    np.testing.assert_allclose(found, whole(plan, np.clip(array, 0, 100), 1, 0.0), atol=1e-3)


def test_there_and_back_again(plan):
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    plane = np.broadcast_to((3.0 * y + 2.0 * x).astype(np.float32), SHAPE)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    found = plan.undo(plan.apply(plane, 0.0)[:])
    np.testing.assert_allclose(found[inner], plane[inner], atol=1e-3)
    labels = np.ones(SHAPE, np.uint8)
    assert plan.undo_labels(plan.apply_labels(labels))[inner].all()


def test_only_the_slices_asked_for_are_made(plan, array):
    lazy = plan.apply(array, -1024.0)
    np.testing.assert_array_equal(lazy[2:5], lazy[:][2:5])
    assert lazy[5:99].shape == (2, *plan.straight[1:])
    assert lazy[3:3].shape == (0, *plan.straight[1:])


def test_preparing_a_tilted_volume_holds_a_fraction_of_it_besides():
    array = np.random.default_rng(0).integers(-1000, 1000, (80, 160, 160)).astype(np.int16)
    source = Provenance(path="tilted.nii.gz", format="nifti", checksum="0")
    volume = Volume(array=array, affine=affine_of(SHEARS["gantry tilt"]), provenance=source)
    spec = PreprocessSpec(shape=(24, 32, 32))
    prepare(volume, spec)
    tracemalloc.start()
    try:
        prepare(volume, spec)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes

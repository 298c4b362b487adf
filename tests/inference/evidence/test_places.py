"""Heat by structure, and the patient's middle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uvlm.imaging.volume import Provenance, Volume
from uvlm.inference.evidence.midline import left_share, midline_of
from uvlm.inference.evidence.places import places_of

CLASSES = {"heart": 1, "liver": 2, "spine": 3, "lung_left": 4, "lung_right": 5}


def volume_of(array, affine=None) -> Volume:
    affine = np.diag([2.0, 1.0, 3.0, 1.0]) if affine is None else affine
    source = Provenance(path="ct.nii.gz", format="nifti", checksum="0")
    return Volume(array=array, affine=affine, provenance=source)


def midline(mask, volume, classes=CLASSES):
    return midline_of(mask, volume, classes, ndimage.find_objects(mask))


def test_shares_are_of_all_the_heat_and_the_most_comes_first():
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[0], mask[1] = 1, 2
    heat = np.zeros(mask.shape, np.float32)
    heat[0], heat[1], heat[2] = 1.0, 2.0, 1.0
    places = places_of(heat, mask, CLASSES)
    assert [(p.structure, p.share) for p in places] == [("liver", 0.5), ("heart", 0.25)]


@pytest.mark.parametrize("seed", range(3))
def test_shares_equal_those_of_the_whole_array(seed):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 6, (4, 5, 6)).astype(np.uint8)
    heat = rng.random(mask.shape).astype(np.float32)
    for place in places_of(heat, mask, CLASSES):
        inside = mask == CLASSES[place.structure]
        assert place.share == pytest.approx(heat[inside].sum() / heat.sum(), rel=1e-5)


def test_no_heat_falls_nowhere():
    assert places_of(np.zeros((2, 2, 2), np.float32), np.ones((2, 2, 2), np.uint8), CLASSES) == ()


def test_heat_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 3\).*\(2, 2, 2\)"):
        places_of(np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 2), np.uint8), CLASSES)


def test_the_spine_tells_the_middle_before_the_lungs_and_those_before_the_body():
    mask = np.zeros((4, 6, 40), np.uint8)
    hu = np.full(mask.shape, -1000, np.int16)
    hu[:, :, 8:24] = 0
    volume = volume_of(hu)
    assert midline(mask, volume) == pytest.approx(2 * 14, abs=4)
    mask[:, :, 2:6], mask[:, :, 30:34] = 5, 4
    assert midline(mask, volume) == pytest.approx(2 * 17.5)
    mask[:, 4:, 19:21] = 3
    assert midline(mask, volume) == pytest.approx(2 * 19.5)


def test_one_lung_alone_tells_no_middle():
    mask = np.zeros((4, 6, 40), np.uint8)
    mask[:, :, 2:6] = 4
    assert midline(mask, volume_of(np.full(mask.shape, -1000, np.int16))) is None


def test_left_is_counted_in_the_patient_not_along_the_axis():
    turned = np.array([[1.6, 0, 1.2, 0], [0, 1, 0, 0], [-1.2, 0, 1.6, 0], [0, 0, 0, 1.0]])
    volume = volume_of(np.zeros((10, 4, 10)), turned)
    whole = slice(0, 10), slice(0, 4), slice(0, 10)
    z, _, x = np.indices(volume.shape)
    expected = float((1.6 * x + 1.2 * z > 9.0).mean())
    found = left_share(np.ones(volume.shape, bool), whole, turned, 9.0)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2)], ids=["about z", "about y"])
def test_weights_of_an_oblique_grid_count_where_they_lie(axes):
    rotation = np.eye(4)
    rotation[np.ix_(axes, axes)] = [[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]]
    affine = rotation @ np.diag([2.0, 1.5, 3.0, 1.0])
    weights = np.random.default_rng(0).random((9, 10, 11)).astype(np.float32)
    z, y, x = np.indices(weights.shape)
    left = affine[0] @ np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1) > 5.0
    expected = float(weights.ravel()[left].sum() / weights.sum())
    whole = slice(0, 9), slice(0, 10), slice(0, 11)
    assert left_share(weights, whole, affine, 5.0) == pytest.approx(expected, rel=1e-5)

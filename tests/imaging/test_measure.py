"""Volumes and densities are exact, and only taken on one grid."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.imaging.bodies import make_volume
from uvlm.errors import ImageError
from uvlm.imaging.measure import measure
from uvlm.imaging.readers import read_volume

SPACING = (5.0, 2.0, 1.0)


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    return make_volume(rng.integers(-1000, 1000, (4, 6, 8)).astype(np.int16), SPACING, "ct.nii")


@pytest.fixture
def mask():
    labels = np.zeros((4, 6, 8), np.uint8)
    labels[1, :2, :3] = 1
    labels[3, 5, :] = 7
    return make_volume(labels, SPACING, "mask.nii")


def test_volume_and_mean_of_each_label(image, mask):
    spleen, seventh = measure(image, mask, {1: "spleen"})
    assert (spleen.name, spleen.label, spleen.voxels) == ("spleen", 1, 6)
    assert spleen.volume_ml == pytest.approx(6 * 10 / 1000)
    assert spleen.mean_hu == image.array[1, :2, :3].mean()
    assert (seventh.name, seventh.voxels) == ("label 7", 8)


def test_a_named_class_without_voxels_has_no_density(image, mask):
    found = {row.name: row for row in measure(image, mask, {1: "spleen", 2: "liver"})}
    assert (found["liver"].volume_ml, found["liver"].mean_hu) == (0, None)


def test_background_is_no_class(image, mask):
    assert [row.label for row in measure(image, mask, {0: "background"})] == [1, 7]


def test_large_volumes_keep_their_precision():
    image = make_volume(np.full((64, 64, 64), 16_777, np.float32))
    mask = make_volume(np.ones((64, 64, 64), np.uint8))
    assert measure(image, mask)[0].mean_hu == 16_777


def test_another_shape_is_refused_naming_both(image, mask):
    cut = replace(mask, array=mask.array[:3])
    with pytest.raises(ImageError, match=r"mask\.nii.*\(3, 6, 8\).*ct\.nii has \(4, 6, 8\)"):
        measure(image, cut)


def test_another_place_is_refused_naming_both(image, mask):
    moved = mask.affine.copy()
    moved[2, 3] += 5
    with pytest.raises(ImageError, match=r"mask\.nii.*5\.00 mm away from the image ct\.nii"):
        measure(image, replace(mask, affine=moved))


def test_a_flipped_mask_is_refused(image, mask):
    flipped = mask.affine @ np.diag([-1, 1, 1, 1.0])
    with pytest.raises(ImageError, match="mm away"):
        measure(image, replace(mask, affine=flipped))


def test_rounding_in_headers_is_allowed(image, mask):
    assert measure(image, replace(mask, affine=mask.affine + 1e-4))


def test_totalsegmentator_statistics_are_reproduced(real_data):
    folder = real_data / "totalsegmentator"
    image = read_volume(folder / "example_ct_sm.nii.gz")
    mask = read_volume(folder / "example_seg_fast.nii.gz", labels=True)
    table = json.loads((folder / "labels_total_v2.json").read_text())
    expected = json.loads((folder / "example_seg_fast" / "statistics.json").read_text())
    found = {
        row.name: (round(row.volume_ml * 1000, 3), round(row.mean_hu or 0.0, 5))
        for row in measure(image, mask, {int(label): name for label, name in table.items()})
    }
    assert len(found) == 117
    assert found == {name: (e["volume"], e["intensity"]) for name, e in expected.items()}

"""HSENet's preprocessing: cropped to the foreground, scaled to 0..1; old files stay the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.imaging.test_preprocess import AFFINES, blob, turned, volume, world
from uvlm.config import from_dict, to_dict
from uvlm.errors import ImageError
from uvlm.imaging.preprocess import (
    Grid,
    PreprocessSpec,
    grid_of,
    prepare,
    prepare_labels,
    preset,
    restore_labels,
    restore_map,
)
from uvlm.imaging.store import StoredArray, meta_of, read_scaling, write_store

SHAPE = (12, 15, 18)
SPEC = preset("hsenet", (8, 16, 16))
LARGE = preset("hsenet", (26, 40, 40))

# As they were before `foreground` and "minmax" existed: catalogs and bundles carry them.
HASHES = {
    "687d9897cf720456": preset("paper"),
    "0c8b30ae30966cc7": preset("authors"),
    "ad63bbd1f270bf7a": preset("paper", (8, 16, 16)),
    "0501f267735065bb": PreprocessSpec(spacing=(3.0, 1.0, 1.0), clip=(-1000.0, 1000.0)),
    "9069b2b218e582fd": PreprocessSpec(normalise="none"),
}
OLD = {
    "orientation": "LPS",
    "shape": [192, 256, 256],
    "spacing": None,
    "antialias": True,
    "align_corners": False,
    "clip": [-1024.0, 3071.0],
    "normalise": "zscore",
}


def ct(body=((3, 9), (4, 12), (5, 15)), affine=None):
    """Air at -1000 HU around a box of noise."""
    array = np.full(SHAPE, -1000, np.int16)
    part = tuple(slice(*ends) for ends in body)
    array[part] = np.random.default_rng(0).integers(-900, 300, array[part].shape)
    return volume(array, turned() if affine is None else affine)


@pytest.mark.parametrize("expected", HASHES)
def test_older_specifications_keep_their_hash(expected):
    assert HASHES[expected].hash == expected


def test_older_files_are_read_and_written_as_they_are():
    assert from_dict(PreprocessSpec, OLD) == preset("paper")
    assert to_dict(preset("paper")) == OLD
    old = grid_of(ct(), preset("paper"))
    assert "crop" not in old.to_dict()
    assert Grid.from_dict(old.to_dict()) == old
    header = to_dict(meta_of(prepare(ct(), preset("paper", SHAPE))))
    assert header.keys() == {"kind", "spec_hash", "grid", "mean", "std", "classes"}


def test_the_preset_is_that_of_the_paper():
    spec = preset("hsenet")
    assert (spec.shape, spec.clip, spec.spacing) == ((32, 256, 256), (-1000, 200), None)
    assert (spec.normalise, spec.foreground) == ("minmax", True)
    assert from_dict(PreprocessSpec, json.loads(json.dumps(to_dict(spec)))) == spec
    variants = [spec, replace(spec, foreground=False), replace(spec, normalise="zscore")]
    assert len({variant.hash for variant in variants}) == 3


def test_what_lies_around_the_body_is_cropped_away():
    grid = prepare(ct(), SPEC).grid
    assert grid.crop == ((3, 9), (4, 12), (5, 15))
    assert Grid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    # At its own size every voxel is copied.
    same = prepare(ct(), replace(SPEC, shape=(6, 8, 10)))
    np.testing.assert_array_equal(same.array, np.clip(ct().array[3:9, 4:12, 5:15], -1000, 200))


def test_a_body_that_fills_the_volume_is_not_cropped():
    whole = ct(tuple((0, n) for n in SHAPE))
    cropped, plain = prepare(whole, SPEC), prepare(whole, replace(SPEC, foreground=False))
    assert cropped.grid.crop == tuple((0, n) for n in SHAPE)
    np.testing.assert_array_equal(cropped.array, plain.array)
    assert cropped.grid.affine == plain.grid.affine


def test_a_model_sees_0_to_1_and_the_store_keeps_hu(tmp_path):
    prepared = prepare(ct(), SPEC)
    assert prepared.array.dtype == np.int16
    assert -1000 <= prepared.array.min() < prepared.array.max() <= 200
    seen = prepared.normalised()
    assert (seen.min(), seen.max(), seen.dtype) == (0, 1, np.float32)
    path = tmp_path / "ct.b2nd"
    write_store(path, prepared.array, meta_of(prepared))
    offset, scale = read_scaling(StoredArray(path), SPEC)
    np.testing.assert_allclose((prepared.array - offset) / scale, seen, atol=1e-6)


def test_a_stored_volume_of_one_value_is_refused(tmp_path):
    prepared = prepare(ct(), SPEC)
    meta = replace(meta_of(prepared), low=-1000.0, high=-1000.0)
    write_store(tmp_path / "ct.b2nd", np.full(SPEC.shape, -1000, np.int16), meta)
    with pytest.raises(ImageError, match=r"ct\.b2nd: every voxel has one value"):
        read_scaling(StoredArray(tmp_path / "ct.b2nd"), SPEC)


def test_a_flat_volume_is_refused():
    with pytest.raises(ImageError, match="every voxel has the value -1000 HU"):
        prepare(volume(np.full(SHAPE, -1010, np.int16), turned()), SPEC)


def test_a_mask_needs_the_crop_of_its_image():
    mask = volume(np.ones(SHAPE, np.uint8), turned())
    with pytest.raises(ValueError, match="crop of the image's grid"):
        prepare_labels(mask, SPEC)


@pytest.mark.parametrize("affine", AFFINES)
def test_a_blob_keeps_its_place_in_the_patient(affine):
    array = np.rint(-1000 + 1500 * blob()).astype(np.int16)
    prepared = prepare(volume(array, AFFINES[affine]), preset("hsenet", (16, 20, 20)))
    assert prepared.grid.crop != tuple((0, n) for n in array.shape)
    heights = np.maximum(prepared.array + 900.0, 0)
    found = world(prepared.grid.affine, ndimage.center_of_mass(heights))
    np.testing.assert_allclose(found, world(AFFINES[affine], (13, 11, 20)), atol=0.6)
    restored = restore_map(prepared.array + 1000.0, prepared.grid)
    assert restored.shape == array.shape
    peak = np.unravel_index(restored.argmax(), restored.shape)
    assert np.abs(np.subtract(peak, (13, 11, 20))).max() <= 1


ends = [st.tuples(st.integers(0, n // 2 - 1), st.integers(n // 2 + 1, n)) for n in SHAPE]


@settings(max_examples=40, deadline=None)
@given(st.tuples(*ends), st.sampled_from(sorted(AFFINES)), st.randoms(use_true_random=False))
def test_a_marked_voxel_of_the_body_comes_back_to_its_place(body, name, random):
    image = ct(body, AFFINES[name])
    place = tuple(random.randrange(*part) for part in body)
    mask = np.zeros(SHAPE, np.uint8)
    mask[place] = 7
    grid = grid_of(image, LARGE)
    prepared = prepare_labels(volume(mask, image.affine), LARGE, grid.crop)
    assert 7 in prepared
    restored = restore_labels(prepared, grid)
    np.testing.assert_array_equal(restored, mask)


@pytest.mark.parametrize("name", AFFINES)
def test_what_was_cropped_away_comes_back_empty(name):
    image = ct(affine=AFFINES[name])
    grid = grid_of(image, LARGE)
    restored = restore_labels(np.ones(LARGE.shape, np.uint8), grid)
    body = image.array > -1000
    assert restored[body].all()
    # The straightened grid's box is a little larger than the body where it was skewed.
    outside = ndimage.binary_dilation(body, np.ones((3, 3, 3)), iterations=3) == 0
    assert not restored[outside].any()
    if name != "tilted":
        assert restored.sum() == 6 * 8 * 10


def test_a_crop_is_resampled_around_its_centre_too():
    spec = replace(LARGE, spacing=(4.0, 2.5, 2.0), shape=(8, 6, 10))
    prepared = prepare(ct(), spec)
    inside = np.clip(ct().array[3:9, 5:11, 5:15], -1000, 200)
    np.testing.assert_array_equal(prepared.array[1:7], inside)
    assert (prepared.array[[0, 7]] == -1000).all()

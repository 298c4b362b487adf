"""Linear interpolation along axes, and labels that vote."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from uvlm.imaging.resample import AxisMap, resample, resample_labels


def stretch(source, target):
    """Outer edges onto outer edges."""
    scale = source / target
    return AxisMap(source, target, scale, (scale - 1) / 2)


def stretches(source, target):
    return [stretch(n, m) for n, m in zip(source, target, strict=True)]


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(0, 300, (20, 37, 41)).astype(np.float32)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(9, 11), (90, 75), (37, 41), (1, 130)])
def test_planes_agree_with_torch(noise, antialias, size):
    expected = F.interpolate(
        torch.from_numpy(noise)[None].double(), size, mode="bilinear", antialias=antialias
    )
    maps = [AxisMap(20, 20, 1.0, 0.0), *stretches(noise.shape[1:], size)]
    found = resample(noise, maps, antialias=antialias, fill=0)
    # float32 sums of up to 40 terms of size 300
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-3)


@pytest.mark.parametrize("depth", [5, 20, 64])
def test_slices_are_mixed_as_rows_are(noise, depth):
    along_z = resample(noise, stretches(noise.shape, (depth, 37, 41)), antialias=True, fill=0)
    turned = noise.transpose(1, 0, 2)
    along_y = resample(turned, stretches(turned.shape, (37, depth, 41)), antialias=True, fill=0)
    np.testing.assert_allclose(along_z, along_y.transpose(1, 0, 2), atol=1e-3)


def test_aligned_corners_agree_with_scipy_zoom(noise):
    target = (13, 50, 41)
    maps = [AxisMap(n, m, (n - 1) / (m - 1), 0.0) for n, m in zip(noise.shape, target, strict=True)]
    expected = ndimage.zoom(
        noise, [m / n for n, m in zip(noise.shape, target, strict=True)], order=1
    )
    found = resample(noise, maps, antialias=False, fill=0)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("target", [(3, 4, 5), (64, 200, 130), (20, 37, 41)])
def test_a_constant_stays_constant(target):
    array = np.full((20, 37, 41), -777, np.int16)
    found = resample(array, stretches(array.shape, target), antialias=True, fill=0)
    np.testing.assert_allclose(found, -777, atol=1e-3)


def test_values_are_clipped_before_they_are_mixed():
    array = np.zeros((1, 1, 4), np.int16)
    array[0, 0, 0] = -3024
    found = resample(
        array, stretches(array.shape, (1, 1, 2)), antialias=True, fill=0, clip=(-1000, 1000)
    )
    alone = resample(
        np.maximum(array, -1000), stretches(array.shape, (1, 1, 2)), antialias=True, fill=0
    )
    np.testing.assert_array_equal(found, alone)


def test_voxels_beyond_the_volume_take_the_fill():
    array = np.ones((2, 2, 2), np.float32)
    padded = [AxisMap(2, 6, 1.0, -2.0)] * 3
    found = resample(array, padded, antialias=True, fill=-9)
    expected = np.full((6, 6, 6), -9.0)
    expected[2:4, 2:4, 2:4] = 1
    np.testing.assert_array_equal(found, expected)


def test_labels_beyond_the_volume_are_background():
    array = np.full((2, 2, 2), 7, np.uint8)
    shrunk_and_padded = [AxisMap(2, 4, 1.5, -1.75)] * 3
    for vote in (True, False):
        found = resample_labels(array, shrunk_and_padded, vote=vote)
        assert found[0, 0, 0] == 0
        assert (found[1:3, 1:3, 1:3] == 7).all()


def test_the_inverse_map_leads_back():
    axis = AxisMap(30, 11, 2.5, 0.3)
    back = axis.inverse
    there = axis.scale * 4 + axis.offset
    assert back.scale * there + back.offset == pytest.approx(4)
    assert (back.source, back.target) == (11, 30)


@pytest.mark.parametrize("vote", [True, False])
def test_no_value_is_invented_and_the_type_stays(vote):
    rng = np.random.default_rng(1)
    blocks = rng.choice([0, 3, 200, 1000], (5, 6, 7)).astype(np.uint16)
    array = blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    found = resample_labels(array, stretches(array.shape, (11, 30, 17)), vote=vote)
    assert found.dtype == np.uint16
    assert set(np.unique(found)) <= {0, 3, 200, 1000}


def test_the_larger_share_of_a_voxel_wins():
    # Two target voxels of three source voxels each: 1 1 2 | 0 2 2
    array = np.array([[[1, 1, 2, 0, 2, 2]]], np.uint8)
    found = resample_labels(array, stretches(array.shape, (1, 1, 2)), vote=True)
    assert found.ravel().tolist() == [1, 2]


def test_a_vote_keeps_a_thin_diagonal_tube_better_than_its_nearest_voxels():
    y, x = np.meshgrid(np.arange(128), np.arange(128), indexing="ij")
    tube = np.stack([np.hypot(y - 40 - z, x - 60) < 4 for z in range(40)]).astype(np.uint8)
    maps = stretches(tube.shape, (40, 64, 64))
    overlap = {}
    for vote in (True, False):
        small = resample_labels(tube, maps, vote=vote)
        back = resample_labels(small, [axis.inverse for axis in maps], vote=vote)
        overlap[vote] = 2 * (tube & back).sum() / (tube.sum() + back.sum())
    assert overlap[True] > overlap[False]
    assert overlap[True] > 0.88


def test_enlarging_by_copies_and_going_back_loses_nothing():
    array = np.random.default_rng(2).integers(0, 50, (7, 9, 11)).astype(np.uint8)
    maps = stretches(array.shape, (20, 9, 31))
    large = resample_labels(array, maps, vote=False)
    back = resample_labels(large, [axis.inverse for axis in maps], vote=False)
    np.testing.assert_array_equal(back, array)

"""The sums and neighbourhoods from which the body region is guessed are exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uvlm.imaging.region import _blocks, _dilated, _eroded


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(
    ("ours", "scipys"), [(_eroded, ndimage.binary_erosion), (_dilated, ndimage.binary_dilation)]
)
def test_neighbourhoods_are_those_of_scipy(ours, scipys, corners):
    rng = np.random.default_rng(0)
    for _ in range(100):
        picture = rng.random(rng.integers(1, 9, 2)) < rng.random()
        expected = scipys(picture, ndimage.generate_binary_structure(2, 1 + corners))
        assert np.array_equal(ours(picture, corners=corners), expected)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 3, 4), (9, 9, 9)])
@pytest.mark.parametrize("offset", [0.0, 1024.0, 300.4])
def test_blocks_are_means_of_clipped_hounsfield_units(dtype, steps, offset):
    shape = tuple(3 * step - 1 for step in steps)
    array = np.random.default_rng(0).integers(0, 32768, shape).astype(dtype)
    array[0] = padding = 7
    (nz, kz), (ny, ky), (nx, kx) = ((2, step) for step in steps)
    hu = np.where(array == padding, -3000.0, np.clip(array - offset, -1100, 2000))
    cut = hu[: nz * kz, : ny * ky, : nx * kx].reshape(nz, kz, ny, ky, nx, kx)
    found = _blocks(array, steps, offset, padding)
    np.testing.assert_allclose(found, cut.mean((1, 3, 5)), rtol=1e-5, atol=1e-3)


def test_a_block_as_large_as_a_volume_does_not_overflow():
    """A spacing in metres makes one block of all voxels: their sum is beyond 32 bits."""
    array = np.full((8, 320, 320), -3024, np.int16)
    assert _blocks(array, array.shape, 0.0, -3024.0).tolist() == [[[-3000.0]]]

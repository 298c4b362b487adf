"""Stored values become HU exactly, whichever arithmetic is used."""

from __future__ import annotations

import numpy as np
import pytest

from uvlm.imaging.values import image_values

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32])
@pytest.mark.parametrize("slope", [1.0, 2.0, -1.0, 4096.0, 5000.0, 0.5])
@pytest.mark.parametrize("intercept", [0.0, -1024.0, -8192.0, 2.0**25, 0.25])
def test_whole_slopes_give_what_float64_gives(dtype, slope, intercept):
    limits = np.iinfo(dtype)
    stored = RNG.integers(max(limits.min, -60000), min(limits.max, 60000), (3, 4, 5)).astype(dtype)
    stored.flat[:2] = limits.min, limits.max
    expected = stored.astype(np.float64) * slope + intercept
    found = image_values(stored, "ct.nii", slope, intercept)
    fits = (np.rint(expected) == expected).all() and np.abs(expected + 0.5).max() <= 32767.5
    assert found.dtype == (np.int16 if fits else np.float32)
    np.testing.assert_array_equal(found, expected.astype(found.dtype))

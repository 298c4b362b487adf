"""The histogram counts every value; its peaks are those that SciPy finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from uvlm.imaging.landmarks import _peaks, histogram


@given(st.lists(st.integers(0, 5), max_size=40))
def test_peaks_are_those_of_scipy(heights):
    density = np.array(heights, np.float64)
    expected, _ = find_peaks(density, prominence=0.02 * density.max(initial=0.0))
    assert _peaks(density).tolist() == expected.tolist()


def test_peaks_of_smooth_curves_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(200):
        density = gaussian_filter1d(rng.random(300) ** 4, rng.uniform(0.5, 4))
        expected, _ = find_peaks(density, prominence=0.02 * density.max())
        assert _peaks(density).tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
@pytest.mark.parametrize(("low", "high"), [(-32768, 32767), (-1024, 3071), (5, 5)])
def test_every_value_is_counted(dtype, low, high):
    array = np.random.default_rng(0).integers(low, high + 1, (5, 40, 30)).astype(dtype)
    array[0, 0, :2] = low, high
    turned = array.transpose(2, 0, 1)[:, ::-1]
    for volume in (array, turned):
        *limits, found = histogram(volume, 65535)
        assert limits == [low, high]
        values, counts = np.unique(array, return_counts=True)
        assert (found.low, len(found.counts)) == (low, high - low + 1)
        assert (np.flatnonzero(found.counts) + low).tolist() == values.tolist()
        assert found.counts[found.counts > 0].tolist() == counts.tolist()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_values_too_far_apart_are_not_counted(dtype):
    array = np.array([[[-5, 6]]], dtype)
    assert histogram(array, 10) == (-5.0, 6.0, None)
    assert histogram(array, 11)[2] is not None

"""Slices are true axial planes, evenly spread, of one window."""

from __future__ import annotations

import numpy as np
import pytest

from uvlm.errors import ConfigError
from uvlm.imaging.slices import cut_slices

WINDOW = (-1000.0, 1000.0)


def volume(shape: tuple[int, int, int], fill: float = -1000) -> np.ndarray:
    return np.full(shape, fill, np.int16)


@pytest.mark.parametrize("shape", [(12, 8, 8), (40, 8, 6), (5, 16, 16)])
def test_a_marked_plane_shows_in_its_slice_whichever_axis_is_longest(shape):
    """Five slices of 12 planes lie on 0, 2.75, 5.5, 8.25 and 11, rounded."""
    places = np.rint(np.linspace(0, shape[0] - 1, 5)).astype(int)
    for k, plane in enumerate(places):
        marked = volume(shape)
        marked[plane] = 1000
        cut = cut_slices(marked, slices=5, size=4, window=WINDOW)
        assert cut.shape == (5, 4, 4)
        assert [int(s.max()) for s in cut] == [255 if i == k else 0 for i in range(5)]


def test_the_first_slice_is_nearest_to_the_feet():
    rising = volume((9, 4, 4)) + np.arange(0, 1800, 200, dtype=np.int16)[:, None, None]
    shades = cut_slices(rising, slices=4, size=4, window=WINDOW)[:, 0, 0]
    assert list(shades) == sorted(shades)
    assert shades[0] == 0


def test_rows_go_to_the_back_and_columns_to_the_left():
    corner = volume((2, 8, 8))
    corner[:, 0, 4:] = 1000  # front, the patient's left half
    cut = cut_slices(corner, slices=2, size=8, window=WINDOW)
    assert (cut[0, 0] == [0, 0, 0, 0, 255, 255, 255, 255]).all()
    assert not cut[0, 1:].any()


def test_fewer_planes_than_slices_are_interpolated():
    two = volume((2, 4, 4))
    two[1] = 1000
    cut = cut_slices(two, slices=5, size=4, window=WINDOW)
    assert list(cut[:, 0, 0]) == [0, 64, 128, 191, 255]


@pytest.mark.parametrize(("planes", "expected"), [(1, 5), (5, 1)])
def test_a_single_plane_or_a_single_slice(planes: int, expected: int):
    array = volume((planes, 4, 4))
    array[planes // 2] = 1000
    cut = cut_slices(array, slices=expected, size=4, window=WINDOW)
    assert (cut == 255).all()


def test_one_window_for_the_whole_volume():
    """A flat slice keeps its shade; values beyond the window are black or white."""
    levels = volume((4, 4, 4))
    levels[:] = np.array([-2000, -500, 0, 3000], np.int16)[:, None, None]
    cut = cut_slices(levels, slices=4, size=2, window=WINDOW)
    assert list(cut[:, 0, 0]) == [0, 64, 128, 255]


def test_shrinking_averages_and_sides_may_differ():
    stripes = volume((1, 32, 16))
    stripes[:, ::2] = 1000
    cut = cut_slices(stripes, slices=1, size=4, window=WINDOW)
    assert cut.shape == (1, 4, 4)
    assert np.abs(cut.astype(int) - 128).max() <= 8  # two neighbours alone would give 0 or 255


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slices": 0}, "at least 1, got 0 and 4"),
        ({"size": 0}, "at least 1, got 2 and 0"),
        ({"window": (5.0, 5.0)}, r"black lower, got \(5.0, 5.0\)"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        cut_slices(volume((3, 4, 4)), **{"slices": 2, "size": 4, "window": WINDOW} | changes)

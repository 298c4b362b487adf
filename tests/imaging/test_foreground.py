"""The box around everything above a volume's lowest value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvlm.imaging.foreground import foreground_box

SHAPE = (5, 6, 7)


def slow(array):
    """The box, found the obvious way."""
    places = np.argwhere(array > array.min())
    if not len(places):
        return None
    first, end = places.min(axis=0), places.max(axis=0) + 1
    return tuple(zip(first.tolist(), end.tolist(), strict=True))


@given(st.lists(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), max_size=4), st.booleans())
def test_it_is_the_box_of_all_voxels_above_the_lowest(places, raised):
    array = np.full(SHAPE, -1000, np.int16)
    for place in places:
        array[place] = 40
    if raised:  # a plane without any voxel of the lowest value
        array[2] += 100
    assert foreground_box(array, SHAPE, None) == slow(array)


def test_values_are_clipped_first():
    array = np.random.default_rng(0).integers(-3000, -1000, SHAPE)
    array[1:3, 2:5, 3:4] = 40
    assert foreground_box(array, SHAPE, (-1000, 200)) == ((1, 3), (2, 5), (3, 4))


def test_every_slice_is_asked_for_once_and_in_order():
    asked = []

    class Spy:
        def __getitem__(self, part):
            asked.append((part.start, part.stop))
            return np.zeros(SHAPE)[part]

    assert foreground_box(Spy(), SHAPE, None) is None
    assert asked == [(z, z + 1) for z in range(SHAPE[0])]


@pytest.mark.parametrize("clip", [None, (-1000.0, 200.0)])
def test_the_volume_is_left_as_it_is(clip):
    array = np.random.default_rng(0).integers(-3000, 3000, SHAPE)
    before = array.copy()
    foreground_box(array, SHAPE, clip)
    np.testing.assert_array_equal(array, before)

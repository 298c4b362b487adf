"""Dice agrees with its definition, class by class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uvlm.errors import InputError
from uvlm.evaluation.masks.overlap import dice, overlaps

MAPS = arrays(np.int16, (2, 3, 4), elements=st.integers(0, 4))
CLASSES = {"liver": 1, "lung": 2, "heart": 4}


@settings(deadline=None)
@given(MAPS, MAPS)
def test_every_class_agrees_with_the_definition(prediction, truth):
    scores = dice(prediction, truth, CLASSES)
    for name, value in CLASSES.items():
        a, b = prediction == value, truth == value
        if a.sum() + b.sum() == 0:
            assert np.isnan(scores[name])
        else:
            assert scores[name] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


@settings(deadline=None)
@given(MAPS, MAPS)
def test_dice_is_symmetric(prediction, truth):
    np.testing.assert_equal(dice(prediction, truth, CLASSES), dice(truth, prediction, CLASSES))


def test_a_class_in_one_map_only_scores_zero():
    empty, full = np.zeros((2, 2, 2), np.int16), np.ones((2, 2, 2), np.int16)
    assert dice(empty, full, {"liver": 1}) == {"liver": 0.0}
    assert dice(full, empty, {"liver": 1}) == {"liver": 0.0}


def test_maps_of_two_types_are_compared_by_value():
    truth = np.ones((2, 2, 2), np.uint8)
    assert dice(truth.astype(np.int64), truth, {"liver": 1}) == {"liver": 1.0}


def test_no_class_gives_no_score():
    assert dice(np.zeros((1, 1, 1), int), np.zeros((1, 1, 1), int), {}) == {}


def test_maps_of_two_shapes_are_refused_with_both_shapes():
    with pytest.raises(InputError, match=r"\(1, 2, 3\), the true one \(3, 2, 1\)"):
        dice(np.zeros((1, 2, 3), int), np.zeros((3, 2, 1), int), CLASSES)


def test_published_half_cubes_shifted_by_one_voxel():
    prediction, truth = np.zeros((2, 100, 100, 100), np.int16)
    prediction[:50], truth[:51] = 1, 1
    assert dice(prediction, truth, {"cube": 1})["cube"] == pytest.approx(0.990, abs=5e-4)


@settings(deadline=None)
@given(MAPS, MAPS)
def test_iou_and_voxels_agree_with_the_definition(prediction, truth):
    for name, found in overlaps(prediction, truth, CLASSES).items():
        a, b = truth == CLASSES[name], prediction == CLASSES[name]
        assert (found.true, found.predicted, found.both) == (a.sum(), b.sum(), (a & b).sum())
        if (a | b).any():
            assert found.iou == pytest.approx((a & b).sum() / (a | b).sum())
        else:
            assert np.isnan(found.iou)

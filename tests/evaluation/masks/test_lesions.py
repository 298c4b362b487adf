"""Lesions found and missed, against a loop over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uvlm.errors import ConfigError, InputError
from uvlm.evaluation.masks.lesions import LesionCounts, lesion_counts


def specks(seed, share=0.12, shape=(5, 8, 8)):
    return np.random.default_rng(seed).random(shape) < share


def slowly(truth, predicted, iou) -> LesionCounts:
    touching = np.ones((3, 3, 3))
    ours, n = ndimage.label(truth, touching)
    theirs, m = ndimage.label(predicted, touching)
    hit = np.zeros((n, m), bool)
    for i in range(n):
        for j in range(m):
            a, b = ours == i + 1, theirs == j + 1
            shared = (a & b).sum()
            hit[i, j] = shared > 0 and shared / (a | b).sum() >= iou
    found, right = hit.any(axis=1).sum(), hit.any(axis=0).sum()
    return LesionCounts(n, int(found), m, int(right))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_counts_are_those_of_all_pairs(seed, iou):
    truth, predicted = specks(seed), specks(seed) ^ specks(seed + 1, 0.04)
    assert lesion_counts(truth, predicted, iou) == slowly(truth, predicted, iou)


def test_a_perfect_mask_finds_every_lesion_and_no_other():
    mask = specks(5, 0.03)
    number = ndimage.label(mask, np.ones((3, 3, 3)))[1]
    assert number > 1
    assert lesion_counts(mask, mask, 1.0) == LesionCounts(number, number, number, number)


def test_voxels_that_touch_at_a_corner_are_one_lesion():
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert lesion_counts(mask, mask).true == 1


def test_one_prediction_may_find_two_lesions_and_two_predictions_be_right_in_one():
    two, one = np.zeros((2, 1, 1, 9), bool)
    two[0, 0, [1, 5]] = True
    one[0, 0, 1:6] = True
    assert lesion_counts(two, one) == LesionCounts(2, 2, 1, 1)
    assert lesion_counts(one, two) == LesionCounts(1, 1, 2, 2)


def test_empty_masks_have_no_lesion():
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    for iou in (0.0, 0.5):
        assert lesion_counts(empty, empty, iou) == LesionCounts()
        assert lesion_counts(empty, full, iou) == LesionCounts(0, 0, 1, 0)
        assert lesion_counts(full, empty, iou) == LesionCounts(1, 0, 0, 0)


def test_other_shapes_and_thresholds_are_refused():
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(InputError, match="one grid"):
        lesion_counts(mask, mask[:1])
    with pytest.raises(ConfigError, match=r"0 to 1, got 1\.5"):
        lesion_counts(mask, mask, 1.5)

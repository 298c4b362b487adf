"""Distances of surfaces are those of the package surface-distance, and of its published vectors."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pytest
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uvlm.errors import InputError, MissingExtraError
from uvlm.evaluation.masks.overlap import overlaps
from uvlm.evaluation.masks.surfaces import (
    SLACK_MM,
    hausdorff,
    surface_dice,
    surface_distances,
)

VECTORS = "segmentation_metric_vectors/published_surface_distance.json"
SPACINGS = [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.8, 0.6, 1.3)]


def blobs(seed, shape):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > rng.uniform(0.0, 0.1)


def slowly(truth, predicted, spacing):
    """The package itself, by distance transforms. It uses names that SciPy 2 will not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return surface_distance.compute_surface_distances(truth, predicted, spacing)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([*SPACINGS, (2.0, 0.7)]))
def test_distances_and_areas_are_those_of_the_package(seed, spacing):
    shape = (9, 14, 12)[: len(spacing)]
    truth, predicted = blobs(seed, shape), blobs(seed + 1, shape)
    if not truth.any() or not predicted.any():
        return
    ours = surface_distances(truth, predicted, spacing)
    theirs = slowly(truth, predicted, spacing)
    for name in ("distances_gt_to_pred", "distances_pred_to_gt"):
        np.testing.assert_allclose(ours.as_package[name], theirs[name], atol=1e-12)
    for name in ("surfel_areas_gt", "surfel_areas_pred"):
        np.testing.assert_allclose(np.sort(ours.as_package[name]), np.sort(theirs[name]))
    hd95 = surface_distance.compute_robust_hausdorff(theirs, 95)
    assert hausdorff(ours) == pytest.approx(hd95, abs=1e-12)
    expected = surface_distance.compute_surface_dice_at_tolerance(theirs, 1.0 + SLACK_MM)
    assert surface_dice(ours, 1.0) == pytest.approx(expected)


@pytest.fixture(scope="module")
def cases(real_data):
    path = real_data / VECTORS
    if not path.is_file():
        pytest.skip(f"no published vectors: {path} is absent")
    return {case["name"]: case for case in json.loads(path.read_text("utf-8"))["cases"]}


def masks_of(case):
    truth, predicted = np.zeros((2, *case.get("shape", (4, 4, 4))), bool)
    for mask, name in ((truth, "gt"), (predicted, "pred")):
        for voxel in case.get(f"{name}_voxels", []):
            mask[tuple(voxel)] = True
        mask[slice(*case.get(f"{name}_slab", (0, 0)))] = True
    if case["name"] in ("empty_pred", "empty_gt"):
        (predicted if case["name"] == "empty_gt" else truth)[1, 1, 1] = True
    return truth, predicted, case.get("spacing", (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "name",
    [
        "3d_two_voxels",
        "3d_half_cubes_shift1",
        "2d_two_pixels",
        "empty_pred",
        "empty_gt",
        "both_empty",
    ],
)
def test_published_vectors(cases, name):
    case = cases[name]
    truth, predicted, spacing = masks_of(case)
    found = surface_distances(truth, predicted, spacing)
    near = {"abs": 0.5 * 10.0 ** -case["places"] if "places" in case else 1e-4, "nan_ok": True}
    dice = overlaps(predicted.astype(int), truth.astype(int), {"it": 1})["it"].dice
    assert dice == pytest.approx(float(case["dice"]), **near)
    assert hausdorff(found) == pytest.approx(float(case["hd95"]), **near)
    assert surface_dice(found, 1.0) == pytest.approx(float(case["surface_dice_1mm"]), **near)
    if "hd100" in case:
        assert hausdorff(found, 100.0) == pytest.approx(case["hd100"], **near)
    if "avg_surface_distance" in case:
        average = surface_distance.compute_average_surface_distance(found.as_package)
        assert average == pytest.approx(case["avg_surface_distance"], **near)
    if "overlap_1mm" in case:
        share = surface_distance.compute_surface_overlap_at_tolerance(found.as_package, 1.0)
        assert share == pytest.approx(case["overlap_1mm"], **near)


def test_the_same_mask_lies_on_itself():
    mask = blobs(1, (8, 8, 8))
    found = surface_distances(mask, mask, (3.0, 1.0, 1.0))
    assert hausdorff(found) == 0.0
    assert surface_dice(found, 0.0) == 1.0


def test_both_directions_count():
    truth = np.zeros((4, 4, 30), bool)
    truth[1, 1, 1] = True
    predicted = truth.copy()
    predicted[1, 1, 25] = True
    forth = surface_distances(truth, predicted, (1.0, 1.0, 1.0))
    back = surface_distances(predicted, truth, (1.0, 1.0, 1.0))
    assert hausdorff(forth) == hausdorff(back) == 24.0


def test_distances_grow_with_the_spacing():
    truth, predicted = blobs(3, (8, 9, 10)), blobs(4, (8, 9, 10))
    once = hausdorff(surface_distances(truth, predicted, (1.0, 1.0, 2.0)))
    assert hausdorff(surface_distances(truth, predicted, (2.0, 2.0, 4.0))) == pytest.approx(
        2 * once
    )


def test_ten_steps_of_a_tenth_are_within_one_millimetre():
    truth, predicted = np.zeros((2, 3, 3, 40), bool)
    truth[1, 1, 3:20] = predicted[1, 1, 13:30] = True
    found = surface_distances(truth, predicted, (0.1, 0.1, 0.1))
    assert hausdorff(found, 100.0) <= 1.0
    assert surface_dice(found, 1.0) == 1.0


def test_rounded_spacings_decide_nothing_at_the_tolerance():
    truth, predicted = np.zeros((2, 5, 5, 20), bool)
    truth[1:4, 1:4, 3:13] = predicted[1:4, 1:4, 5:15] = True
    for spacing in (1.0, 1.00000005, 0.99999995):
        found = surface_distances(truth, predicted, (spacing,) * 3)
        assert surface_dice(found, 2.0) == 1.0
    assert surface_dice(surface_distances(truth, predicted, (1.001,) * 3), 2.0) < 1.0


def test_a_surface_may_end_at_the_edge_of_the_array():
    full = np.ones((3, 3, 3), bool)
    found = surface_distances(full, full, (1.0, 1.0, 1.0))
    inner = surface_distances(np.pad(full, 2), np.pad(full, 2), (1.0, 1.0, 1.0))
    assert found.truth_mm2.sum() == pytest.approx(inner.truth_mm2.sum())


@pytest.mark.parametrize(
    ("truth", "predicted", "spacing"),
    [
        (np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), (1, 1, 1)),
        (np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1, 1)),
        (np.ones(2, bool), np.ones(2, bool), (1,)),
    ],
)
def test_masks_that_do_not_match_are_refused(truth, predicted, spacing):
    with pytest.raises(InputError, match="give two of one shape"):
        surface_distances(truth, predicted, spacing)


def test_without_the_package_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "surface_distance", None)
    with pytest.raises(MissingExtraError, match=r"surface-distance.*uvlm\[metrics\]"):
        surface_distances(np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1, 1, 1))

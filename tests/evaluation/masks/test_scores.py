"""Scores of masks in files: perfect, empty, shifted, on another grid, in several processes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.evaluation.masks.mask_files import AFFINE, CLASSES, liver, nifti, store
from uvlm.errors import ConfigError, ImageError, InputError
from uvlm.evaluation.masks.lesions import LesionCounts
from uvlm.evaluation.masks.overlap import dice
from uvlm.evaluation.masks.scores import MaskConfig, score_arrays, score_masks, score_pair
from uvlm.evaluation.masks.surfaces import hausdorff, surface_dice, surface_distances

CONFIG = MaskConfig(classes=CLASSES)


def test_a_perfect_mask_has_every_best_score(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    found = score_pair("a", truth, truth, CONFIG)
    for score in found.classes.values():
        assert (score.dice, score.iou, score.hd95_mm, score.surface_dice) == (1, 1, 0, 1)
        assert score.true_ml == score.predicted_ml > 0
    assert found.classes["liver"].lesions is None
    assert found.classes["liver_lesion"].lesions == LesionCounts(2, 2, 2, 2)
    assert found.classes["liver_lesion"].true_ml == pytest.approx(12 * 2 / 1000)
    assert found.diagonal_mm == pytest.approx(math.hypot(16, 10, 14))
    assert (found.study, found.missing, found.notes) == ("a", False, ())


def test_a_missing_prediction_scores_as_an_empty_one(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    missing = score_pair("a", truth, None, CONFIG)
    empty = score_pair("a", truth, nifti(tmp_path / "p.nii", liver() * 0), CONFIG)
    assert missing.classes == empty.classes
    assert missing.missing
    assert not empty.missing
    score = missing.classes["liver_lesion"]
    assert (score.dice, score.iou, score.hd95_mm, score.surface_dice) == (0, 0, math.inf, 0)
    assert score.lesions == LesionCounts(2, 0, 0, 0)


def test_a_class_in_neither_mask_has_no_value():
    (score,) = score_arrays(*np.zeros((2, 3, 3, 3), np.uint8), {"cyst": 1}, (1, 1, 1)).values()
    values = (score.dice, score.iou, score.hd95_mm, score.surface_dice)
    assert all(math.isnan(value) for value in values)
    assert score.lesions == LesionCounts()
    assert score.true_ml == score.predicted_ml == 0


def test_boxes_around_classes_change_nothing():
    truth, predicted = liver(), liver(3)
    found = score_arrays(truth, predicted, CLASSES, (2.0, 1.0, 1.0), CONFIG)
    for name, value in CLASSES.items():
        whole = surface_distances(truth == value, predicted == value, (2.0, 1.0, 1.0))
        assert found[name].hd95_mm == hausdorff(whole)
        assert found[name].surface_dice == pytest.approx(surface_dice(whole, 2.0))
    assert {n: s.dice for n, s in found.items()} == dice(predicted, truth, CLASSES)


def test_a_shift_is_measured_in_millimetres(tmp_path):
    shifted = np.zeros((20, 20, 20), np.uint8)
    truth = shifted.copy()
    truth[5:10, 5:10, 5:10] = shifted[7:12, 5:10, 5:10] = 1
    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    pair = nifti(tmp_path / "t.nii", truth, affine), nifti(tmp_path / "p.nii", shifted, affine)
    (score,) = score_pair("a", *pair, MaskConfig(tolerance_mm=6.0)).classes.values()
    assert score.hd95_mm == pytest.approx(6.0)
    assert score.surface_dice == 1.0
    assert score.true_ml == pytest.approx(125 * 0.75 / 1000)


def test_a_prediction_at_half_the_resolution_is_resampled(tmp_path):
    coarse = np.zeros((6, 6, 6), np.uint8)
    coarse[1:4, 2:5, 1:4] = 1
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = [0.5, 0.5, 1.0]
    truth = nifti(tmp_path / "t.nii", coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    found = score_pair("a", truth, nifti(tmp_path / "p.nii", coarse, affine))
    assert found.classes["label 1"].dice == 1.0
    assert "was resampled" in found.notes[0]


def test_a_tilted_gantry_keeps_volumes_and_is_noted(tmp_path):
    tilted = AFFINE.copy()
    tilted[1, 2] = 1.0
    truth = nifti(tmp_path / "t.nii", liver(), tilted)
    found = score_pair("a", truth, truth, CONFIG)
    assert found.classes["liver_lesion"].true_ml == pytest.approx(12 * 2 / 1000)
    assert found.notes == ("Axes are 26.6 degrees off right angles; distances are along the axes.",)


def test_more_than_255_values_are_compared():
    truth, predicted = liver() * np.uint16(300), liver(1) * np.uint16(300)
    found = score_arrays(truth, predicted, {"liver": 300}, (1, 1, 1))
    assert found["liver"] == score_arrays(liver(), liver(1), {"liver": 1}, (1, 1, 1))["liver"]


def test_surfaces_can_be_left_out(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    score = score_pair("a", truth, truth, MaskConfig(surfaces=False)).classes["label 1"]
    assert math.isnan(score.hd95_mm)
    assert math.isnan(score.surface_dice)
    assert score.dice == 1.0


def test_any_class_can_be_named_a_lesion():
    config = MaskConfig(lesions=("liver",))
    found = score_arrays(liver(), liver(), CLASSES, (1, 1, 1), config)
    assert found["liver"].lesions is not None


def test_several_processes_give_the_same_scores_in_the_same_order(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    pairs = [(str(n), truth, nifti(tmp_path / f"{n}.nii", liver(n))) for n in range(3)]
    alone = score_masks(pairs, CONFIG)
    assert score_masks(pairs, CONFIG, workers=2) == alone
    assert [each.study for each in alone] == ["0", "1", "2"]


def test_an_error_in_a_worker_names_its_file(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    pairs = [("a", truth, truth), ("b", truth, tmp_path / "none.nii")]
    with pytest.raises(ImageError, match=r"none\.nii: no such file"):
        score_masks(pairs, CONFIG, workers=2)


def test_arrays_of_two_shapes_are_refused():
    with pytest.raises(InputError, match="Compare masks on one grid"):
        score_arrays(liver(), liver()[1:], CLASSES, (1, 1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tolerance_mm": -1.0}, "tolerance_mm"),
        ({"tolerance_mm": math.nan}, "tolerance_mm"),
        ({"lesion_iou": 2.0}, "lesion_iou"),
        ({"covered": -0.1}, "covered"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        MaskConfig(**change)


def test_no_worker_is_an_error():
    with pytest.raises(ConfigError, match="workers must be 1 or more"):
        score_masks([], workers=0)


def test_a_class_that_no_prediction_knows_is_scored_in_no_study(tmp_path):
    truth, said = (nifti(tmp_path / f"{n}.nii", liver()) for n in "tp")
    config = MaskConfig(classes=CLASSES, predicted_classes={"liver": 1, "cyst": 2})
    rows = score_masks([("a", truth, said), ("b", truth, None)], config)
    assert [list(row.classes) for row in rows] == [["liver"], ["liver"]]


def test_a_class_that_one_prediction_knows_is_scored_in_every_study(tmp_path):
    truth = store(tmp_path / "t.b2nd", liver(), CLASSES)
    whole = store(tmp_path / "p.b2nd", liver(), CLASSES)
    organ = store(tmp_path / "q.b2nd", (liver() > 0).astype(np.uint8), {"liver": 1})
    rows = score_masks([("a", truth, whole), ("b", truth, organ), ("c", truth, None)])
    assert [row.classes["liver_lesion"].dice for row in rows] == [1, 0, 0]


@pytest.mark.parametrize("degrees", [0, 17])
@pytest.mark.parametrize(("voxel", "steps"), [(0.4, 5), (0.2, 10), (0.8, 2)])
def test_surfaces_at_the_tolerance_lie_within_it_whatever_a_file_rounds(
    tmp_path, degrees, voxel, steps
):
    turn, spacing = np.radians(degrees), np.array([voxel, voxel, 1.0])
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= spacing
    masks = np.zeros((2, 10, 30, 30), np.uint8)
    masks[0, 2:8, 8:20, 4:14] = masks[1, 2:8, 8:20, 4 + steps : 14 + steps] = 1
    truth, said = (nifti(tmp_path / f"{i}.nii", mask, affine) for i, mask in enumerate(masks))
    config = MaskConfig(tolerance_mm=voxel * steps)
    (score,) = score_pair("a", truth, said, config).classes.values()
    assert score.surface_dice == 1.0

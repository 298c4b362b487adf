"""Means over studies and classes of scored masks, and what they do with what does not exist."""

from __future__ import annotations

import math

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.masks.lesions import LesionCounts
from uvlm.evaluation.masks.metrics import PROTOCOLS, mask_measures
from uvlm.evaluation.masks.scores import ClassScore, MaskScores

NAN = math.nan


def one(dice=NAN, hd95=NAN, surface=NAN, true=0.0, predicted=0.0, lesions=None):
    return ClassScore(
        dice=dice,
        iou=dice / (2 - dice),
        hd95_mm=hd95,
        surface_dice=surface,
        true_ml=true,
        predicted_ml=predicted,
        lesions=lesions and LesionCounts(*lesions),
    )


ROWS = [
    MaskScores(
        study="a",
        diagonal_mm=100.0,
        classes={
            "liver": one(0.9, 3.0, 0.95, 1500, 1400),
            "rib_left_1": one(0.5, 8.0, 0.6, 10, 12),
            "liver_lesion": one(0.4, 6.0, 0.5, 5, 2, (3, 2, 4, 2)),
        },
    ),
    MaskScores(
        study="b",
        diagonal_mm=200.0,
        missing=True,
        classes={
            "liver": one(0.0, math.inf, 0.0, 1000, 0),
            "rib_left_1": one(),
            "liver_lesion": one(lesions=(0, 0, 0, 0)),
        },
    ),
]


def scores(rows, protocol, **options):
    (measure,) = [m for m in mask_measures(rows, **options) if m.protocol == protocol]
    return dict(zip(measure.names, measure.values(len(rows)), strict=True))


def test_classes_organs_bones_and_lesions_have_their_means():
    assert scores(ROWS, "dice@study") == pytest.approx(
        {
            "Dice": np.mean([0.45, 0.5, 0.4]),
            "Dice of organs": 0.45,
            "Dice of bones": 0.5,
            "Dice of lesions": 0.4,
            "Dice: liver": 0.45,
            "Dice: rib_left_1": 0.5,
            "Dice: liver_lesion": 0.4,
        }
    )


def test_what_was_not_found_costs_the_diagonal_or_is_left_out_as_the_protocol_says():
    assert scores(ROWS, "hd95@diagonal")["HD95: liver"] == pytest.approx((3.0 + 200.0) / 2)
    assert scores(ROWS, "hd95@both-present")["HD95: liver"] == 3.0
    notes = {measure.protocol: measure.notes for measure in mask_measures(ROWS)}
    assert notes["hd95@diagonal"][-1].endswith("in one mask only, 1 times: counted as the volume's "
                                               "diagonal.")  # fmt: skip
    assert notes["hd95@both-present"][-1].endswith("1 times: left out.")
    assert notes["dice@study"] == ("1 study without a prediction, scored as empty.",)


def test_volumes_are_compared_where_either_mask_has_the_class():
    found = scores(ROWS, "volume_error@ml")
    assert found["volume error: liver"] == pytest.approx((100 + 1000) / 2)
    assert found["volume error: liver_lesion"] == pytest.approx(3.0)


def test_lesions_are_counted_over_all_studies():
    rows = [ROWS[0], MaskScores(study="c", diagonal_mm=1, classes={
        "liver_lesion": one(0.1, 1, 0, 1, 1, (1, 1, 1, 1)),
        "kidney_cyst": one(0.0, math.inf, 0, 0, 1, (0, 0, 2, 0)),
    })]  # fmt: skip
    found = scores(rows, "lesions@any-voxel")
    assert found["precision: liver_lesion"] == pytest.approx(3 / 5)
    assert found["recall: liver_lesion"] == pytest.approx(3 / 4)
    assert found["F1: liver_lesion"] == pytest.approx(2 / 3)
    assert found["F1: kidney_cyst"] == 0.0
    assert math.isnan(found["recall: kidney_cyst"])
    assert found["recall"] == pytest.approx(3 / 4)
    assert found["F1"] == pytest.approx(1 / 3)


def test_a_resample_is_scored_as_if_it_were_the_data():
    weights = np.array([[2.0, 1.0], [0.0, 3.0]])
    drawn = [[ROWS[0], ROWS[0], ROWS[1]], [ROWS[1]] * 3]
    for measure in mask_measures(ROWS):
        for weight, rows in zip(weights, drawn, strict=True):
            (same,) = [m for m in mask_measures(rows) if m.protocol == measure.protocol]
            np.testing.assert_allclose(measure.score(weight[None])[0], same.values(3))


def test_the_order_of_studies_changes_nothing_but_the_rows():
    for one_way, other in zip(mask_measures(ROWS), mask_measures(ROWS[::-1]), strict=True):
        np.testing.assert_allclose(one_way.values(2), other.values(2))
        assert one_way.per_study is not None
        assert other.per_study is not None
        np.testing.assert_allclose(one_way.per_study, other.per_study[::-1])


def test_one_study_is_enough():
    found = scores(ROWS[:1], "dice@study")
    assert found["Dice: liver"] == 0.9


def test_a_class_no_study_has_is_named_and_left_out_of_means():
    (measure, *_) = mask_measures(ROWS[1:])
    values = dict(zip(measure.names, measure.values(1), strict=True))
    assert values["Dice"] == 0.0
    assert math.isnan(values["Dice of lesions"])
    assert measure.notes[-1] == "Without a value in any study: rib_left_1, liver_lesion."


def test_tolerance_and_iou_stand_in_the_names():
    row = MaskScores(study="a", classes=ROWS[0].classes, diagonal_mm=1, tolerance_mm=1.5,
                     lesion_iou=0.1)  # fmt: skip
    names = [measure.protocol for measure in mask_measures([row])]
    assert "surface_dice@1.5mm" in names
    assert "lesions@iou0.1" in names
    asked = mask_measures([row], protocols=["surface_dice@2mm", "iou@study"])
    assert [measure.protocol for measure in asked] == ["iou@study", "surface_dice@1.5mm"]


def test_every_protocol_is_described_and_all_are_computed():
    assert [info.name for info in PROTOCOLS] == [m.protocol for m in mask_measures(ROWS)]
    assert {info.task for info in PROTOCOLS} == {"seg"}


def test_distances_and_volume_errors_are_better_when_lower():
    lower = {m.protocol for m in mask_measures(ROWS) if not m.higher_is_better}
    assert lower == {"hd95@diagonal", "hd95@both-present", "volume_error@ml"}


def test_without_surfaces_and_lesions_their_measures_are_left_out():
    row = MaskScores(study="a", classes={"liver": one(0.5, true=1, predicted=1)}, diagonal_mm=1)
    names = [measure.protocol for measure in mask_measures([row])]
    assert names == ["dice@study", "iou@study", "volume_error@ml"]


def test_a_single_kind_has_one_mean():
    row = MaskScores(study="a", classes={"liver": one(0.5)}, diagonal_mm=1)
    assert mask_measures([row])[0].names == ("Dice", "Dice: liver")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no mask has a voxel"),
        ([MaskScores(study="a", classes={}, diagonal_mm=1)], "no mask has a voxel"),
        (
            [ROWS[0], MaskScores(study="b", classes={}, diagonal_mm=1, tolerance_mm=1)],
            "different tolerances",
        ),
    ],
)
def test_nothing_to_average_is_an_error(rows, message):
    with pytest.raises(InputError, match=message):
        mask_measures(rows)


def test_an_unknown_protocol_is_an_error():
    with pytest.raises(InputError, match="dice@study"):
        mask_measures(ROWS, protocols=["dice"])

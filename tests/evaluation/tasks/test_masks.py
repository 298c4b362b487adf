"""Masks in folders or tables: overlap in `seg`."""

import json

import numpy as np
import pytest

from tests.evaluation.tasks.livers import TRUTH, mask
from uvlm.errors import ConfigError, InputError
from uvlm.evaluation.tasks.seg import MaskInputs, evaluate_masks


def segmented(folder, classes, predicted, **options):
    return evaluate_masks(
        MaskInputs(
            references=folder("truth", TRUTH),
            predictions=folder("said", predicted),
            classes=classes,
            resamples=20,
            **options,
        )
    )


def test_equal_masks_score_one_and_no_distance(folder, classes, scores):
    found = scores(segmented(folder, classes, TRUTH))
    assert found["dice@study", "Dice"] == 1
    assert found["hd95@diagonal", "HD95"] == 0
    assert ("hd95@both-present", "HD95") not in found


def test_a_missing_mask_counts_as_empty_and_is_said(folder, classes, scores):
    result = segmented(folder, classes, {"a": TRUTH["a"], "b": TRUTH["b"]})
    assert scores(result)["dice@study", "Dice: liver"] == pytest.approx(2 / 3)
    assert "1 study is without prediction." in result.notes[""]
    assert result.per_study["missing"] == [False, False, True]


def test_the_tolerance_is_in_the_name_of_what_is_asked_for(folder, classes, scores):
    shifted = {key: np.roll(array, 1, axis=0) for key, array in TRUTH.items()}
    result = segmented(folder, classes, shifted, tolerance=1.0, protocols=("surface_dice@2mm",))
    assert {score.protocol for score in result.scores} == {"surface_dice@1mm"}
    assert result.skipped == {}


def test_tables_of_paths_are_relative_to_themselves(folder, classes, write, scores):
    truth, said = folder("truth", TRUTH), folder("said", {"x": TRUTH["a"]})
    result = evaluate_masks(
        MaskInputs(
            references=truth,
            predictions=write("p.csv", ("id", "mask"), [["a", "said/x.nii.gz"]]),
            classes=classes,
            protocols=("dice@study",),
            resamples=0,
        )
    )
    assert said.is_dir()
    assert scores(result)["dice@study", "Dice: liver"] == pytest.approx(1 / 3)


def test_masks_of_another_shape_are_refused_by_name(folder, classes):
    small = {**TRUTH, "c": np.zeros((5, 5, 5), np.uint8)}
    with pytest.raises(InputError, match=r"c\.nii\.gz"):
        segmented(folder, classes, small)


def test_an_empty_folder_and_a_file_that_is_not_there_are_named(folder, classes, write, tmp_path):
    with pytest.raises(InputError, match="no mask in it"):
        segmented(folder, classes, {})
    table = write("p.csv", ("id", "mask"), [["a", "gone.nii.gz"]])
    with pytest.raises(InputError, match=r"row 2, column 'mask': there is no file"):
        evaluate_masks(MaskInputs(references=tmp_path / "truth", predictions=table))


def test_two_masks_are_one_study_whatever_their_names(folder, classes, scores):
    truth, said = folder("truth", {"a": mask()}), folder("said", {"z": mask()})
    result = evaluate_masks(
        MaskInputs(
            references=truth / "a.nii.gz",
            predictions=said / "z.nii.gz",
            classes=classes,
            resamples=0,
        )
    )
    assert result.ids == ("a",)
    assert scores(result)["dice@study", "Dice"] == 1


def test_some_classes_of_a_mask_are_scored_if_the_others_are_background(folder, tmp_path, scores):
    (tmp_path / "l.json").write_text(json.dumps({"liver": 1}))
    with pytest.raises(InputError, match=r"no class has: 2\. .*--others background"):
        segmented(folder, tmp_path / "l.json", TRUTH)
    result = evaluate_masks(
        MaskInputs(
            references=tmp_path / "truth",
            predictions=tmp_path / "said",
            classes=tmp_path / "l.json",
            others="background",
            resamples=0,
        )
    )
    assert {name for _, name in scores(result)} >= {"Dice", "Dice: liver"}
    assert ("dice@study", "Dice: liver_lesion") not in scores(result)
    assert result.about["others"] == "background"


def test_protocols_are_known_under_the_names_of_their_results(folder, classes):
    asked = ("surface_dice@3mm", "lesions@iou0.1")
    result = segmented(folder, classes, TRUTH, tolerance=3.0, lesion_iou=0.1, protocols=asked)
    assert {score.protocol for score in result.scores} == set(asked)


def test_a_protocol_with_a_number_needs_its_option(folder, classes):
    with pytest.raises(InputError, match="surface_dice@3mm needs --tolerance 3; it is 2"):
        segmented(folder, classes, TRUTH, protocols=("surface_dice@3mm",))


def test_a_lesion_that_is_no_class_is_refused(folder, classes):
    with pytest.raises(ConfigError, match=r"--lesions tumour: no such class.*liver, liver_lesion"):
        segmented(folder, classes, TRUTH, lesions=("tumour",))


def test_empty_masks_are_said_to_be_empty(folder, classes):
    empty = {key: array * 0 for key, array in TRUTH.items()}
    result = evaluate_masks(
        MaskInputs(
            references=folder("truth", empty),
            predictions=folder("said", empty),
            classes=classes,
            resamples=0,
        )
    )
    assert result.skipped["hd95@diagonal"] == "no mask has a voxel"


def test_the_masks_of_a_folder_are_marked(folder, classes):
    result = segmented(folder, classes, TRUTH)
    assert result.about["references"].startswith("truth (folder of 3, ")
    truth_mark, said_mark = (
        result.about[side].rsplit(", ")[1] for side in ("references", "predictions")
    )
    assert truth_mark == said_mark

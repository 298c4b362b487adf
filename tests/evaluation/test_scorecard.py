"""The table, the Markdown and the JSON hold the same numbers; nothing absent is made up."""

import json

import numpy as np
import pytest

from uvlm.evaluation.labels.classification import classification_scores
from uvlm.evaluation.masks.segmentation import segmentation_scores
from uvlm.evaluation.reports import report_scores
from uvlm.evaluation.scorecard import Scorecard

NAN = float("nan")
SEGMENTATION = segmentation_scores(
    [
        {"heart": 0.9, "aorta": 0.5, "lung_nodule": NAN, "spleen": NAN},
        {"heart": 0.7, "aorta": 0.6, "lung_nodule": 0.2, "spleen": NAN},
    ],
    [{"heart": 500.0, "aorta": 90.0, "lung_nodule": 0.0}, {"heart": 700.0, "lung_nodule": 150.0}],
    ["Lung nodule", "Cardiomegaly"],
)
TRAINING = ["no effusion is seen today", "the lungs are clear", "a 4 mm nodule on the left side"]
REFERENCES = ["the lungs are clear and normal", "a 5 mm nodule on the right side", "no effusion"]
GENERATED = ["the lungs are clear and normal", "a 5 mm nodule on the left side", "no  effusion"]


def reports(generated=GENERATED):
    return report_scores(REFERENCES, generated, TRAINING, ["p1", "p2", "p3"])


def card():
    labels = classification_scores(
        np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0.1, 0.9], [0.8, 0.9]]), ["a", "b"]
    )
    about = {"bundle": "demo", "studies": 3}
    return Scorecard(
        about=about, segmentation=SEGMENTATION, classification=labels, reports=reports()
    )


def test_a_lesion_is_a_class_named_like_a_label_in_any_spelling():
    kinds = {row.name: row.kind for row in SEGMENTATION.classes}
    assert kinds == {"heart": "organ", "aorta": "organ", "spleen": "organ", "lung_nodule": "lesion"}


def test_only_organs_of_enough_volume_are_large():
    assert [row.name for row in SEGMENTATION.classes if row.large] == ["heart"]
    assert SEGMENTATION.large_organs == pytest.approx(0.8)


def test_a_class_seen_in_no_study_has_no_score_and_enters_no_mean():
    spleen = next(row for row in SEGMENTATION.classes if row.name == "spleen")
    assert np.isnan(spleen.dice)
    assert spleen.studies == 0
    assert SEGMENTATION.organs == pytest.approx((0.8 + 0.55) / 2)
    assert SEGMENTATION.lesions == pytest.approx(0.2)


def test_a_model_that_reads_the_image_beats_both_floors():
    for floor in reports().floors:
        assert floor.gain.difference > 0
        assert floor.gain.low > 0


def test_the_constant_floor_has_no_gain_over_itself():
    training = [REFERENCES[0]]
    scores = report_scores(REFERENCES, training * 3, training, ["p1", "p2", "p3"])
    assert (scores.floors[0].gain.low, scores.floors[0].gain.high) == (0.0, 0.0)


def test_a_model_that_writes_one_report_for_all_is_counted():
    assert reports(["the lungs are clear"] * 3).identical == 3
    assert reports().identical == 0


def test_json_markdown_and_text_hold_the_same_numbers():
    scorecard = card()
    values = json.loads(json.dumps(scorecard.to_dict(), allow_nan=False))
    for number in (
        values["segmentation"]["large_organs"],
        values["classification"]["macro_auroc"],
        values["reports"]["model"]["BLEU-mean"],
        values["reports"]["floors"]["random report"]["BLEU-4"],
    ):
        assert f"{number:.3f}" in scorecard.text()
        assert f"{number:.3f}" in scorecard.markdown()


def test_a_score_that_does_not_exist_is_null_in_json_and_a_dash_in_the_table():
    classes = {row["name"]: row for row in card().to_dict()["segmentation"]["classes"]}
    assert classes["spleen"]["dice"] is None
    (line,) = [line for line in card().text().splitlines() if line.startswith("spleen")]
    assert line.split()[2] == "-"


def test_a_label_that_could_not_be_scored_is_named():
    assert "Not scored, one value only: b." in card().text()


def test_a_part_that_the_bundle_lacks_has_no_table():
    text = Scorecard(about={"studies": 3}, reports=reports()).text()
    assert "BLEU-mean" in text
    assert "Dice" not in text
    assert "AUROC" not in text


def test_every_line_of_a_text_table_is_aligned():
    block = card().text().split("\n\n")[0].splitlines()
    assert len({len(line) for line in block[1:]}) <= 2
    assert block[2].replace(" ", "").strip("-") == ""

"""Systems are tested against each other on the same draws only; what is published stays apart."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.systems import IDS, PATIENTS, VALUES, measures
from uvlm.errors import InputError
from uvlm.evaluation.compare import NO_TEST, comparison
from uvlm.evaluation.intervals import draws_of, paired_difference, patient_weights
from uvlm.evaluation.measure import mean_measure
from uvlm.evaluation.published import MARK, published_rows
from uvlm.evaluation.result_files import read_result, write_result
from uvlm.evaluation.results import build_result
from uvlm.registry import CT_RATE_LABELS


def test_differences_are_those_of_the_same_resamples(stored):
    other = np.clip(VALUES + 0.1, 0, 1)
    found = comparison([stored("a"), stored("b", other)], ["A", "B"])
    pair = next(p for p in found.paired if p.name == "BLEU-mean")
    weights = patient_weights(PATIENTS)
    draws = [draws_of(m[1], weights)[:, 0] for m in (measures(other), measures(VALUES))]
    means = other[:, 1].mean(), VALUES[:, 1].mean()
    assert pair.difference == paired_difference(means, (draws[0], draws[1]))
    assert (pair.system, pair.against) == ("B", "A")
    assert pair.difference.low > 0
    assert pair.difference.p_value < 0.01


def test_a_system_against_itself_has_no_difference(stored):
    found = comparison([stored("a"), stored("b")], ["A", "B"])
    for pair in found.paired:
        assert (pair.difference.difference, pair.difference.low) == (0, 0)
        assert pair.difference.p_value == 1


def test_each_is_compared_with_the_first(stored):
    found = comparison([stored("a"), stored("b"), stored("c", VALUES / 2)], ["A", "B", "C"])
    assert [(p.name, p.system) for p in found.paired] == [
        ("F1", "B"),
        ("F1", "C"),
        ("BLEU-mean", "B"),
        ("BLEU-mean", "C"),
    ]
    assert found.table.header == (
        "protocol", "score", "A", "B", "C", "B minus A", "p", "C minus A", "p",
    )  # fmt: skip
    assert {len(row) for row in found.table.rows} == {9}


def test_the_order_of_studies_does_not_prevent_a_test(stored):
    turned = stored("b", VALUES[::-1], IDS[::-1], PATIENTS[::-1])
    found = comparison([stored("a"), turned], ["A", "B"])
    assert all(pair.reason == "" for pair in found.paired)
    assert found.paired[0].difference.difference == pytest.approx(0)
    assert found.paired[0].difference.low == pytest.approx(0)


LABELLED = {
    "region": "chest",
    "labeller": "rules@chest18",
    "class_names": ", ".join(CT_RATE_LABELS),
    "truth_from": "reports",
    "predictions_from": "reports",
}


@pytest.mark.parametrize(
    ("change", "reason", "single"),
    [
        ({"class_names": "Emphysema, Atelectasis"}, "other classes", True),
        ({"labeller": "radbert"}, "other labeller", False),
        ({"truth_from": "labels", "labels": "x.csv (12)"}, "other source of the true", False),
        ({"labels": "x.csv (12)"}, "other file of labels", False),
        ({"predictions_from": "labels"}, "other source of the predicted", False),
    ],
)
def test_scores_of_another_kind_are_not_tested_and_it_is_said(stored, change, reason, single):
    results = [stored("a", about=LABELLED), stored("b", about=LABELLED | change)]
    found = comparison(results, ["A", "B"], by_class=True)
    tested = {pair.name: pair.difference is not None for pair in found.paired}
    # Words know no labels; a class alone is the same whatever the others are.
    assert tested == {"F1": False, "F1: Lung nodule": single, "BLEU-mean": True}
    assert found.paired[0].reason.startswith(reason)
    assert f"B and A are not comparable in ce_f1@vlm3d-macro18, {reason}" in found.text()


def test_the_order_of_classes_does_not_prevent_a_test(stored):
    turned = LABELLED | {"class_names": ", ".join(reversed(CT_RATE_LABELS))}
    results = [stored("a", about=LABELLED), stored("b", about=turned)]
    assert all(pair.difference for pair in comparison(results, ["A", "B"]).paired)


def test_every_score_of_a_classifier_is_over_its_classes(stored):
    abouts = [{"class_names": names} for names in ("Emphysema, Atelectasis", "Emphysema")]
    results = [stored(n, task="cls", about=a) for n, a in zip("ab", abouts, strict=True)]
    found = comparison(results, ["A", "B"])
    assert {pair.reason for pair in found.paired} == {"other classes, no test"}
    assert "1 (Emphysema) against 2 (Atelectasis, Emphysema)" in found.markdown()
    assert "p-values" not in found.text()


@pytest.mark.parametrize(
    ("task", "protocol", "key", "tested"),
    [
        ("detect", "detect@reports", "truth_from", False),
        ("seg", "surface_dice@2mm", "tolerance_mm", False),
        ("seg", "dice@study", "tolerance_mm", True),
        ("seg", "lesions@any-voxel", "lesion_iou", False),
        ("retrieval", "v2v@jaccard", "labels", False),
        ("retrieval", "retrieval@paired", "labels", True),
        ("vqa", "vqa@exact", "labels", True),
    ],
)
def test_settings_of_other_tasks_count_where_they_bear(tmp_path, task, protocol, key, tested):
    results = []
    for name in "ab":
        own = [mean_measure(protocol, ("X",), VALUES[:, :1])]
        result = build_result(
            task=task, ids=IDS, patients=PATIENTS, measures=own, about={key: name}
        )
        write_result(result, tmp_path / name)
        results.append(read_result(tmp_path / name))
    (pair,) = comparison(results, ["A", "B"]).paired
    assert (pair.difference is not None) is tested


def test_notes_of_the_protocols_are_carried_along(tmp_path):
    results = []
    for name in "ab":
        own = mean_measure("ce_f1@micro", ("F1",), VALUES[:, :1])
        own = replace(own, notes=("Both say so.", f"Only {name} says so."))
        hidden = replace(mean_measure(f"x@{name}", ("X",), VALUES[:, :1]), notes=("Not shown.",))
        result = build_result(task="report", ids=IDS, patients=PATIENTS, measures=[own, hidden])
        write_result(result, tmp_path / name)
        results.append(read_result(tmp_path / name))
    notes = comparison(results, ["A", "B"]).to_dict()["notes"]
    assert notes[-3:] == [
        "ce_f1@micro (A, B): Both say so.",
        "ce_f1@micro (A): Only a says so.",
        "ce_f1@micro (B): Only b says so.",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": [f"t{i}" for i in range(40)]}, NO_TEST),
        ({"patients": IDS}, NO_TEST),
        ({"seed": 1}, "other seed"),
        ({"resamples": 500}, "other seed or number of resamples"),
    ],
)
def test_other_studies_patients_or_draws_are_not_tested_and_it_is_said(stored, change, reason):
    found = comparison([stored("a"), stored("b", **change)], ["A", "B"])
    assert all(pair.difference is None for pair in found.paired)
    assert all(pair.reason.startswith(reason) for pair in found.paired)
    assert reason in found.text()
    assert f"B and A: {reason}" in found.markdown()
    assert "p-values" not in found.text()


def test_a_score_without_interval_is_not_tested(stored):
    results = [stored("a"), stored("b", VALUES / 2)]
    scores = tuple(replace(s, low=math.nan, high=math.nan) for s in results[1].scores)
    found = comparison([results[0], replace(results[1], scores=scores)], ["A", "B"])
    assert {pair.reason for pair in found.paired} == {"no interval, no test"}
    assert found.to_dict()["differences"][0]["difference"] is None


def test_one_patient_has_no_resamples_and_no_test(stored):
    alone = {"patients": ["p"] * 40}
    found = comparison([stored("a", **alone), stored("b", **alone)], ["A", "B"])
    assert {pair.reason for pair in found.paired} == {"no resamples, no test"}


def test_single_classes_are_shown_if_asked_for(stored):
    results = [stored("a"), stored("b")]
    assert "Lung nodule" not in comparison(results, ["A", "B"]).text()
    assert "F1: Lung nodule" in comparison(results, ["A", "B"], by_class=True).text()


def test_scores_that_one_lacks_are_left_out(stored, tmp_path):
    result = build_result(task="report", ids=IDS, patients=PATIENTS, measures=measures(VALUES)[1:])
    write_result(result, tmp_path / "c")
    found = comparison([stored("a"), read_result(tmp_path / "c")], ["A", "C"])
    assert [row[:2] for row in found.table.rows] == [("bleu@vlm3d", "BLEU-mean")]


def test_other_reference_files_are_said(stored):
    results = [stored(n, about={"references": f"{n}.csv (123)"}) for n in "ab"]
    found = comparison(results, ["A", "B"])
    assert "different files of references: b.csv (123) and a.csv (123)" in found.text()
    assert found.paired[0].difference is not None


def test_it_is_written_as_json_and_as_a_page(stored):
    rows = published_rows("report", "CT-RATE")
    other = VALUES.copy()
    other[:, 1] = np.nan
    found = comparison([stored("a"), stored("b", other)], ["A", "<B>"], rows)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [(s["system"], s["name"]) for s in content["scores"]] == [
        ("A", "F1"),
        ("A", "BLEU-mean"),
        ("<B>", "F1"),
        ("<B>", "BLEU-mean"),
    ]
    assert content["scores"][3]["value"] is None
    assert content["differences"][0]["difference"] == 0
    assert content["differences"][1]["difference"] is None
    assert {row["mark"] for row in content["published"]} == {MARK}
    html = found.html()
    assert "<svg" in html
    assert "&lt;B&gt; minus A" in html
    assert "<B>" not in html


def test_what_cannot_be_compared_is_refused(stored, tmp_path):
    one = stored("a")
    with pytest.raises(InputError, match="1 results to compare; give at least two"):
        comparison([one], ["A"])
    with pytest.raises(InputError, match="0 results"):
        comparison([], [], published_rows())
    with pytest.raises(InputError, match="2 results need as many different names, got: A, A"):
        comparison([one, one], ["A", "A"])
    other = stored("b", task="cls")
    with pytest.raises(InputError, match="is of task cls") as error:
        comparison([one, other], ["A", "B"])
    assert str(Path("b")) in str(error.value)
    result = build_result(
        task="report",
        ids=IDS,
        patients=PATIENTS,
        measures=[mean_measure("x@y", ("X",), VALUES[:, :1])],
    )
    write_result(result, tmp_path / "x")
    with pytest.raises(InputError, match="no score in common"):
        comparison([one, read_result(tmp_path / "x")], ["A", "X"])
